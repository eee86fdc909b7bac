"""Statements: all that the ledger holds of one participant, line by line, with a running balance, in whole units.

A statement follows from the ledger's entries alone, so whoever has the ledger can write it again, and its last balance
is the ledger's own. An account that was closed keeps its statement.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ipfl.errors import LedgerError
from ipfl.ledger.amounts import decimal_text
from ipfl.ledger.entries import GENESIS, Entry

OPENED, CLOSED, BOUGHT, SOLD, REVERSED = "opened", "closed", "bought", "sold", "reversed"
COLUMNS = (
    "round_index", "side", "with", "num_examples", "distance", "amount", "balance",
    "price", "export_cost", "subsidy", "entry", "hash",
)  # fmt: skip
"""Of statement.csv."""
HASH_SHOWN = 16
_NAMED = 20
"""Participants that an error lists by name."""


@dataclass(frozen=True)
class Line:
    """One line of a statement; money in units.

    Attributes:
      side: bought, sold, reversed (an earlier line was undone), opened or closed (the account).
      other: with whom; None where the account was opened or closed.
      num_examples: behind the model that was traded.
      amount: what it received, below zero what it paid.
      balance: after this line.
      price: what the seller received; `export_cost` is the seller's, the rest of the price its premium.
      subsidy: what the operator paid of the price.
      entry, hash: where the ledger has it.
      about: what there is to say of a line that is no trade.
    """

    round_index: int
    side: str
    other: str | None
    num_examples: int | None
    distance: float | None
    amount: int
    balance: int
    price: int | None
    export_cost: int | None
    subsidy: int | None
    entry: int
    hash: str
    about: str = ""


class Privacy(NamedTuple):
    """What private training has cost a participant by the newest round: its steps, and epsilon at a delta."""

    steps: int
    epsilon: float
    delta: float


@dataclass(frozen=True)
class Statement:
    """A participant's account; `paid` and `received` in units, less what reversals gave back.

    `is_open`: whether the account is open by now. `rounds`: how many the ledger has. `head`: number and hash of its
    newest entry. `privacy`: None where training was not private.
    """

    run: str
    participant_id: str
    is_open: bool
    lines: tuple[Line, ...]
    paid: int
    received: int
    rounds: int
    head: tuple[int, str]
    privacy: Privacy | None = None

    @property
    def balance(self) -> int:
        """What it received less what it paid."""
        return self.received - self.paid


def statement(entries: Iterable[Entry], participant_id: str) -> Statement:
    """The statement of one participant.

    Args:
      entries: all of a ledger, in order.
      participant_id: whose.
    Raises:
      LedgerError: nobody of that name ever joined; lists who did.
    """
    members: dict[str, None] = {}
    found = _statements(entries, {participant_id}, members)
    if participant_id not in members:
        raise LedgerError(
            f"the ledger has no participant {participant_id!r}; it has {_listed(list(members))}"
        )
    return found[participant_id]


def statements(entries: Iterable[Entry]) -> dict[str, Statement]:
    """The statements of everybody that ever joined, in that order, from one pass over the entries."""
    members: dict[str, None] = {}
    found = _statements(entries, None, members)
    return {name: found[name] for name in members}


def csv_text(statement: Statement) -> str:
    """A statement as statement.csv has it: amounts in credits, as exact decimals; empty where there is nothing to say.

    >>> print(csv_text(Statement("", "a", True, (), 0, 0, 0, (0, ""))), end="")
    round_index,side,with,num_examples,distance,amount,balance,price,export_cost,subsidy,entry,hash
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in statement.lines:
        parts = (line.price, line.export_cost, line.subsidy)
        writer.writerow(
            (
                line.round_index,
                line.side,
                line.other,
                line.num_examples,
                line.distance,
                decimal_text(line.amount),
                decimal_text(line.balance),
                *("" if part is None else decimal_text(part) for part in parts),
                line.entry,
                line.hash[:HASH_SHOWN],
            )
        )
    return buffer.getvalue()


def _statements(
    entries: Iterable[Entry], only: Collection[str] | None, members: dict[str, None]
) -> dict[str, Statement]:
    """Statements of `only`, or of all; `members` takes the names of those who ever joined."""
    accounts: dict[str, _Account] = {}
    concerned: dict[str, tuple[str, ...]] = {}
    run, rounds, head = "", 0, (0, GENESIS)
    private: Mapping[str, Any] = {}
    for entry in entries:
        head = (entry.seq, entry.hash)
        if entry.kind == "round":
            rounds, private = rounds + 1, entry.terms.get("privacy", {})
        if entry.kind == "open":
            run = str(entry.terms.get("run", ""))
        if entry.account is not None:
            members.setdefault(entry.account)
        names = _concerned(entry, concerned)
        if entry.kind in ("sale", "reversal"):
            concerned[entry.key] = names
        for name in names:
            if only is None or name in only:
                accounts.setdefault(name, _Account(name)).add(entry)
    return {
        name: Statement(
            run,
            name,
            account.is_open,
            tuple(account.lines),
            account.paid,
            account.received,
            rounds,
            head,
            _privacy(private, name),
        )
        for name, account in accounts.items()
    }


def _privacy(told: Mapping[str, Any], name: str) -> Privacy | None:
    spent = told.get("participants", {}).get(name)
    return (
        None if spent is None else Privacy(int(spent["steps"]), float(spent["epsilon"]), float(told["delta"]))
    )


def _concerned(entry: Entry, earlier: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Whose statements have a line for an entry: a model may change hands for nothing, so postings alone do not say."""
    names: list[str | None] = [entry.account, *(name for name, _ in entry.postings)]
    if entry.kind == "sale":
        names += [entry.terms.get("buyer"), entry.terms.get("seller")]
    if entry.kind == "reversal":
        names += earlier.get(str(entry.terms.get("of")), ())
    return tuple(dict.fromkeys(name for name in names if name is not None))


class _Account:
    """A statement that is being written."""

    def __init__(self, name: str):
        self.name, self.is_open, self.paid, self.received = name, False, 0, 0
        self.lines: list[Line] = []
        self._kept: dict[str, tuple[Line, bool]] = {}

    def add(self, entry: Entry) -> None:
        """One more line."""
        if entry.account == self.name:
            self._membership(entry)
        elif entry.kind == "sale" and self.name in (entry.terms.get("buyer"), entry.terms.get("seller")):
            self._trade(entry)
        else:
            self._reversal(entry)

    def _membership(self, entry: Entry) -> None:
        self.is_open = entry.kind == "join"
        side = OPENED if self.is_open else CLOSED
        by = entry.terms.get("by")
        about = f"before round {entry.round_index}" + (f" ({by})" if by else "")
        self._write(entry, side, 0, about=about)

    def _trade(self, entry: Entry) -> None:
        terms, amount = entry.terms, dict(entry.postings).get(self.name, 0)
        bought = terms["buyer"] == self.name
        self._count(amount, bought)
        price, charge = terms.get("price"), terms.get("charge")
        line = self._write(
            entry,
            BOUGHT if bought else SOLD,
            amount,
            other=terms.get("seller" if bought else "buyer"),
            num_examples=terms.get("seller_num_examples"),
            distance=terms.get("distance"),
            price=price,
            export_cost=terms.get("export_cost"),
            subsidy=None if price is None or charge is None else price - charge,
        )
        self._kept[entry.key] = line, bought

    def _reversal(self, entry: Entry) -> None:
        amount, of = dict(entry.postings).get(self.name, 0), str(entry.terms.get("of", ""))
        undone, bought = self._kept.get(of, (None, amount < 0))
        self._count(amount, bought)
        reason = entry.terms.get("reason")
        about = f"undoes entry {undone.entry}" if undone else f"a {entry.kind}"
        line = self._write(
            entry,
            REVERSED,
            amount,
            other=undone.other if undone else None,
            num_examples=undone.num_examples if undone else None,
            distance=undone.distance if undone else None,
            about=f"{about}: {reason}" if reason else about,
        )
        self._kept[entry.key] = line, bought

    def _count(self, amount: int, bought: bool) -> None:
        if bought:
            self.paid -= amount
        else:
            self.received += amount

    def _write(
        self,
        entry: Entry,
        side: str,
        amount: int,
        *,
        other: str | None = None,
        num_examples: int | None = None,
        distance: float | None = None,
        price: int | None = None,
        export_cost: int | None = None,
        subsidy: int | None = None,
        about: str = "",
    ) -> Line:
        line = Line(
            entry.round_index, side, other, num_examples, distance, amount, self.received - self.paid,
            price, export_cost, subsidy, entry.seq, entry.hash, about,
        )  # fmt: skip
        self.lines.append(line)
        return line


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")

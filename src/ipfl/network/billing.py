"""Bills: what the operator tells each participant of a round's money.

A bill is told from the ledger alone, so a bill told again after a crash is the same. It holds the operator's signed
receipt, the participant's own trades, and, for what it bought, what was on offer to it: each seller's size, export cost
and distance, without names but for those it bought from. With that the participant solves its own problem again
(`bill_check`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ipfl.ledger import Entry, Ledger, OperatorKey
from ipfl.ledger.prices import matrix_of
from ipfl.ledger.receipts import Receipt
from ipfl.market.curve_text import parse_curve
from ipfl.types import OPERATOR
from ipfl.types.market import GainCurve
from ipfl.upkeep.books import add_up

RECEIPT_FIELDS = tuple(Receipt.__annotations__)
ANOTHER = "another"
ROOM = 4 << 20
"""Letters of bills that one message takes; a message has room for four times as many bytes of text."""


class Start(NamedTuple):
    """Where reading the ledger begins: behind an entry, with everybody's balances there."""

    seq: int = 0
    balances: Mapping[str, int] = {}


BEGINNING = Start()


def bills_of(ledger: Ledger, key: OperatorKey, run: str, after: int) -> dict[str, list[dict[str, Any]]]:
    """Everybody's bills of the rounds after `after`, oldest first, by participant.

    Args:
      ledger: of the run, open.
      key: the operator's.
      run: the run's digest.
      after: the last round that is left out; -1: none.
    """
    bills: dict[str, list[dict[str, Any]]] = {}
    for billed in rounds_from(ledger, BEGINNING):
        if billed.round_index > after:
            for name in billed.balances:
                bills.setdefault(name, []).append(billed.bill(name, key, run))
    return bills


def rounds_from(ledger: Ledger, start: Start, until: int | None = None) -> "Iterator[BilledRound]":
    """The rounds that are booked behind a place, oldest first, up to the entry `until` (None: all)."""
    balances = dict(start.balances)
    trades: list[Entry] = []
    last = ledger.head()[0] if until is None else until
    for entry in ledger.entries("WHERE seq > ? AND seq <= ?", start.seq, last):
        add_up(balances, entry)
        if entry.kind in ("sale", "reversal"):
            trades.append(entry)
        elif entry.kind == "round":
            people = {name: units for name, units in balances.items() if name != OPERATOR}
            yield BilledRound(ledger, entry, trades, people, Start(entry.seq, dict(balances)))
            trades = []


class BilledRound:
    """A round as the ledger has it: what a participant's bill of it is made of, when it is asked for.

    Attributes:
      round_index: which round.
      balances: of all participants after it, in units.
      end: where reading goes on behind it.
    """

    def __init__(
        self, ledger: Ledger, seal: Entry, trades: Sequence[Entry], balances: Mapping[str, int], end: Start
    ):
        self._ledger, self._seal = ledger, seal
        self.round_index, self.balances, self.end = seal.round_index, balances, end
        self._lines: dict[str, list[dict[str, Any]]] = {}
        for trade in trades:
            for owner, amount in [*trade.postings, *_unpaid(trade)]:
                line = {"key": trade.key, "amount": amount, "terms": dict(trade.terms)}
                self._lines.setdefault(owner, []).append(line)

    def bill(self, name: str, key: OperatorKey, run: str) -> dict[str, Any]:
        """The bill of a participant that had an account by then."""
        seal, lines = self._seal, self._lines.get(name, [])
        balance = {name: self.balances[name]}
        (receipt,) = key.receipts(run, seal.round_index, (seal.seq, seal.hash), balance)
        bought = {line["terms"]["seller"] for line in lines if line["terms"].get("buyer") == name}
        return {
            "round_index": seal.round_index,
            "receipt": {field: getattr(receipt, field) for field in RECEIPT_FIELDS},
            "lines": lines,
            "offers": self._offers.to(name, bought) if self._offers else None,
            "privacy": seal.terms.get("privacy", {}).get("participants", {}).get(name),
        }

    @cached_property
    def _offers(self) -> "_Offers | None":
        return _Offers.of(self._ledger, self._seal.terms)


def that_fit(bills: Sequence[Mapping[str, Any]], room: int = ROOM) -> list[dict[str, Any]]:
    """The oldest bills that one message has room for, at least one; those who have been away for long are owed more."""
    told: list[dict[str, Any]] = []
    used = 0
    for bill in bills:
        used += len(json.dumps(bill, ensure_ascii=False))
        if told and used > room:
            break
        told.append(dict(bill))
    return told


def _unpaid(trade: Any) -> list[tuple[str, int]]:
    """The sides of a sale for which no money moved: they have a line all the same."""
    if trade.kind != "sale":
        return []
    moved = {name for name, _ in trade.postings}
    return [(name, 0) for name in (trade.terms["buyer"], trade.terms["seller"]) if name not in moved]


@dataclass(frozen=True, eq=False)
class _Offers:
    """What a round's prices were reckoned from."""

    rows: Sequence[Mapping[str, Any]]
    distance: Any
    present: Sequence[str]

    @classmethod
    def of(cls, ledger: Ledger, terms: Mapping[str, Any]) -> "_Offers | None":
        if "bids" not in terms:
            return None
        rows = json.loads(ledger.attachment(terms["bids"]))
        return cls(rows, matrix_of(ledger.attachment(terms["distances"])), terms["present"])

    def to(self, buyer: str, bought: set[str]) -> dict[str, Any] | None:
        """The buyer's own problem: who is present, in order, itself among them; None if it was not there."""
        if buyer not in self.present:
            return None
        ids = [row["participant_id"] for row in self.rows]
        here = [ids.index(name) for name in self.present]
        me = ids.index(buyer)
        own = self.distance[me] if isinstance(self.distance, np.ndarray) else None
        apart = self.distance[[me], :].toarray()[0] if own is None else own
        stored = None if own is not None else set(self.distance[[me], :].indices.tolist())
        sellers = []
        for index in here:
            if index == me:
                continue
            row = self.rows[index]
            on_offer = np.isfinite(apart[index]) and (stored is None or index in stored)
            sellers.append(
                {
                    "name": row["participant_id"] if row["participant_id"] in bought else ANOTHER,
                    "num_examples": row["num_examples"],
                    "export_cost": row["export_cost"],
                    "distance": float(apart[index]) if on_offer else None,
                }
            )
        return {"place": here.index(me), "sellers": sellers}


def receipt_of(bill: Mapping[str, Any]) -> Receipt:
    """The signed receipt in a bill."""
    return Receipt(**{field: bill["receipt"][field] for field in RECEIPT_FIELDS})


def curve_of(text: str | None) -> GainCurve | None:
    """A gain curve from its text; None is the square root."""
    return None if text is None else parse_curve(text)

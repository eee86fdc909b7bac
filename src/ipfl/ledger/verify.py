"""Verification: everything that a ledger says of itself, computed again from its entries alone.

Found: any change of an entry, a posting, an attachment, a table or a trigger; entries that do not add up; sales that
the rules do not lead to, lacking sales, prices off by a unit. Found with a receipt: a ledger cut off before it, and one
of two histories. Not found without one: a ledger whose newest entries were taken away, or written anew as a whole.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ipfl.errors import LedgerError
from ipfl.ledger.booking import round_key, sale, sale_key
from ipfl.ledger.entries import GENESIS, Draft, Entry, chained, text_of
from ipfl.ledger.prices import VERSION, Priced, computed_again
from ipfl.ledger.receipts import Receipt
from ipfl.ledger.schema import STATEMENTS
from ipfl.ledger.store import Ledger
from ipfl.types import OPERATOR

SHOWN = 20
"""Faults of one kind that are spelt out; of the rest their number."""


class Fault(NamedTuple):
    """Something that should not be so: which law it breaks, and where."""

    law: str
    sentence: str


@dataclass(frozen=True)
class Verification:
    """What was looked at and what was found."""

    run: str
    entries: int
    rounds: int
    sales: int
    prices: int
    receipts: int
    head: tuple[int, str]
    balances: dict[str, int]
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


def verify(
    ledger: Ledger,
    receipts: Sequence[Receipt] = (),
    key: str | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compute chain, sums, balances and every price again, and hold receipts against them.

    Args:
      ledger: open.
      receipts: kept by participants.
      key: the operator's public key (hexadecimal) that receipts must be signed with; None: any one key.
      tell: hears how many rounds of how many have their prices computed.
    Raises:
      LedgerError: the file cannot be read at all.
    """
    entries = list(ledger.entries())
    rounds = [entry for entry in entries if entry.kind == "round"]
    run = str(entries[0].terms.get("run", "")) if entries else ""
    faults = [Fault("tables", sentence) for sentence in _tables(ledger)]
    faults += [Fault("chain", sentence) for sentence in _chain(entries)]
    faults += [Fault("balance", sentence) for sentence in _sums(entries)]
    faults += [Fault("accounts", sentence) for sentence in _accounts(entries)]
    faults += [Fault("reversals", sentence) for sentence in _reversals(entries)]
    by_round: dict[int, dict[str, Entry]] = {}
    for entry in entries:
        if entry.kind == "sale":
            by_round.setdefault(entry.round_index, {})[entry.key] = entry
    faults += [Fault("rounds", sentence) for sentence in _rounds(rounds, by_round)]
    faults += [Fault("rounds", sentence) for sentence in _rules(entries, rounds)]
    faults += [Fault("privacy", sentence) for sentence in _privacy(rounds)]
    checked = 0
    for done, seal in enumerate(rounds, 1):
        count, wrong = _prices(ledger, seal, by_round.get(seal.round_index, {}))
        checked += count
        faults += [Fault("prices", sentence) for sentence in wrong]
        if tell is not None:
            tell(done, len(rounds))
    faults += [Fault("receipts", sentence) for sentence in _receipts(entries, run, receipts, key)]
    return Verification(
        run=run,
        entries=len(entries),
        rounds=len(rounds),
        sales=sum(len(sales) for sales in by_round.values()),
        prices=checked,
        receipts=len(receipts),
        head=(entries[-1].seq, entries[-1].hash) if entries else (0, GENESIS),
        balances=balances_of(entries),
        faults=tuple(faults),
    )


def balances_of(entries: Iterable[Entry]) -> dict[str, int]:
    """Each account's balance in units, by the entries."""
    balances: dict[str, int] = {}
    for entry in entries:
        if entry.account is not None:
            balances.setdefault(entry.account, 0)
        for name, amount in entry.postings:
            balances[name] = balances.get(name, 0) + amount
    return balances


def _tables(ledger: Ledger) -> list[str]:
    wanted, found = set(STATEMENTS), set(ledger.statements())
    names = [_named(sql) for sql in sorted(wanted - found)]
    faults = [f"the ledger's {name} is gone or was changed" for name in names]
    faults += [f"the ledger has a {_named(sql)} that is not its own" for sql in sorted(found - wanted)]
    return faults + ledger.faults()


def _named(sql: str) -> str:
    kind, name, *_ = [*sql.split()[1:3], "", ""]
    return f"{kind.lower()} {name}"


def _chain(entries: Sequence[Entry]) -> list[str]:
    faults, prev = [], GENESIS
    for place, entry in enumerate(entries, 1):
        if entry.seq != place:
            faults.append(f"entry {place} is missing: the next one has number {entry.seq}")
            break
        if entry.prev != prev:
            faults.append(f"entry {entry.seq} ({entry.key}) is not chained to the one before it")
        parts = (entry.key, entry.kind, entry.round_index, entry.terms, entry.postings, entry.account)
        if entry.hash != chained(entry.prev, text_of(entry.seq, _unchecked(*parts))):
            faults.append(
                f"entry {entry.seq} ({entry.key}) was changed after it was booked: its hash does not fit"
            )
        prev = entry.hash
    if entries and entries[0].kind != "open":
        faults.append("the first entry does not open a run")
    return _some(faults)


def _unchecked(*parts: object) -> Draft:
    """A draft whatever its content: what was tampered with must be hashed too."""
    draft = object.__new__(Draft)
    for name, part in zip(("key", "kind", "round_index", "terms", "postings", "account"), parts, strict=True):
        object.__setattr__(draft, name, part)
    return draft


def _sums(entries: Sequence[Entry]) -> list[str]:
    faults = [
        f"entry {entry.seq} ({entry.key}) adds up to {sum(amount for _, amount in entry.postings)} units, not 0"
        for entry in entries
        if sum(amount for _, amount in entry.postings) != 0
    ]
    total = sum(balances_of(entries).values())
    if total != 0:
        faults.append(f"all balances add up to {total} units, not 0")
    idle = [entry for entry in entries if entry.postings and entry.kind not in ("sale", "reversal")]
    faults += [f"entry {entry.seq} ({entry.key}) moves money, and is no sale" for entry in idle]
    return _some(faults)


def _accounts(entries: Sequence[Entry]) -> list[str]:
    faults, status = [], dict[str, str]()
    for entry in entries:
        if entry.account is not None:
            if status.get(entry.account, "leave") == entry.kind:
                faults.append(f"entry {entry.seq}: {entry.account} cannot {entry.kind} twice in a row")
            status[entry.account] = entry.kind
        for name, _ in entry.postings:
            if name != OPERATOR and status.get(name) != "join":
                faults.append(f"entry {entry.seq} ({entry.key}) posts to {name}, whose account is not open")
    return _some(faults)


def _reversals(entries: Sequence[Entry]) -> list[str]:
    """A reversal undoes exactly one earlier entry; its key, which is there once, names that entry."""
    faults, earlier = [], dict[str, Entry]()
    for entry in entries:
        if entry.kind == "reversal":
            undone = earlier.get(entry.key.removeprefix("reversal/"))
            if undone is None or entry.terms.get("of") != undone.key:
                faults.append(f"entry {entry.seq} ({entry.key}) undoes no entry before it")
            elif sorted(entry.postings) != sorted((name, -amount) for name, amount in undone.postings):
                faults.append(
                    f"entry {entry.seq} ({entry.key}) moves something else than entry {undone.seq}, which it undoes"
                )
        earlier[entry.key] = entry
    return _some(faults)


def _rounds(rounds: Sequence[Entry], by_round: dict[int, dict[str, Entry]]) -> list[str]:
    faults = []
    for place, seal in enumerate(rounds):
        if seal.round_index != place or seal.key != round_key(place):
            faults.append(f"round {place} is not sealed: entry {seal.seq} seals round {seal.round_index}")
            break
        sales = by_round.get(place, {}).values()
        if len(sales) != seal.terms.get("sales"):
            faults.append(
                f"round {place} was sealed with {seal.terms.get('sales')} sales and has {len(sales)}"
            )
        late = [entry for entry in sales if entry.seq > seal.seq]
        faults += [f"entry {entry.seq} ({entry.key}) came after its round was sealed" for entry in late]
    sealed = {seal.round_index for seal in rounds}
    loose = sorted(set(by_round) - sealed)
    faults += [f"round {round_index} has sales and no seal" for round_index in loose]
    return _some(faults)


def _rules(entries: Sequence[Entry], rounds: Sequence[Entry]) -> list[str]:
    """Every round with a market keeps to the rules that the run was opened with."""
    opened = entries[0].terms if entries else {}
    return _some(
        [
            f"round {seal.round_index} has {name} = {seal.terms[name]}, the run was opened with {opened[name]}"
            for seal in rounds
            for name in ("lam", "allocation", "payment")
            if name in seal.terms and name in opened and seal.terms[name] != opened[name]
        ]
    )


def _privacy(rounds: Sequence[Entry]) -> list[str]:
    """Nobody's count of private steps, and so nobody's epsilon, ever falls."""
    faults, before = [], dict[str, tuple[int, float]]()
    for seal in rounds:
        told = seal.terms.get("privacy")
        if told is None and before:
            faults.append(f"round {seal.round_index} says nothing of privacy, and the round before it did")
            break
        try:
            spent = {} if told is None else told["participants"]
            now = {name: (int(one["steps"]), float(one["epsilon"])) for name, one in spent.items()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            faults.append(f"what round {seal.round_index} says of privacy cannot be read")
            break
        for name, was in before.items():
            if name not in now or now[name][0] < was[0] or now[name][1] < was[1]:
                fallen = f"to {now[name][1]:.6g}" if name in now else "to nothing"
                faults.append(
                    f"{name}'s epsilon falls from {was[1]:.6g} {fallen} in round {seal.round_index}"
                )
        before = now
    return _some(faults)


def _prices(ledger: Ledger, seal: Entry, sales: dict[str, Entry]) -> tuple[int, list[str]]:
    """How many prices were computed again, and what does not fit."""
    where = f"round {seal.round_index}"
    if "bids" not in seal.terms:
        return 0, [f"{where} has sales and no market"] if sales else []
    if seal.terms.get("version") != VERSION:
        version = seal.terms.get("version")
        return 0, [
            f"{where} was priced by version {version} of the rules, this ipfl knows {VERSION}: use the one that did"
        ]
    names = [str(seal.terms.get(part)) for part in ("bids", "distances")]
    try:
        again = computed_again(seal.terms, *(ledger.attachment(name) for name in names))
    except LedgerError as error:
        return 0, [f"{where}: {error}"]
    ruled = {sale_key(seal.round_index, purchase.buyer, purchase.seller): purchase for purchase in again}
    faults = []
    for key in sorted(ruled.keys() | sales.keys()):
        wrong = _difference(ruled.get(key), sales.get(key), seal.round_index)
        if wrong:
            faults.append(f"{where}: {wrong}")
    return len(again), _some(faults)


def _difference(purchase: Priced | None, entry: Entry | None, round_index: int) -> str | None:
    if purchase is None and entry is not None:
        return f"entry {entry.seq} ({entry.key}) is a sale that the rules do not lead to"
    if purchase is not None and entry is None:
        return f"the rules have {purchase.buyer} buy from {purchase.seller}, and no sale is booked"
    if purchase is None or entry is None:
        return None
    ruled = sale(round_index, purchase)
    booked, amounts = dict(entry.postings), dict(ruled.postings)
    for name in sorted(booked.keys() | amounts.keys()):
        if booked.get(name, 0) != amounts.get(name, 0):
            return (
                f"entry {entry.seq} ({entry.key}) posts {booked.get(name, 0)} units to {name}, "
                f"the rules lead to {amounts.get(name, 0)}"
            )
    for name in sorted(entry.terms.keys() | ruled.terms.keys()):
        if entry.terms.get(name) != ruled.terms.get(name):
            return (
                f"entry {entry.seq} ({entry.key}) records {name} = {entry.terms.get(name)}, "
                f"the round's market has {ruled.terms.get(name)}"
            )
    return None


def _receipts(entries: Sequence[Entry], run: str, receipts: Sequence[Receipt], key: str | None) -> list[str]:
    faults = []
    balances = _balances_at(entries, {receipt.seq for receipt in receipts})
    keys = sorted({receipt.key for receipt in receipts} | ({key} if key else set()))
    if len(keys) > 1:
        faults.append(
            f"the receipts are signed with {len(keys)} keys, expected one: {', '.join(k[:16] for k in keys)}"
        )
    for receipt in receipts:
        who = f"the receipt of {receipt.participant_id} for round {receipt.round_index}"
        if not receipt.genuine():
            faults.append(f"{who} has a false signature")
        elif receipt.run != run:
            faults.append(f"{who} belongs to another run ({receipt.run[:16]}...)")
        elif receipt.seq > len(entries):
            faults.append(
                f"{who} is about entry {receipt.seq}, and the ledger ends with {len(entries)}: it was cut off"
            )
        elif receipt.seq < 1 or entries[receipt.seq - 1].hash != receipt.head:
            faults.append(
                f"{who} knows another entry {receipt.seq}: the ledger was written anew, or there are two of them"
            )
        elif balances[receipt.seq].get(receipt.participant_id) != receipt.balance:
            faults.append(
                f"{who} states a balance of {receipt.balance} units, which the ledger does not have"
            )
    return _some(faults)


def _balances_at(entries: Sequence[Entry], places: set[int]) -> dict[int, dict[str, int]]:
    """Balances after some of the entries."""
    found, balances = dict[int, dict[str, int]](), dict[str, int]()
    for entry in entries:
        if entry.account is not None:
            balances.setdefault(entry.account, 0)
        for name, amount in entry.postings:
            balances[name] = balances.get(name, 0) + amount
        if entry.seq in places:
            found[entry.seq] = dict(balances)
    return found


def _some(faults: list[str]) -> list[str]:
    """The first faults, and how many more there are."""
    if len(faults) <= SHOWN:
        return faults
    return [*faults[:SHOWN], f"and {len(faults) - SHOWN} more of the kind"]

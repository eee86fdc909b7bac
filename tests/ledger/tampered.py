"""A sound ledger to tamper with, ways to do so, and what verification then says."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ipfl.ledger import Draft, Entry, Ledger, OperatorKey, Receipt, Verification, verify
from ledger.rounds import NEVER_CHANGED, RUN, book, booking, new_ledger, record, rewrite

KEY = OperatorKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER_KEY = OperatorKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
GUARDS = (*NEVER_CHANGED, "attachment_no_update", "attachment_no_delete")
"""The triggers that keep history and attachments as they are."""


@dataclasses.dataclass(frozen=True)
class Original:
    """A sound ledger, and the receipts of its three rounds."""

    path: Path
    entries: list[Entry]
    receipts: list[Receipt]

    def seal(self, round_index: int) -> Entry:
        return next(entry for entry in self.entries if entry.key == f"round/{round_index}")

    def sales(self, round_index: int) -> list[Entry]:
        return [e for e in self.entries if e.kind == "sale" and e.round_index == round_index]


def make_original(path: Path) -> Original:
    """Three rounds of three rules, with all receipts."""
    receipts = []
    rounds = [
        record(30, 0, rule="subsidised"),
        record(31, 1, absent=[2]),
        record(32, 2, rule="paper", sparse=True),
    ]
    with new_ledger(path) as ledger:
        for index, each in enumerate(rounds):
            ledger.post(*booking(each))
            receipts += KEY.receipts(RUN, index, ledger.head(), ledger.balances())
        entries = list(ledger.entries())
        assert verify(ledger, receipts, KEY.public).faults == ()
    found = Original(path, entries, receipts)
    assert min(len(found.sales(index)) for index in range(3)) >= 2
    return found


def make_small(path: Path) -> Original:
    """A ledger of one small round, to be verified many times."""
    book(path, record(30, m=3, rule="subsidised"))
    with Ledger.open(path) as ledger:
        return Original(path, list(ledger.entries()), [])


def verified(path: Path, *given: Any) -> Verification:
    with Ledger.open(path) as ledger:
        return verify(ledger, *given)


def named(found: Verification, law: str, sentence: str) -> bool:
    return any(fault.law == law and sentence in fault.sentence for fault in found.faults)


def assert_found(found: Verification, *faults: tuple[str, str]) -> None:
    for law, sentence in faults:
        assert named(found, law, sentence), found.faults
    assert {fault.law for fault in found.faults} == {law for law, _ in faults}, found.faults
    assert not found.sound


def forge(path: Path, original: Original, first: int, change: Callable[[Entry], Sequence[Draft]]) -> None:
    """Write all entries anew from a number on, each changed, and chained as it should be."""
    drafts = [draft for entry in original.entries[first - 1 :] for draft in change(entry)]
    rewrite(path, drafts, first)


def off_by(entry: Entry, units: int, in_terms: bool = True) -> Draft:
    """The same sale, for some units more."""
    postings = dict(entry.postings)
    postings[entry.terms["buyer"]] = postings.get(entry.terms["buyer"], 0) - units
    postings[entry.terms["seller"]] = postings.get(entry.terms["seller"], 0) + units
    terms = dict(entry.terms)
    if in_terms:
        terms |= {"price": terms["price"] + units, "charge": terms["charge"] + units}
    moved = tuple((name, amount) for name, amount in postings.items() if amount)
    return dataclasses.replace(entry.draft, terms=terms, postings=moved)

"""The run's books: booking rounds in the ledger, and the receipts that follow.

The commit of a round's entries is what makes the round count: everything that they name is on the disk before, and
receipts are written after, from the ledger alone, so that those which a crash prevented are made good later.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipfl.faults import point
from ipfl.ledger import Booking, Draft, Entry, Ledger, Mark, OperatorKey
from ipfl.ledger.booking import round_key
from ipfl.run_folder import write_text
from ipfl.types import OPERATOR
from ipfl.upkeep.folder import LEDGER, Marks
from ipfl.upkeep.membership import Members


class Books:
    """An open ledger, its balances, and the key that signs receipts."""

    def __init__(self, folder: Path, run: str, key: OperatorKey):
        self._folder, self._run, self._key = folder, run, key
        self.ledger = Ledger.open(folder / LEDGER)
        self._balances = self.ledger.balances()

    def __enter__(self) -> "Books":
        return self

    def __exit__(self, *problem: object) -> None:
        self.ledger.close()

    def seals(self) -> list[Entry]:
        """The entries that seal the rounds booked so far."""
        return list(self.ledger.entries("WHERE kind = 'round'"))

    def seal_terms(self, round_index: int) -> Mapping[str, Any] | None:
        """What the seal of a round says; None where the round is not booked."""
        seal = self.ledger.find(round_key(round_index))
        return None if seal is None else seal.terms

    def marks(self, round_index: int) -> Marks | None:
        """How far the growing files had come when a round was booked; None before the first."""
        return None if round_index < 0 else self.ledger.marks(round_index)

    def book(self, changes: Sequence[Draft], booking: Booking, marks: Sequence[Mark]) -> None:
        """Book a round: who joined or left, its sales and its seal, in one transaction; then write its receipts.

        Raises:
          LedgerError: the round is booked already, and was another one.
        """
        before = self.ledger.head()[0]
        *changed, seal = [*changes, *booking.drafts]
        entries = self.ledger.post([*changed, seal], booking.attachments, marks)
        self._add([entry for entry in entries if entry.seq > before])
        if entries[-1].seq > before:
            self._write_receipts(entries[-1], self._balances)

    def finish(self, digests: Mapping[str, str], round_index: int) -> dict[str, str]:
        """Book which files participants take home, and return a receipt for each that covers everything."""
        draft = Draft("finish", "finish", round_index, {"files": dict(digests)})
        (entry,) = self.ledger.post([draft])
        receipts = self._key.receipts(
            self._run, round_index, (entry.seq, entry.hash), self._participants(self._balances)
        )
        return {receipt.participant_id: receipt.to_json() + "\n" for receipt in receipts}

    def make_good(self) -> None:
        """Write the receipts that are lacking."""
        lacking = [seal for seal in self.seals() if not self._path(seal).exists()]
        if not lacking:
            return
        seals, balances = {seal.seq: seal for seal in lacking}, dict[str, int]()
        for entry in self.ledger.entries():
            add_up(balances, entry)
            if entry.seq in seals:
                self._write_receipts(entry, balances)

    def members(self, round_index: int) -> Members:
        """Who is a member before a round."""
        return Members.before(self.ledger, round_index)

    def _add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            add_up(self._balances, entry)

    def _write_receipts(self, seal: Entry, balances: Mapping[str, int]) -> None:
        point("receipts: before writing")
        receipts = self._key.receipts(
            self._run, seal.round_index, (seal.seq, seal.hash), self._participants(balances)
        )
        write_text(self._path(seal), "".join(f"{receipt.to_json()}\n" for receipt in receipts))

    def _path(self, seal: Entry) -> Path:
        return self._folder / "receipts" / f"{seal.round_index:05d}.jsonl"

    @staticmethod
    def _participants(balances: Mapping[str, int]) -> dict[str, int]:
        return {name: balance for name, balance in balances.items() if name != OPERATOR}


def add_up(balances: dict[str, int], entry: Entry) -> None:
    """Add an entry to everybody's balances; an account that opens has one, of 0."""
    if entry.account is not None:
        balances.setdefault(entry.account, 0)
    for name, amount in entry.postings:
        balances[name] = balances.get(name, 0) + amount

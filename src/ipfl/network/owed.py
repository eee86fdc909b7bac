"""The bills that members have not acknowledged yet, read from the ledger a block of rounds at a time.

A round is read once when it is booked, whoever waits for it. Older rounds are read for those alone who ask for them,
and no further than a message has room: a member that is never there costs the rounds nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipfl.engines.remote import Bills
from ipfl.ledger import Ledger, OperatorKey
from ipfl.network.billing import BEGINNING, ROOM, BilledRound, Start, rounds_from, that_fit

BLOCK = 8
"""Rounds that are read at a time."""
BLOCKS_KEPT = 2
"""Of those before the newest block, for several members that were away for as long."""


@dataclass
class _Owed:
    """What one member is owed: its bills of the rounds from `after` on, as far as they have been read."""

    after: int
    through: int
    bills: list[dict[str, Any]] = field(default_factory=list)

    def acknowledged(self, after: int) -> None:
        """Leave out what it has by now."""
        self.after, self.through = after, max(self.through, after)
        self.bills = [bill for bill in self.bills if bill["round_index"] > after]


class OwedBills:
    """Everybody's bills, from a ledger that grows while they are told.

    Args:
      ledger: of the run, open.
      key: signs receipts.
      run: the run's digest.
      room: letters that one message takes.
    """

    def __init__(self, ledger: Ledger, key: OperatorKey, run: str, room: int = ROOM):
        self._ledger, self._key, self._run, self._room = ledger, key, run, room
        self._starts: list[Start] = [BEGINNING]  # of every block
        self._newest: list[BilledRound] = []  # the block that is not full yet
        self._older: dict[int, list[BilledRound]] = {}
        self._read = 0
        self._owed: dict[str, _Owed] = {}

    def told(self, name: str, after: int) -> Bills:
        """The oldest bills of a member that fit into a message.

        Args:
          name: the member.
          after: the last round whose bill it has.
        """
        self._read_on()
        owed = self._owed.get(name)
        if owed is None or after < owed.after:
            owed = self._owed[name] = _Owed(after, after)
        owed.acknowledged(after)
        letters = _letters(owed.bills)
        while owed.through < self._booked and (len(owed.bills) < 2 or letters <= self._room):
            new = self._some(name, owed.through + 1)
            owed.bills += new
            owed.through = self._end_of(owed.through + 1)
            letters += _letters(new)
        told = that_fit(owed.bills, self._room)
        return Bills(told, more=len(told) < len(owed.bills))

    @property
    def _booked(self) -> int:
        """The newest round; -1 before the first."""
        return (len(self._starts) - 1) * BLOCK + len(self._newest) - 1

    def _read_on(self) -> None:
        """Take in what was booked since the last time."""
        head = self._ledger.head()[0]
        if head == self._read:
            return
        start = self._newest[-1].end if self._newest else self._starts[-1]
        for billed in rounds_from(self._ledger, start, head):
            self._newest.append(billed)
            if len(self._newest) == BLOCK:
                self._keep(len(self._starts) - 1, self._newest)
                self._starts.append(billed.end)
                self._newest = []
        self._read = head

    def _some(self, name: str, first: int) -> list[dict[str, Any]]:
        """Bills of a member from a round on, to the end of the block; none of rounds before it had an account."""
        return [
            billed.bill(name, self._key, self._run)
            for billed in self._block(first // BLOCK)[first % BLOCK :]
            if name in billed.balances
        ]

    def _end_of(self, round_index: int) -> int:
        """The last booked round of a round's block."""
        return min(self._booked, (round_index // BLOCK + 1) * BLOCK - 1)

    def _block(self, number: int) -> Sequence[BilledRound]:
        if number == len(self._starts) - 1:
            return self._newest
        found = self._older.pop(number, None)
        if found is None:
            start, end = self._starts[number], self._starts[number + 1]
            found = list(rounds_from(self._ledger, start, end.seq))
        self._keep(number, found)
        return found

    def _keep(self, number: int, block: list[BilledRound]) -> None:
        """Keep a block, and let go of the one that was not asked for the longest."""
        self._older[number] = block
        while len(self._older) > BLOCKS_KEPT:
            del self._older[next(iter(self._older))]


def _letters(bills: Sequence[Mapping[str, Any]]) -> int:
    """As `that_fit` counts them."""
    return sum(len(json.dumps(bill, ensure_ascii=False)) for bill in bills)

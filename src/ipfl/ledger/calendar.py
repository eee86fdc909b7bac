"""The ledger on a calendar: programs for book-keeping want a date for everything, and rounds have none.

Round r stands on the r-th day after 2000-01-01. The days never go back: what is booked late, a reversal of an earlier
round say, stands on the day when it was booked.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from ipfl.ledger.entries import Entry
from ipfl.types import OPERATOR

FIRST_DAY = date(2000, 1, 1)
NOTE = f"Rounds have no dates: round r stands on the r-th day after {FIRST_DAY}."
ROUNDS_PER_BALANCE = 10
"""So often balances are stated, beside those at the end."""


class Booked(NamedTuple):
    """An entry and its day."""

    day: date
    entry: Entry


class Balances(NamedTuple):
    """Balances in units at the end of a day, of the accounts that are open and the operator's; at the end, of all."""

    day: date
    amounts: Mapping[str, int]


def on_days(entries: Iterable[Entry]) -> Iterator[Booked | Balances]:
    """The entries in order, and balances after every tenth round and at the end."""
    day, rounds = 0, 0
    amounts, is_open = {OPERATOR: 0}, {OPERATOR: True}
    for entry in entries:
        if entry.round_index > day:
            if rounds >= ROUNDS_PER_BALANCE:
                yield Balances(_date(day), {name: amounts[name] for name in amounts if is_open[name]})
                rounds = 0
            day = entry.round_index
        if entry.account is not None:
            is_open[entry.account] = entry.kind == "join"
            amounts.setdefault(entry.account, 0)
        for name, amount in entry.postings:
            is_open.setdefault(name, True)
            amounts[name] = amounts.get(name, 0) + amount
        rounds += entry.kind == "round"
        yield Booked(_date(day), entry)
    yield Balances(_date(day), amounts)


def _date(day: int) -> date:
    return FIRST_DAY + timedelta(days=day)

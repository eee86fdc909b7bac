"""The ledger as a Beancount file: `bean-check` holds every entry and every balance against one another, to the unit."""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from ipfl.ledger.amounts import decimal_text
from ipfl.ledger.calendar import NOTE, Balances, Booked, on_days
from ipfl.ledger.entries import Entry
from ipfl.ledger.export_words import AMOUNTS, COMMODITY, about_ledger, narration, participants
from ipfl.ledger.store import Ledger
from ipfl.types import OPERATOR

ONE_DAY = timedelta(days=1)
_LETTERS = {"X": "Xx", ".": "Xd", "_": "Xu"}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def beancount_account(participant_id: str) -> str:
    """A participant's account: Beancount's names have letters, digits and hyphens only. No two ids share one.

    X marks what is written otherwise: Xd is a full stop, Xu an underscore, Xx an X.

    >>> beancount_account("north.wing_2"), beancount_account("operator")
    ('Assets:Participants:P-northXdwingXu2', 'Assets:Operator')
    """
    if participant_id == OPERATOR:
        return "Assets:Operator"
    return "Assets:Participants:P-" + "".join(_LETTERS.get(letter, letter) for letter in participant_id)


def beancount_lines(ledger: Ledger) -> Iterator[str]:
    """The file, line by line.

    Raises:
      LedgerError: the ledger cannot be read, or a name in it is no participant's.
    """
    yield from (f";; {line}" for line in (*about_ledger(ledger), NOTE))
    yield ";; Names of accounts: P- and the id, with Xd for a full stop, Xu for an underscore, Xx for an X."
    yield ""
    yield f'option "title" {_value(f"ipfl: {ledger.path.absolute().parent.name}")}'
    yield f'option "operating_currency" "{COMMODITY}"'
    width = max(len(beancount_account(name)) for name in (OPERATOR, *participants(ledger)))
    yield from _Writer(width).lines(on_days(ledger.entries()))


class _Writer:
    """Directives for what happens, day by day; an account is closed in Beancount if it is closed in the end."""

    def __init__(self, width: int):
        self._width = width
        self._opened: set[str] = set()
        self._closed: dict[str, date] = {}
        self._traded: dict[str, date] = {}

    def lines(self, days: Iterator[Booked | Balances]) -> Iterator[str]:
        """All directives."""
        for item in days:
            if not self._opened:
                yield ""
                yield f"{item.day} commodity {COMMODITY}"
                yield from self._open(item.day, OPERATOR)
            if isinstance(item, Balances):
                yield ""
                # what stands on a day is held against the morning of the next
                for name, amount in item.amounts.items():
                    if name not in self._closed:
                        yield self._balance(item.day + ONE_DAY, name, amount)
                last = item
            elif item.entry.account is not None:
                yield from self._membership(item.day, item.entry, item.entry.account)
            elif item.entry.postings or item.entry.kind in ("sale", "reversal"):
                yield from self._transaction(item.day, item.entry)
        for name, day in self._closed.items():
            after = day if self._traded.get(name) != day else day + ONE_DAY
            yield self._balance(after, name, last.amounts[name])
            yield f"{after} close {beancount_account(name)}"

    def _open(self, day: date, name: str) -> Iterator[str]:
        self._opened.add(name)
        yield f"{day} open {beancount_account(name)} {COMMODITY}"
        yield f"  participant: {_value(name)}"

    def _membership(self, day: date, entry: Entry, name: str) -> Iterator[str]:
        yield ""
        if entry.kind == "leave":
            self._closed[name] = day
        elif name not in self._opened:
            yield from self._open(day, name)
            return
        else:
            self._closed.pop(name, None)
        what = "closed" if entry.kind == "leave" else "open again"
        note = f"account {what} before round {entry.round_index}"
        yield f"{day} note {beancount_account(name)} {_value(note)}"

    def _transaction(self, day: date, entry: Entry) -> Iterator[str]:
        yield ""
        yield f"{day} * {_value(narration(entry))}"
        yield f"  entry: {entry.seq}"
        yield f"  key: {_value(entry.key)}"
        yield f"  hash: {_value(entry.hash)}"
        for name, term in entry.terms.items():
            if term is not None:
                money = name in AMOUNTS and type(term) is int
                yield f"  {name}: {f'{decimal_text(term)} {COMMODITY}' if money else _value(term)}"
        for name, amount in entry.postings:
            self._traded[name] = day
            yield f"  {beancount_account(name):{self._width}}  {decimal_text(amount):>17} {COMMODITY}"

    def _balance(self, day: date, name: str, amount: int) -> str:
        # ~ 0: by default Beancount lets pass what is off by one in the last place
        account = f"{beancount_account(name):{self._width}}"
        return f"{day} balance {account}  {decimal_text(amount):>17} ~ 0 {COMMODITY}"


def _value(value: Any) -> str:
    """A value of metadata: a number with all its digits, or a text.

    >>> _value(1e-07), _value(12), _value('say "x"')
    ('0.0000001', '12', '"say \\\\"x\\\\""')
    """
    if type(value) in (int, float):
        return format(Decimal(repr(value)), "f")
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in str(value)) + '"'

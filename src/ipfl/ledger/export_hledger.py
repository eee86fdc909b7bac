"""The ledger as an hledger journal: `hledger check` holds every entry and every balance against one another."""

import json
from collections.abc import Iterator
from typing import Any

from ipfl.ledger.amounts import decimal_text
from ipfl.ledger.calendar import NOTE, Balances, Booked, on_days
from ipfl.ledger.export_words import AMOUNTS, COMMODITY, about_ledger, narration, participants
from ipfl.ledger.store import Ledger
from ipfl.types import OPERATOR

PAYEES = ("sale", "reversal", "balances")


def hledger_account(participant_id: str) -> str:
    """A participant's account: its id as it is.

    >>> hledger_account("north.wing_2"), hledger_account("operator")
    ('assets:participants:north.wing_2', 'assets:operator')
    """
    return "assets:operator" if participant_id == OPERATOR else f"assets:participants:{participant_id}"


def hledger_lines(ledger: Ledger) -> Iterator[str]:
    """The journal, line by line.

    Raises:
      LedgerError: the ledger cannot be read, or a name in it is no participant's.
    """
    accounts = [hledger_account(name) for name in (OPERATOR, *participants(ledger))]
    width = max(map(len, accounts))
    yield from (f"; {line}" for line in (*about_ledger(ledger), NOTE))
    yield ""
    yield f"commodity 1000.000000 {COMMODITY}"
    yield from (f"account {account}" for account in accounts)
    yield from (f"payee {payee}" for payee in PAYEES)
    for item in on_days(ledger.entries()):
        if isinstance(item, Balances):
            yield from _balances(item, width)
        elif item.entry.account is not None:
            what = "open" if item.entry.kind == "join" else "closed"
            yield ""
            yield f"; {item.entry.account}: account {what} before round {item.entry.round_index}"
        elif item.entry.postings or item.entry.kind in ("sale", "reversal"):
            yield from _transaction(item, width)


def _transaction(item: Booked, width: int) -> Iterator[str]:
    entry = item.entry
    yield ""
    yield f"{item.day} * ({entry.key}) {entry.kind} | {narration(entry)}"
    yield f"    ; entry: {entry.seq}"
    yield f"    ; hash: {entry.hash}"
    for name, term in entry.terms.items():
        if term is not None:
            money = name in AMOUNTS and type(term) is int
            yield f"    ; {name}: {decimal_text(term) if money else _value(term)}"
    for name, amount in entry.postings:
        yield f"    {hledger_account(name):{width}}  {decimal_text(amount):>17} {COMMODITY}"


def _balances(item: Balances, width: int) -> Iterator[str]:
    yield ""
    yield f"{item.day} * balances"
    nothing = f"{decimal_text(0)} {COMMODITY}"
    for name, amount in item.amounts.items():
        yield f"    {hledger_account(name):{width}}  {nothing} = {decimal_text(amount):>17} {COMMODITY}"


def _value(value: Any) -> str:
    """A term as it is; a text with anything but plain words in quotes, on one line.

    >>> _value(0.1), _value("north-2"), _value("two\\nlines")
    ('0.1', 'north-2', '"two\\\\nlines"')
    """
    if isinstance(value, str) and not value.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return json.dumps(value)
    return str(value)

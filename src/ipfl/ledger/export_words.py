"""What the journals for Beancount and hledger have in common."""

import re
from collections.abc import Sequence

from ipfl.config.amounts import PARTICIPANT_ID_PATTERN
from ipfl.errors import LedgerError
from ipfl.ledger.entries import Entry
from ipfl.ledger.store import Ledger

COMMODITY = "CREDIT"
AMOUNTS = ("price", "charge", "export_cost")
"""Terms in units; journals have them in credits."""


def about_ledger(ledger: Ledger) -> Sequence[str]:
    """What a file says of its origin."""
    opening = ledger.find("open")
    run = "" if opening is None else str(opening.terms.get("run", ""))
    seq, head = ledger.head()
    return (
        f"The ledger of a run of ipfl: run {run}, {seq} entries, head {head}.",
        "A sale's buyer pays its charge, the operator the rest of the price, and the seller receives the price.",
    )


def participants(ledger: Ledger) -> list[str]:
    """Who ever joined.

    Raises:
      LedgerError: somebody's id is none.
    """
    names = list(ledger.accounts())
    for name in names:
        if not re.fullmatch(PARTICIPANT_ID_PATTERN, name) or name.endswith("\n"):
            raise LedgerError(
                f"{ledger.path} has an account {name!r}, which is no participant's id: it cannot be exported; "
                f"`ipfl verify {ledger.path.parent}` says more"
            )
    return names


def narration(entry: Entry) -> str:
    """An entry in a few words."""
    if entry.kind == "sale":
        return f"{entry.terms.get('buyer')} buys the model of {entry.terms.get('seller')}"
    return f"{entry.kind} of {entry.terms.get('of', entry.key)}"

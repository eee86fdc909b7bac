"""From a round's record to the entries that book it: one per purchase, and one that seals the round.

All of a round is booked in one transaction: who joined or left before it, its sales with the operator's subsidy, and
the seal, which names the files that hold the state after the round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ipfl.ledger.entries import Draft
from ipfl.ledger.prices import VERSION, Priced, has_prices, inputs_of, priced
from ipfl.types import OPERATOR, RoundRecord


class Booking(NamedTuple):
    """What `Ledger.post` takes."""

    drafts: list[Draft]
    attachments: Mapping[str, bytes]


def opening(run_digest: str, participant_ids: Sequence[str], about: Mapping[str, Any]) -> list[Draft]:
    """The first entries of a run: what it is, and the accounts of those who are there from the start."""
    terms = {"run": run_digest, "unit": "0.000001 credit", "version": VERSION, **about}
    return [
        Draft("open", "open", -1, terms),
        *(membership("join", 0, name, 1, {}) for name in participant_ids),
    ]


def membership(kind: str, round_index: int, name: str, number: int, terms: Mapping[str, Any]) -> Draft:
    """A participant that joins or leaves before a round; `number` counts its comings and goings, from 1."""
    return Draft(f"member/{name}/{number}", kind, round_index, terms, account=name)


def round_booking(
    record: RoundRecord,
    lam: float,
    method: str,
    state_digest: str,
    privacy: Mapping[str, Any] | None = None,
) -> Booking:
    """The entries of one round, without who joined or left.

    Args:
      record: its outcome is in whole units (`market.units.billed`).
      lam: of the market.
      method: which method ran.
      state_digest: SHA-256 of the file that holds the state after the round.
      privacy: what private training has cost each participant so far.
    """
    seal: dict[str, Any] = {"version": VERSION, "method": method, "state": state_digest}
    if privacy is not None:
        seal["privacy"] = dict(privacy)
    attachments: Mapping[str, bytes] = {}
    sales: list[Draft] = []
    if has_prices(record.outcome):
        inputs = inputs_of(record.bids, record.distance, record.present, record.outcome, lam)
        seal, attachments = seal | dict(inputs.terms), inputs.attachments
        purchases = priced(record.outcome, record.bids, record.distance, lam)
        sales = [sale(record.round_index, purchase) for purchase in purchases]
    seal["sales"] = len(sales)
    return Booking(
        [*sales, Draft(round_key(record.round_index), "round", record.round_index, seal)], attachments
    )


def round_key(round_index: int) -> str:
    """The key of a round's seal."""
    return f"round/{round_index}"


def sale_key(round_index: int, buyer: str, seller: str) -> str:
    """The key of a sale; ids hold no slash."""
    return f"round/{round_index}/{buyer}/{seller}"


def sale(round_index: int, purchase: Priced) -> Draft:
    """One purchase: the buyer pays its charge, the operator what is lacking to the price, the seller receives it."""
    amounts = (
        (purchase.buyer, -purchase.charge),
        (OPERATOR, purchase.charge - purchase.price),
        (purchase.seller, purchase.price),
    )
    key = sale_key(round_index, purchase.buyer, purchase.seller)
    return Draft(
        key, "sale", round_index, purchase.terms, tuple((name, amount) for name, amount in amounts if amount)
    )


def reversal(entry_key: str, round_index: int, postings: Sequence[tuple[str, int]], reason: str) -> Draft:
    """An entry that undoes another; what was booked stays."""
    back = tuple((name, -amount) for name, amount in postings)
    return Draft(f"reversal/{entry_key}", "reversal", round_index, {"of": entry_key, "reason": reason}, back)

"""Made-up sales and ledgers of them: amounts of one's choice, no market behind them."""

from collections.abc import Sequence
from pathlib import Path

from ipfl.ledger import Draft, Entry, Ledger, membership, opening, reversal
from ipfl.ledger.booking import round_key, sale
from ipfl.ledger.entries import GENESIS, chained, text_of
from ipfl.ledger.prices import Priced

RUN = "7a" * 32
ODD_IDS = ("a.b", "X_", "-c", "Nord-2", "e", "a-b", "a_b", "Xd")
"""Ids that are easily mistaken for one another, or for something else."""
ODD_REASON = 'he said "no";\n2000-01-02 open Assets:Mine\n; [2001/1/99], date:2000-99-99 \\ | 100 % größer'


def sold(
    round_index: int, buyer: str, seller: str, price: int, charge: int | None = None, distance: float = 0.25
) -> Draft:
    """A sale; the buyer pays all of the price unless told otherwise."""
    charge = price if charge is None else charge
    terms = {
        "version": 1,
        "buyer": buyer,
        "seller": seller,
        "buyer_num_examples": 10,
        "seller_num_examples": 12,
        "valuation": 400.0,
        "export_cost": price // 3,
        "distance": distance,
        "lam": 0.5,
        "allocation": "exact",
        "payment": "vcg-subsidised",
        "price": price,
        "charge": charge,
    }
    return sale(round_index, Priced(buyer, seller, price, charge, terms))


def sealed(round_index: int, *sales: Draft) -> list[Draft]:
    """A round."""
    return [*sales, Draft(round_key(round_index), "round", round_index, {"sales": len(sales)})]


def undone(of: Draft, round_index: int, reason: str = ODD_REASON) -> Draft:
    """The reversal of what was drafted."""
    return reversal(of.key, round_index, of.postings, reason)


def as_entries(drafts: Sequence[Draft]) -> list[Entry]:
    """Drafts as they would stand in a ledger, without one."""
    prev, entries = GENESIS, []
    for seq, draft in enumerate(drafts, 1):
        now = chained(prev, text_of(seq, draft))
        parts = (draft.key, draft.kind, draft.round_index, draft.account, draft.terms, draft.postings)
        entries.append(Entry(seq, *parts, prev, now))
        prev = now
    return entries


def odd_drafts(rounds: int = 23) -> list[Draft]:
    """All that can happen: odd ids, sales for nothing, subsidies, coming and going, reversals late and odd."""
    drafts = opening(RUN, ODD_IDS, {"method": "ipfl"})
    for index in range(rounds):
        if index in (3, 15):
            drafts.append(membership("leave", index, "e", {3: 2, 15: 4}[index], {"by": "command"}))
        if index == 8:
            drafts.append(membership("join", index, "e", 3, {"by": "configuration"}))
        if index == 5:
            drafts.append(membership("join", index, "late", 1, {"by": "configuration"}))
        here = [name for name in ODD_IDS if name != "e" or not (3 <= index < 8 or index >= 15)]
        count = len(here)
        sales = [
            sold(index, here[index % count], here[(index + 1) % count], 1_000_000 + index, 400_000),
            sold(index, here[(index + 2) % count], here[index % count], 1),
            sold(index, here[(index + 3) % count], here[index % count], 0),
            sold(index, here[(index + 4) % count], here[(index + 5) % count], 7_000_003, 0, distance=3e-09),
        ]
        if index == 14:
            sales.append(sold(index, "e", "a_b", 500_000))
        drafts += sealed(index, *sales)
        if index == 9:
            drafts.append(undone(sales[0], 2))  # booked after round 9, of an earlier one by its own account
        if index == 12:
            drafts += [undone(sales[0], 12), undone(sales[2], 12, "it was for nothing")]
        if index == 14:
            drafts.append(undone(sales[4], 15))  # on the day on which e leaves
    drafts.append(Draft("finish", "finish", rounds - 1, {"files": {}}))
    return drafts


def odd_ledger(path: Path, rounds: int = 23) -> Ledger:
    """The same as a ledger; close it."""
    drafts, start = odd_drafts(rounds), 1 + len(ODD_IDS)
    ledger = Ledger.create(path, drafts[:start])
    ledger.post(drafts[start:])
    return ledger

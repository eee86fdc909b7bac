"""How a participant checks a bill: its receipt, its lines, the prices, and what private training has cost.

With what was on offer to it, it solves its own problem again, by the same market, and finds the same prices.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipfl.config import PARTICIPANT_ID_PATTERN, PrivacyConfig
from ipfl.errors import IpflError
from ipfl.learning.private import epsilon_spent
from ipfl.ledger.booking import sale_key
from ipfl.ledger.prices import priced
from ipfl.market.clearing import clear
from ipfl.market.units import UNITS, billed, units_up, whole_units
from ipfl.network.billing import ANOTHER, receipt_of
from ipfl.types.market import Bids, GainCurve

FIELDS = {"round_index", "receipt", "lines", "offers", "privacy"}
LOST_HOME = " (if this folder stands in for one that was lost: ipfl join --lost-home)"


@dataclass(frozen=True)
class Agreed:
    """What a participant holds a bill against: who it is, what it bid, and the rules it agreed to.

    `members` says how many there are. `answered`: whether it took part in the round; only then has it traded.
    `bid_known` is False of rounds that it knows nothing of any more: of them receipts and sums are checked alone.
    `reversals`: whether sales may be taken back. `private_steps` are those that it has taken by the round that is
    billed, and `sampling_rate` how likely one of its examples is to take part in one.
    """

    participant_id: str
    operator_key: str
    num_examples: int
    valuation: float
    export_cost: float
    curve: GainCurve | None
    lam: float
    allocation: str
    payment: str
    members: int
    answered: bool = True
    bid_known: bool = True
    reversals: bool = False
    privacy: PrivacyConfig | None = None
    private_steps: int = 0
    sampling_rate: float = 1.0


def problems(
    bill: Any, agreed: Agreed, run: str | None, balance: int, booked: Mapping[str, int] | None = None
) -> list[str]:
    """What is wrong with a bill, in sentences; none if it is right.

    Args:
      bill: as it came.
      agreed: what it should be in keeping with.
      run: the run that bills before it belonged to; None for the first.
      balance: after the bill before it, in units.
      booked: the amounts of all lines before it, by their keys.
    """
    try:
        known = dict(booked or {})
        if set(bill) != FIELDS:
            return [f"it is no bill (it has not the fields {', '.join(sorted(FIELDS))})"]
        return [
            *_receipt_problems(bill, agreed, run, balance),
            *_line_problems(bill, agreed, known),
            *_privacy_problems(
                bill["privacy"], agreed, traded=any("buyer" in line["terms"] for line in bill["lines"])
            ),
        ]
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        LookupError,
        ArithmeticError,
        IpflError,
    ) as error:
        return [f"it is no bill ({type(error).__name__}: {error})"]


def _receipt_problems(bill: Any, agreed: Agreed, run: str | None, balance: int) -> list[str]:
    receipt, found = receipt_of(bill), []
    if receipt.key != agreed.operator_key or not receipt.genuine():
        return ["its receipt is not signed by the operator's key"]
    if run is not None and receipt.run != run:
        found.append("its receipt is of another run")
    if (receipt.participant_id, receipt.round_index) != (agreed.participant_id, bill["round_index"]):
        found.append("its receipt is of another participant or round")
    moved = sum(line["amount"] for line in bill["lines"])
    if receipt.balance != balance + moved:
        found.append(
            f"the balance before it was {balance / UNITS:.6f} credits, its lines come to {moved / UNITS:.6f}, but the "
            f"receipt says {receipt.balance / UNITS:.6f}"
        )
    return found


def _privacy_problems(told: Any, agreed: Agreed, traded: bool) -> list[str]:
    """What is wrong with the count of private steps, and with the epsilon that follows from it.

    Only of a round in which it `traded` is it known that the operator counted by its present number of examples: of a
    round that it missed, or in which it told a new number, the operator counts by the one that it knew.
    """
    if agreed.privacy is None:
        return [] if told is None else ["it counts private training, which was not agreed"]
    if told is None:
        return ["it does not say what private training has cost"]
    found, steps = [], int(told["steps"])
    if steps < agreed.private_steps:
        found.append(f"it counts {steps} private steps, taken were {agreed.private_steps}")
    rate = agreed.sampling_rate if traded and agreed.bid_known else float(told["sampling_rate"])
    own = epsilon_spent(agreed.privacy, rate, steps)
    if not math.isclose(own, told["epsilon"], rel_tol=1e-6):
        found.append(f"epsilon is {told['epsilon']:g} on it and {own:g} by its own reckoning")
    return found


def _line_problems(bill: Any, agreed: Agreed, booked: dict[str, int]) -> list[str]:
    found, me = [], agreed.participant_id
    rules = {"lam": agreed.lam, "allocation": agreed.allocation, "payment": agreed.payment}
    bought: dict[str, Mapping[str, Any]] = {}
    for line in bill["lines"]:
        key, amount, terms = line["key"], line["amount"], line["terms"]
        where = f"{key}:"
        if key in booked:
            found.append(f"{where} it was billed before")
        booked[key] = amount
        if "buyer" not in terms:
            if key != f"reversal/{terms['of']}" or booked.get(terms["of"]) != -amount:
                found.append(f"{where} it does not give back what was billed before")
            elif amount < 0 and not agreed.reversals:
                found.append(f"{where} it takes back a sale, which the terms do not allow (limits.reversals)")
            continue
        if not (agreed.answered or not agreed.bid_known):
            found.append(f"{where} it trades in a round that was not answered{LOST_HOME}")
        for name in (terms["buyer"], terms["seller"]):
            if not re.fullmatch(PARTICIPANT_ID_PATTERN, name):
                found.append(f"{where} {name[:40]!r} is nobody's name")
        if key != sale_key(bill["round_index"], terms["buyer"], terms["seller"]):
            found.append(f"{where} it is not of round {bill['round_index']}, or of others")
        for name, value in rules.items():
            if terms[name] != value:
                found.append(f"{where} {name} is {terms[name]!r}, agreed was {value!r}")
        if terms["buyer"] == me:
            bought[terms["seller"]] = terms
            own: tuple[Any, ...] = (terms["buyer_num_examples"], terms["valuation"], line["amount"])
            wanted: tuple[Any, ...] = (agreed.num_examples, agreed.valuation, -terms["charge"])
        else:
            own = (terms["seller"], terms["seller_num_examples"], terms["export_cost"], line["amount"])
            wanted = (me, agreed.num_examples, units_up(agreed.export_cost), terms["price"])
            if terms["price"] < units_up(agreed.export_cost):
                found.append(f"{where} the price is below the export cost that was bid")
        if own != wanted and agreed.bid_known:
            found.append(f"{where} it says {own}, by the bid it should be {wanted}")
    if not agreed.bid_known:
        return found
    if bill["offers"] is not None:
        found += _price_problems(bill["offers"], bought, agreed)
    elif bought:
        found.append("it does not say what was on offer")
    return found


def _price_problems(offers: Any, bought: Mapping[str, Mapping[str, Any]], agreed: Agreed) -> list[str]:
    """Solve the buyer's problem again and hold the lines against it."""
    me, sellers = offers["place"], offers["sellers"]
    m = len(sellers) + 1
    if m > agreed.members:
        return [f"it has offers of {m - 1:,} sellers, but the market has {agreed.members:,} members"]
    names = [
        seller["name"] if seller["name"] != ANOTHER else f"({place})" for place, seller in enumerate(sellers)
    ]
    rows = [*sellers[:me], None, *sellers[me:]]
    ids = [*names[:me], agreed.participant_id, *names[me:]]
    distance = np.ones((m, m))
    np.fill_diagonal(distance, 0.0)
    distance[me] = [
        0.0 if row is None else np.inf if row["distance"] is None else row["distance"] for row in rows
    ]
    mine = agreed.export_cost
    bids = Bids(
        num_examples=np.array([agreed.num_examples if row is None else row["num_examples"] for row in rows]),
        valuation=np.array([agreed.valuation if row is None else 0.0 for row in rows]),
        export_cost=np.array([mine if row is None else row["export_cost"] / UNITS for row in rows]),
        participant_ids=tuple(ids),
        curves=None if agreed.curve is None else (agreed.curve,) * m,
    )
    bids = whole_units(bids)
    outcome = clear(bids, distance, agreed.lam, agreed.allocation, agreed.payment)
    again = {sale.seller: sale for sale in priced(billed(outcome, bids), bids, distance, agreed.lam)}
    found = []
    for name in sorted({*again, *bought}):
        now, was = again.get(name), bought.get(name)
        if now is None or was is None:
            side = "was not bought" if was is None else "would not have been bought"
            found.append(f"by its own reckoning the model of {name} {side}")
        elif (now.price, now.charge) != (was["price"], was["charge"]):
            found.append(
                f"the model of {name} costs {was['charge'] / UNITS:.6f} on the bill and {now.charge / UNITS:.6f} by "
                "its own reckoning"
            )
        else:
            found += [
                f"the model of {name} has {field} = {was.get(field)!r} on the bill and {value!r} by its own reckoning"
                for field, value in now.terms.items()
                if was.get(field) != value
            ]
    return found

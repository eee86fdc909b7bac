"""Why each model was bought, and why the others were not, in one round of a run.

The numbers are those of the bids of that round: G_i(S), by the buyer's gain curve, n = N_i + the examples behind S,
and friction lam * d_ij * N_j / N_i.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipfl.config import PROHIBITIVE_COST
from ipfl.errors import RunFolderError
from ipfl.methods.gain_curves import curves_of
from ipfl.methods.registry import WITH_A_MARKET
from ipfl.run_folder import Run
from ipfl.types import GainCurve


@dataclass(frozen=True)
class Trade:
    """One model bought in one round.

    `payment` is what the seller receives, `paid` what the buyer gives (less, where a subsidy pays the rest).
    `buyer_kept` = marginal_gain - friction - paid; `seller_kept` = payment - export_cost.
    """

    round_index: int
    buyer: str
    seller: str
    num_examples: int
    distance: float
    payment: float
    paid: float
    marginal_gain: float
    friction: float
    export_cost: float

    @property
    def buyer_kept(self) -> float:
        """What this model was worth to the buyer beyond its price."""
        return self.marginal_gain - self.friction - self.paid

    @property
    def seller_kept(self) -> float:
        """What the seller earned beyond its cost of serving this buyer."""
        return self.payment - self.export_cost


@dataclass(frozen=True)
class NotBought:
    """One model that was not bought; `reason` is a key of `REASONS`.

    `marginal_gain` is what it would have added to the models the buyer did buy, `cost` = the seller's export
    cost + friction, the least it could cost; both are None where no such comparison was made.
    """

    buyer: str
    seller: str
    reason: str
    distance: float | None
    marginal_gain: float | None
    cost: float | None


REASONS = {
    "buyer_absent": "the buyer was absent",
    "seller_absent": "the seller was absent",
    "buys_nothing": "the buyer's valuation is 0: it buys nothing",
    "not_for_sale": "the seller's export cost is prohibitive: it does not sell",
    "costs_more": "it would cost more than it would add",
    "passed_over": "it would have paid, but the greedy rule had stopped before it",
    "ineligible": "the buyer tried the model, and it was not put on offer to it",
    "no_candidate": "the seller was not among the buyer's nearest, which alone are offered to it",
}


def trades(run: Run, round_index: int) -> list[Trade]:
    """The trades of a round, with what decided each."""
    bids = _bids(run, round_index)
    edges = [edge for edge in run.edges if edge["round_index"] == round_index]
    paid = {
        (row["payer"], row["payee"]): row["amount"]
        for row in run.ledger
        if row["round_index"] == round_index and row["purpose"] == "sale"
    }
    bought, curves = _bought(edges), curves_of(run.config)
    found = []
    for edge in edges:
        buyer, seller = bids[edge["buyer"]], bids[edge["seller"]]
        others = sum(bids[name]["num_examples"] for name in bought[edge["buyer"]] if name != edge["seller"])
        found.append(
            Trade(
                round_index=round_index,
                buyer=edge["buyer"],
                seller=edge["seller"],
                num_examples=edge["num_examples"],
                distance=edge["distance"],
                payment=edge["payment"],
                paid=paid.get((edge["buyer"], edge["seller"]), 0.0),
                marginal_gain=_added(buyer, others, seller["num_examples"], curves[edge["buyer"]]),
                friction=_friction(run, edge["distance"], buyer, seller),
                export_cost=seller["export_cost"],
            )
        )
    return found


def not_bought(run: Run, round_index: int) -> list[NotBought]:
    """Every ordered pair that did not trade in a round, with the reason; none where no market decided.

    Raises:
      RunFolderError: the distances of the round are missing or damaged.
    """
    if run.config.method not in WITH_A_MARKET:
        return []
    bids, curves = _bids(run, round_index), curves_of(run.config)
    distances = run.known_distances(round_index)
    ids = run.participant_ids
    if distances.shape != (len(ids), len(ids)):
        raise RunFolderError(
            f"distances of round {round_index} in {run.path} do not fit {len(ids)} participants"
        )
    bought = _bought([edge for edge in run.edges if edge["round_index"] == round_index])
    line = _line(run, round_index)
    present = {entry["id"]: entry["present"] for entry in line["participants"]}
    refused = {(pair["buyer"], pair["seller"]) for pair in line.get("ineligible", ())}
    found = []
    for row, buyer in enumerate(ids):
        imported = sum(bids[name]["num_examples"] for name in bought.get(buyer, ()))
        for column, seller in enumerate(ids):
            if row == column or seller in bought.get(buyer, ()):
                continue
            blocked = _blocked(present[buyer], present[seller], bids[buyer], bids[seller])
            distance = float(distances[row, column])
            if blocked is not None or not np.isfinite(distance):
                known = distance if np.isfinite(distance) else None
                left_out = "ineligible" if (buyer, seller) in refused else "no_candidate"
                found.append(NotBought(buyer, seller, blocked or left_out, known, None, None))
                continue
            adds = _added(bids[buyer], imported, bids[seller]["num_examples"], curves[buyer])
            cost = bids[seller]["export_cost"] + _friction(run, distance, bids[buyer], bids[seller])
            reason = "costs_more" if adds <= cost else "passed_over"
            found.append(NotBought(buyer, seller, reason, distance, adds, cost))
    return found


def _line(run: Run, round_index: int) -> dict[str, Any]:
    for line in run.rounds:
        if line["round_index"] == round_index:
            return line
    raise RunFolderError(f"{run.path} holds no round {round_index}: it has {len(run.rounds)} rounds, from 0")


def _bids(run: Run, round_index: int) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry["bid"] for entry in _line(run, round_index)["participants"]}


def _bought(edges: list[dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for edge in edges:
        found.setdefault(edge["buyer"], set()).add(edge["seller"])
    return found


def _blocked(
    buyer_present: bool, seller_present: bool, buyer: dict[str, Any], seller: dict[str, Any]
) -> str | None:
    """The reason that settles the matter before any gain is compared, if there is one."""
    if not buyer_present:
        return "buyer_absent"
    if not seller_present:
        return "seller_absent"
    if buyer["valuation"] == 0:
        return "buys_nothing"
    return "not_for_sale" if seller["export_cost"] >= PROHIBITIVE_COST else None


def _added(buyer: dict[str, Any], imported: int, more: int, curve: GainCurve) -> float:
    """What `more` examples add to a buyer's gain when it already imports `imported`."""
    before = buyer["num_examples"] + imported
    return math.sqrt(buyer["valuation"]) * float(curve.gain(before, more))


def _friction(run: Run, distance: float, buyer: dict[str, Any], seller: dict[str, Any]) -> float:
    return run.config.market.lam * distance * float(seller["num_examples"]) / float(buyer["num_examples"])

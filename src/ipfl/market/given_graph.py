"""Outcomes of graphs that no market decided: who uses whose model is given, and nobody pays.

So methods without a market are billed on the terms of those with one: the same gain for what was imported,
the same cost for every model sent.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ipfl.errors import BidError
from ipfl.market.clearing import WellBeing, well_being
from ipfl.types.market import Bids, Matrix, Outcome


def without_payments(
    bids: Bids,
    distance: Matrix,
    lam: float,
    allocation: Bool[np.ndarray, "buyer seller"] | Any,
    sent: Bool[np.ndarray, "receiver sender"] | Any | None = None,
) -> Outcome:
    """The outcome of a given graph in which nobody pays.

    Args:
      bids: by which it is judged.
      distance: d_ij in [0, 2], [buyer, seller].
      lam: weight of friction.
      allocation: whose model each buyer used; the diagonal must be False. A csr_array: what it stores.
      sent: whose model each buyer was sent, where that is more than it used: every sending costs the seller.
    Raises:
      BidError: an allocation of another shape, or with its diagonal set.

    >>> bids = Bids(np.array([4, 12]), np.array([16.0, 0.0]), np.array([0.0, 0.25]))
    >>> outcome = without_payments(bids, np.zeros((2, 2)), 0.0, np.array([[False, True], [False, False]]))
    >>> outcome.utilities.tolist(), outcome.welfare
    ([1.0, -0.25], 0.75)
    """
    m = len(bids)
    sent = allocation if sent is None else sent
    if allocation.shape != (m, m) or sent.shape != (m, m):
        wrong = allocation.shape if allocation.shape != (m, m) else sent.shape
        raise BidError(f"the graph has shape {wrong}, expected ({m}, {m})")
    if allocation.diagonal().any() or sent.diagonal().any():
        raise BidError("the graph has a participant import its own model, expected an empty diagonal")
    zeros, unproven = np.zeros(m), np.full(m, np.nan)
    nothing = np.zeros((m, m)) if isinstance(allocation, np.ndarray) else 0.0 * allocation
    blank = Outcome(
        allocation=allocation,
        payments=nothing,
        charges=nothing,
        gains=zeros,
        costs=zeros,
        frictions=zeros,
        paid=zeros,
        received=zeros,
        utilities=zeros,
        surpluses=zeros,
        bound=unproven,
        gap=unproven,
        welfare=0.0,
        objective=0.0,
        subsidy=0.0,
        allocation_rule="given",
        payment_rule="none",
    )
    fare = well_being(bids, blank, distance, lam)
    return _with(blank, fare, bids.export_cost * sent.sum(axis=0))


def by_the_truth(outcome: Outcome, truth: Bids, distance: Matrix, lam: float) -> Outcome:
    """The same graph and bills, with gains, costs, frictions and what follows from them by the true types.

    >>> from ipfl.market import clear
    >>> truth = Bids(np.array([4, 12]), np.array([16.0, 0.0]), np.array([0.0, 0.5]))
    >>> outcome = clear(truth.with_report(1, export_cost=0.25), np.zeros((2, 2)), lam=0.0)
    >>> by_the_truth(outcome, truth, np.zeros((2, 2)), 0.0).costs.tolist()
    [0.0, 0.5]
    """
    fare = well_being(truth, outcome, distance, lam)
    return _with(outcome, fare, fare.costs)


def _with(outcome: Outcome, fare: WellBeing, costs: Float[np.ndarray, "m"]) -> Outcome:
    utilities = fare.gains - costs - outcome.paid + outcome.received
    welfare = math.fsum(fare.gains) - math.fsum(costs)
    return dataclasses.replace(
        outcome,
        gains=fare.gains,
        costs=costs,
        frictions=fare.frictions,
        utilities=utilities,
        surpluses=utilities - fare.frictions,
        welfare=welfare,
        objective=welfare - math.fsum(fare.frictions),
    )

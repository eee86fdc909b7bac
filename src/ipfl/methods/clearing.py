"""Outcomes among those who are there, in a federation of m: absent participants trade with nobody."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool

from ipfl.market import Bids, Outcome, by_the_truth, clear, without_payments
from ipfl.market.units import billed
from ipfl.methods.distances import narrowed, widened
from ipfl.types.market import Graph, Matrix, SparseMatrix

Cleared = tuple[Outcome, Matrix]


def clear_present(
    bids: Bids,
    truth: Bids,
    distance: Matrix,
    present: Bool[np.ndarray, "m"],
    lam: float,
    allocation: str,
    payment: str,
) -> Cleared:
    """Clear the market of the present participants by their bids, bill whole units, and judge it by the truth.

    Args:
      bids: with whole export costs (`Federation.bids`).
    Returns:
      The outcome over all m (zeros for the absent), and the distances with NaN for the absent (nothing, if sparse).
    """

    def clear_them(here: np.ndarray, near: Matrix) -> Outcome:
        theirs = bids.take(here)
        outcome = billed(clear(theirs, near, lam=lam, allocation=allocation, payment=payment), theirs)
        return outcome if bids is truth else by_the_truth(outcome, truth.take(here), near, lam)

    return _among(present, distance, clear_them)


def bill_graph(
    truth: Bids,
    distance: Matrix,
    present: Bool[np.ndarray, "m"],
    lam: float,
    used: Graph,
    sent: Graph | None = None,
) -> Cleared:
    """The outcome of a graph that a method without a market used: gains and export costs, no payments.

    Args:
      used: whose model each buyer used; whatever it says of the absent and of the diagonal is left out.
      sent: whose model each was sent, if more than that.
    """

    def bill_them(here: np.ndarray, near: Matrix) -> Outcome:
        more = None if sent is None else _cut(sent, here)
        return without_payments(truth.take(here), near, lam, _cut(used, here), more)

    return _among(present, distance, bill_them)


def _cut(graph: Any, here: np.ndarray) -> Any:
    """The edges among those who are here, without any to oneself."""
    if isinstance(graph, np.ndarray):
        part: np.ndarray = graph[np.ix_(here, here)].copy()
        np.fill_diagonal(part, False)
        return part
    return narrowed(graph, here)


def _among(present: np.ndarray, distance: Matrix, settle: Callable[[np.ndarray, Matrix], Outcome]) -> Cleared:
    here, m = np.flatnonzero(present), len(present)
    if here.size == m:
        return settle(here, distance), distance
    if not isinstance(distance, np.ndarray):
        near = narrowed(distance, here)
        return _spread(settle(here, near), here, m), widened(near, here, m)
    grid = np.ix_(here, here)
    known = np.full_like(distance, np.nan)
    known[grid] = distance[grid]
    return _spread(settle(here, distance[grid]), here, m), known


def _spread(outcome: Outcome, here: np.ndarray, m: int) -> Outcome:
    """The outcome of k participants written into arrays for m, zero elsewhere."""
    wide: dict[str, Any] = {}
    for field in dataclasses.fields(outcome):
        value = getattr(outcome, field.name)
        if isinstance(value, np.ndarray):
            full = np.zeros((m,) * value.ndim, dtype=value.dtype)
            full[np.ix_(*[here] * value.ndim)] = value
            wide[field.name] = full
        elif isinstance(value, SparseMatrix):
            wide[field.name] = widened(value, here, m)
    return dataclasses.replace(outcome, **wide)

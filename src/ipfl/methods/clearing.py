"""Outcomes among those who are there, in a federation of m: absent participants trade with nobody."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ipfl.market import Bids, Outcome, by_the_truth, clear, without_payments

Cleared = tuple[Outcome, Float[np.ndarray, "m m"]]


def clear_present(
    bids: Bids,
    truth: Bids,
    distance: Float[np.ndarray, "m m"],
    present: Bool[np.ndarray, "m"],
    lam: float,
    allocation: str,
    payment: str,
) -> Cleared:
    """Clear the market of the present participants by their bids, and judge it by the truth.

    Returns:
      The outcome over all m (zeros for the absent), and the distances with NaN for the absent.
    """

    def clear_them(here: np.ndarray, near: np.ndarray) -> Outcome:
        outcome = clear(bids.take(here), near, lam=lam, allocation=allocation, payment=payment)
        return outcome if bids is truth else by_the_truth(outcome, truth.take(here), near, lam)

    return _among(present, distance, clear_them)


def bill_graph(
    truth: Bids,
    distance: Float[np.ndarray, "m m"],
    present: Bool[np.ndarray, "m"],
    lam: float,
    used: Bool[np.ndarray, "m m"],
    sent: Bool[np.ndarray, "m m"] | None = None,
) -> Cleared:
    """The outcome of a graph that a method without a market used: gains and export costs, no payments.

    Args:
      used: whose model each buyer used; whatever it says of the absent and of the diagonal is left out.
      sent: whose model each was sent, if more than that.
    """

    def cut(graph: np.ndarray, here: np.ndarray) -> np.ndarray:
        part: np.ndarray = graph[np.ix_(here, here)].copy()
        np.fill_diagonal(part, False)
        return part

    def bill_them(here: np.ndarray, near: np.ndarray) -> Outcome:
        more = None if sent is None else cut(sent, here)
        return without_payments(truth.take(here), near, lam, cut(used, here), more)

    return _among(present, distance, bill_them)


def _among(
    present: np.ndarray, distance: np.ndarray, settle: Callable[[np.ndarray, np.ndarray], Outcome]
) -> Cleared:
    here = np.flatnonzero(present)
    m = len(present)
    if here.size == m:
        return settle(here, distance), distance
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
    return dataclasses.replace(outcome, **wide)

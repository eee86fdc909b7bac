"""Clearing the market among those who are there, in a market of m."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ipfl.market import Bids, Outcome, clear


def clear_present(
    bids: Bids,
    distance: Float[np.ndarray, "m m"],
    present: Bool[np.ndarray, "m"],
    lam: float,
    allocation: str,
    payment: str,
) -> tuple[Outcome, Float[np.ndarray, "m m"]]:
    """Clear the market of the present participants; absent ones trade with nobody.

    Returns:
      The outcome over all m (zeros for the absent), and the distances with NaN for the absent.
    """
    here = np.flatnonzero(present)
    if here.size == len(present):
        return clear(bids, distance, lam=lam, allocation=allocation, payment=payment), distance
    grid = np.ix_(here, here)
    known = np.full_like(distance, np.nan)
    known[grid] = distance[grid]
    outcome = clear(bids.take(here), distance[grid], lam=lam, allocation=allocation, payment=payment)
    return _spread(outcome, here, len(present)), known


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

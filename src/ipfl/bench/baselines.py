"""What the market is measured against: the same work as research code usually does it.

- `fsolve_market`: one `scipy.optimize.fsolve` per pair of buyer and seller for the threshold, started at
  3 N_j, then the greedy rule and the marginal payments in Python loops.
- `brute_force`: every set of sellers for every buyer.

Both are written for comparison only; nothing in the market calls them.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import fsolve

from ipfl.market.gain import threshold
from ipfl.types.market import Bids

START = 3.0
"""Multiples of N_j at which the root finder starts."""


@dataclass(frozen=True)
class Baseline:
    """What a baseline found.

    Attributes:
      objective: gains minus costs minus friction of its graph.
      trades: how many.
      pairs: root finders run, or sets looked at.
      missed: root finders that did not reach the root (by 1e-6 of it).
    """

    objective: float
    trades: int
    pairs: int
    missed: int


def fsolve_market(bids: Bids, distance: Float[np.ndarray, "m m"], lam: float) -> Baseline:
    """Thresholds pair by pair, then the greedy graph and its payments in loops."""
    objective, trades, pairs, missed = 0.0, 0, 0, 0
    sizes, costs = bids.num_examples.tolist(), bids.export_cost.tolist()
    for buyer, valuation in enumerate(bids.valuation.tolist()):
        own = sizes[buyer]
        thresholds = []
        for seller, size in enumerate(sizes):
            if seller == buyer or valuation == 0.0:
                continue
            price = costs[seller] + lam * distance[buyer, seller] * size / own
            thresholds.append((_root(valuation, size, price), price, size))
        pairs += len(thresholds)
        missed += _missed(valuation, thresholds)
        chosen, total = [], own
        for x, price, size in sorted(thresholds, key=lambda entry: -entry[0]):
            if total + size >= x:
                break
            chosen.append((price, size))
            total += size
        payments = _payments(valuation, own, chosen)
        objective += math.sqrt(valuation / own) - math.sqrt(valuation / total) - sum(p for p, _ in chosen)
        trades += len(payments)
    return Baseline(objective, trades, pairs, missed)


def brute_force(bids: Bids, distance: Float[np.ndarray, "m m"], lam: float) -> Baseline:
    """The best of all sets of sellers, for every buyer."""
    objective, trades, looked_at = 0.0, 0, 0
    m = len(bids)
    sizes, costs = bids.num_examples.tolist(), bids.export_cost.tolist()
    for buyer, valuation in enumerate(bids.valuation.tolist()):
        own = sizes[buyer]
        sellers = [seller for seller in range(m) if seller != buyer]
        prices = {j: costs[j] + lam * distance[buyer, j] * sizes[j] / own for j in sellers}
        best, bought = 0.0, 0
        for count in range(m):
            for chosen in itertools.combinations(sellers, count):
                looked_at += 1
                total = own + sum(sizes[j] for j in chosen)
                value = math.sqrt(valuation / own) - math.sqrt(valuation / total)
                value -= sum(prices[j] for j in chosen)
                if value > best:
                    best, bought = value, count
        objective += best
        trades += bought
    return Baseline(objective, trades, looked_at, 0)


def _root(valuation: float, size: float, price: float) -> float:
    """Where importing `size` examples gains just the price."""

    def excess(x: np.ndarray) -> np.ndarray:
        return np.sqrt(valuation / (x - size)) - np.sqrt(valuation / x) - price

    if price <= 0:
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(fsolve(excess, START * size)[0])


def _payments(valuation: float, own: float, chosen: Sequence[tuple[float, float]]) -> list[float]:
    """The marginal gain of every seller chosen, with sums made anew for each."""
    payments = []
    for left_out in range(len(chosen)):
        total = own + sum(size for _, size in chosen)
        without = own + sum(size for place, (_, size) in enumerate(chosen) if place != left_out)
        payments.append(math.sqrt(valuation / without) - math.sqrt(valuation / total))
    return payments


def _missed(valuation: float, thresholds: Sequence[tuple[float, float, float]]) -> int:
    """How many roots are not those of the market's own solver."""
    if not thresholds:
        return 0
    roots, prices, sizes = np.array(thresholds, dtype=np.float64).T
    right = threshold(prices / math.sqrt(valuation), sizes)
    with np.errstate(invalid="ignore"):
        return int((~((roots == right) | (np.abs(roots - right) <= 1e-6 * right))).sum())

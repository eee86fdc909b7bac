"""The paper's graph: every buyer takes sellers by threshold, and stops at the first that does not fit.

Source: arXiv 2505.02462, the collaboration graph. Thresholds x_j come from `gain.threshold`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from ipfl.market.gain import threshold
from ipfl.market.problems import Problems


@dataclass(frozen=True, eq=False)
class Ranking:
    """Each buyer's sellers in the order in which the greedy rule meets them.

    Attributes:
      order: sellers by threshold, largest first, ties by lower index; the buyer itself comes last.
      thresholds: x_j in that order; -inf for the buyer itself.
      totals: N_i + the examples of all sellers up to and including each place.
      bought: how many sellers are bought: the first so many of the order.
    """

    order: Int64[np.ndarray, "b m"]
    thresholds: Float[np.ndarray, "b m"]
    totals: Float[np.ndarray, "b m"]
    bought: Int64[np.ndarray, "b"]

    def edges(self) -> tuple[Int64[np.ndarray, "e"], Int64[np.ndarray, "e"]]:
        """Every purchase as (row, place in the order)."""
        width = int(self.bought.max(initial=0))
        rows, places = np.nonzero(np.arange(width) < self.bought[:, None])
        return rows, places


def rank(problems: Problems) -> Ranking:
    """Order the sellers of every buyer by threshold and see how far the buyer goes.

    Takes seller j while n + N_j < x_j, n being what the buyer has so far, and stops at the first that fails.
    Going on past it would let a seller win or lose by pushing another out: the rule would no longer be
    monotone in the bid.
    """
    thresholds = seller_thresholds(problems)
    order = _falling(thresholds)
    thresholds = np.take_along_axis(thresholds, order, axis=1)
    totals = problems.own[:, None] + np.cumsum(problems.sizes[order], axis=1)
    fits = totals < thresholds
    # The buyer itself stands last and never fits, so there is always a first that fails.
    bought = np.argmin(fits, axis=1) if fits.size else np.zeros(len(fits), dtype=np.int64)
    return Ranking(order=order, thresholds=thresholds, totals=totals, bought=bought)


def _falling(thresholds: Float[np.ndarray, "b m"]) -> Int64[np.ndarray, "b m"]:
    """The order of each row's entries, largest first, ties by lower index.

    A sort that keeps ties in order takes more than twice as long, so only rows that have ties are sorted so.
    """
    order = np.argsort(-thresholds, axis=1)
    ordered = np.take_along_axis(thresholds, order, axis=1)
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    order[tied] = np.argsort(-thresholds[tied], axis=1, kind="stable")
    return order


def seller_thresholds(problems: Problems) -> Float[np.ndarray, "b m"]:
    """x_j of every seller for every buyer: N_j where K = 0 (never bought).

    -inf for the buyer itself and for what is not on offer (an infinite cost): these stand last and never fit.
    """
    prices = problems.prices
    result = np.empty(prices.shape)
    for curve, rows in problems.by_curve():
        amplitude = problems.amplitude[rows][:, None]
        rate = np.full((len(rows), prices.shape[1]), np.inf)
        with np.errstate(over="ignore"):
            np.divide(prices[rows], amplitude, out=rate, where=amplitude > 0)
        result[rows] = threshold(rate, problems.sizes[None, :], curve)
    result[np.isposinf(prices)] = -np.inf
    result[np.arange(len(prices)), problems.buyers] = -np.inf
    return result


def greedy_allocation(problems: Problems, ranking: Ranking) -> Bool[np.ndarray, "b m"]:
    """Who buys from whom."""
    allocation = np.zeros(ranking.order.shape, dtype=bool)
    rows, places = ranking.edges()
    allocation[rows, ranking.order[rows, places]] = True
    return allocation


def critical_thresholds(problems: Problems, ranking: Ranking) -> Float[np.ndarray, "b"]:
    """The least threshold with which a seller bought would still be bought: the same for all of a buyer.

    Let k be the first seller that fails, x_k its threshold, and n what the buyer ends up with. A bought
    seller j that asks for more moves back past the others who are bought. It goes on fitting while x_j > n;
    once behind k it is lost: without j either k still fails and nothing behind it is looked at, or k is
    bought and j would have to fit in with n + N_k >= x_k > x_j. So j is bought exactly while
    x_j > max(x_k, n).
    """
    rows = np.arange(len(ranking.bought))
    last = np.maximum(ranking.bought - 1, 0)
    had = np.where(ranking.bought > 0, ranking.totals[rows, last], problems.own)
    return np.asarray(np.maximum(ranking.thresholds[rows, ranking.bought], had))


def critical_payments(problems: Problems, ranking: Ranking) -> Float[np.ndarray, "b m"]:
    """For every purchase, the highest cost report at which the greedy rule would still buy (Myerson 1981).

    That report gives seller j the critical threshold x: p_ij = sqrt(K_i) * gain(x - N_j, N_j) - e_ij.
    """
    payments = np.zeros(ranking.order.shape)
    rows, places = ranking.edges()
    sellers = ranking.order[rows, places]
    sizes = problems.sizes[sellers]
    least = critical_thresholds(problems, ranking)[rows]
    price = problems.gains_from(rows, least - sizes, sizes)
    payments[rows, sellers] = price - problems.frictions[rows, sellers]
    return payments

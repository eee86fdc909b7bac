"""The most a seller could gain by misreporting its export cost, exactly.

What a buyer does is piecewise constant in one seller's report, so one report inside every interval between
breakpoints decides the supremum. The breakpoints have closed forms:

- exact: the best set with j in it does not depend on j's report, so each buyer buys j below one report,
  W(j for nothing) - W(without j), and not above it;
- greedy: j's place and the amounts that decide change only where j's threshold meets that of another seller or
  an amount already bought plus N_j.

Source: the breakpoint view of regret is that of Balcan, Sandholm and Vitercik, "Estimating Approximate
Incentive Compatibility", EC 2019; here it is exact.
"""

import numpy as np
from jaxtyping import Float

from ipfl.errors import check
from ipfl.market.clearing import well_being
from ipfl.market.greedy import rank
from ipfl.market.problems import Problems
from ipfl.market.regret import NEGLIGIBLE, Case, Regret, put
from ipfl.market.rules import Rule

Steps = tuple[np.ndarray, np.ndarray]
"""One buyer's breakpoints (k,), and what the seller earns from it in each of the k + 1 intervals."""


def cost_regret(case: Case) -> Regret:
    """For each participant, the supremum over reports of its export cost of what it gains over the truth."""
    m = len(case.truth)
    scale = case.scale
    regret, witness = np.zeros(m), np.array(case.truth.export_cost)
    tried = 0
    everyone = case.problems
    buyers = np.flatnonzero(everyone.amplitude > 0)
    for seller in range(m):
        block = everyone.take(buyers[buyers != seller])
        steps = earnings(case, block, seller)
        tried += sum(len(earned) for _, earned in steps)
        report, total = best_report(steps, scale)
        # The truth may lie on a breakpoint itself, a tie, and so in none of the intervals.
        honest = float(_earned(case, block, seller, case.truth.export_cost[seller]).sum())
        if total - honest > NEGLIGIBLE * scale:
            witness[seller] = report
            regret[seller] = verified_gain(case, seller, report)
            claimed = bool(abs(regret[seller] - (total - honest)) <= 1e-6 * scale)
            check(claimed, "a buyer's purchases and bill depend on its own problem only")
    return Regret(regret, witness, exact=True, reports=tried)


def earnings(case: Case, block: Problems, seller: int) -> list[Steps]:
    """What one seller earns from each buyer (payment less true cost), as a function of its report."""
    breakpoints = cost_breakpoints(case.rule, block, seller, case)
    reports = [between(points) for points in breakpoints]
    rows = np.repeat(np.arange(len(reports)), [len(points) for points in reports])
    trials = np.concatenate([*reports, np.zeros(0)])
    earned = _earned(case, block.take(rows), seller, trials)
    ends = np.cumsum([0, *[len(points) for points in reports]])
    return [(points, earned[ends[i] : ends[i + 1]]) for i, points in enumerate(breakpoints)]


def cost_breakpoints(rule: Rule, block: Problems, seller: int, case: Case) -> list[Float[np.ndarray, "k"]]:
    """For each buyer, the reports > 0 of one seller at which what the buyer does may change; rising."""
    if rule.allocation == "greedy":
        return _greedy_breakpoints(block, seller)
    exact = Rule("exact", "marginal")
    free = block.asked(seller, np.zeros(len(block.buyers)))
    absent = block.asked(seller, np.full(len(block.buyers), np.inf))
    with_it, without = put(free, exact, case.effort), put(absent, exact, case.effort)
    most = _worth(free, with_it.allocation) - _worth(absent, without.allocation)
    bought = with_it.allocation[:, seller] & (most > 0)
    return [most[row : row + 1] if bought[row] else np.zeros(0) for row in range(len(most))]


def ceiling(rule: Rule, block: Problems, seller: int, case: Case) -> Float[np.ndarray, "b"]:
    """For each buyer, the highest report at which it still buys from this seller; NaN if there is none."""
    breakpoints = cost_breakpoints(rule, block, seller, case)
    reports = [between(points) for points in breakpoints]
    rows = np.repeat(np.arange(len(reports)), [len(points) for points in reports])
    bills = put(block.take(rows).asked(seller, np.concatenate([*reports, np.zeros(0)])), rule, case.effort)
    ends = np.cumsum([0, *[len(points) for points in reports]])
    found = np.full(len(reports), np.nan)
    for row, points in enumerate(breakpoints):
        sold = bills.allocation[ends[row] : ends[row + 1], seller]
        if sold.any():
            found[row] = points[np.flatnonzero(sold)[-1]]
    return found


def between(breakpoints: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k1"]:
    """One report inside every interval of [0, infinity) that the breakpoints leave."""
    if not breakpoints.size:
        return np.ones(1)
    inside = np.concatenate(([breakpoints[0] / 2], (breakpoints[1:] + breakpoints[:-1]) / 2))
    return np.concatenate((inside, [2 * breakpoints[-1]]))


def total_earned(steps: list[Steps], reports: Float[np.ndarray, "r"]) -> Float[np.ndarray, "r"]:
    """What the seller earns from all buyers together at each report."""
    total = np.zeros(len(reports))
    for points, earned in steps:
        total += earned[np.searchsorted(points, reports, side="left")]
    return total


def best_report(steps: list[Steps], scale: float) -> tuple[float, float]:
    """The report that earns most, and what it earns; intervals of negligible width are passed over."""
    points = np.unique(np.concatenate([*(points for points, _ in steps), np.zeros(1)]))
    wide = np.concatenate(([True], np.diff(points) > NEGLIGIBLE * scale))
    reports = between(points[wide][1:])
    totals = total_earned(steps, reports)
    best = int(np.argmax(totals))
    return float(reports[best]), float(totals[best])


def verified_gain(case: Case, seller: int, report: float) -> float:
    """What the report gains over the truth when the whole market is cleared again, by the true types."""
    gained = []
    for bids in (case.truth, case.truth.with_report(seller, export_cost=report)):
        outcome = case.clear(bids)
        gained.append(well_being(case.truth, outcome, case.distance, case.lam).utilities[seller])
    return float(gained[1] - gained[0])


def _earned(case: Case, block: Problems, seller: int, reports: np.ndarray | float) -> np.ndarray:
    """What each buyer's payment leaves the seller, by its true cost, when it reports so much to that buyer."""
    bills = put(block.asked(seller, np.broadcast_to(reports, len(block.buyers))), case.rule, case.effort)
    cost = case.truth.export_cost[seller]
    return np.where(bills.allocation[:, seller], bills.payments[:, seller] - cost, 0.0)


def _worth(block: Problems, allocation: np.ndarray) -> Float[np.ndarray, "b"]:
    """G_i(S) minus the prices of S."""
    paid = np.where(allocation, block.prices, 0.0).sum(axis=1)
    return np.asarray(block.gains(block.imported(allocation)) - paid)


def _greedy_breakpoints(block: Problems, seller: int) -> list[Float[np.ndarray, "k"]]:
    """Reports at which x_j meets a threshold that the greedy rule looks at, or an amount bought plus N_j."""
    if not len(block.buyers):
        return []
    ranking = rank(block.asked(seller, np.full(len(block.buyers), np.inf)))
    size = block.sizes[seller]
    found = []
    for row, bought in enumerate(ranking.bought):
        thresholds = ranking.thresholds[row, : bought + 1]
        amounts = np.concatenate((block.own[row : row + 1], ranking.totals[row, :bought]))
        meets = np.concatenate((thresholds[np.isfinite(thresholds)], amounts + size))
        meets = meets[meets > size]
        rows = np.full(len(meets), row)
        reports = block.gains_from(rows, meets - size, np.full(len(meets), size))
        reports = reports - block.frictions[row, seller]
        found.append(np.unique(reports[(reports > 0) & np.isfinite(reports)]))
    return found

"""The most a buyer could gain, in surplus, by misreporting its valuation.

Under the exact graph this is exact. With s = sqrt(K), a set S is worth s * D(S) - Q(S): a line in s. The optimum
W(s) is the upper envelope of these lines, whose breakpoints are found by intersecting two known lines and
solving again at the intersection (Eisner and Severance 1976). The same holds for W without any one seller. On
an interval without breakpoints the set bought does not change and every bill is linear in s, so the supremum
is taken at an end. Under the greedy graph reports are searched: a lower bound.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ipfl.errors import check
from ipfl.market.problems import Problems
from ipfl.market.regret import NEGLIGIBLE, Case, Regret, put
from ipfl.market.rules import Rule

OPTIMUM = Rule("exact", "marginal")
FACTORS = np.concatenate(([0.0], np.geomspace(1 / 64, 64, 97)))
"""Multiples of sqrt(K) that are tried under the greedy graph."""
INSIDE = np.array([0.25, 0.5, 0.75])
"""Where an interval is probed: two points give the line, the third tests that it is one."""
APPROACH = 1e-6
"""How far inside its interval a witness stands, as a share of the width or of the report, whichever is less."""
NEARLY = 1e-7
"""Surpluses within this share of their size lie on one line."""
RESOLUTION = 1e-11
"""Sets are told apart down to about this share of what everything on offer would gain at the report."""


def valuation_regret(case: Case) -> Regret:
    """For each participant, the most its surplus could rise above that of the truth."""
    if case.rule.allocation == "exact":
        return _exact_regret(case)
    return _searched_regret(case)


def buyer_surplus(case: Case, rows: np.ndarray, reports: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """True surplus from buying, G - friction - charges, of buyers that report sqrt(K) = reports."""
    true = case.problems.take(rows)
    asked = _reporting(true, reports)
    bills = put(asked, case.rule, case.effort)
    friction = np.where(bills.allocation, true.frictions, 0.0).sum(axis=1)
    return np.asarray(true.gains(true.imported(bills.allocation)) - friction - bills.charges.sum(axis=1))


def _exact_regret(case: Case) -> Regret:
    m, scale = len(case.truth), case.scale
    true_amplitude = np.sqrt(case.truth.valuation)
    honest = buyer_surplus(case, np.arange(m), true_amplitude)
    regret, witness = np.zeros(m), np.array(case.truth.valuation)
    breakpoints = envelope_breakpoints(case)
    everything = _reporting(case.problems, np.ones(m)).gains(
        case.truth.num_examples.sum() - case.problems.own
    )
    tried, exact = 0, True
    for buyer in range(m):
        left, right = _intervals(breakpoints[buyer])
        reports = (left[:, None] + (right - left)[:, None] * INSIDE).ravel()
        seen = buyer_surplus(case, np.full(len(reports), buyer), reports).reshape(-1, 3)
        tried += len(reports)
        bend = np.abs(seen[:, 1] - (seen[:, 0] + seen[:, 2]) / 2)
        level = NEARLY * (scale + np.abs(seen).max(axis=1))
        # Where sets tie, which of them is bought, and so the bill, may differ from probe to probe: no line. Where
        # reports are so large that sets differ by rounding only, that makes no difference.
        rounding = RESOLUTION * right * everything[buyer]
        bent = (bend > level)[:, None]
        exact = exact and bool((bend <= level + rounding).all())
        # The outer probes stand half the width apart, and so do the middle and either end.
        slope = seen[:, 2] - seen[:, 0]
        lines = np.stack((seen[:, 1] - slope, seen[:, 1] + slope), axis=1)
        ends = np.where(bent, seen[:, ::2], lines)
        near = APPROACH * np.minimum(np.where(left > 0, left / (right - left), 1.0), 1.0)
        shares = np.where(bent, INSIDE[::2], np.stack((near, np.full(len(near), 1 - APPROACH)), axis=1))
        # The last interval has no right end: its bills must not fall for ever.
        endless = bool(slope[-1] > level[-1]) and not bent[-1, 0]
        check(not endless, "a buyer does not gain without limit by overstating K")
        ends[-1, 1] = -np.inf
        place, side = np.unravel_index(int(np.argmax(ends)), ends.shape)
        gained = float(ends[place, side] - honest[buyer])
        if gained > NEGLIGIBLE * scale:
            report = left[place] + (right[place] - left[place]) * shares[place, side]
            regret[buyer], witness[buyer] = gained, report**2
    return Regret(regret, witness, exact, reports=tried)


def _searched_regret(case: Case) -> Regret:
    m, scale = len(case.truth), case.scale
    true_amplitude = np.sqrt(case.truth.valuation)
    # A participant that values nothing is tried at the scale of the others.
    around = np.where(true_amplitude > 0, true_amplitude, true_amplitude.max(initial=0.0))
    honest = buyer_surplus(case, np.arange(m), true_amplitude)
    rows = np.repeat(np.arange(m), len(FACTORS))
    reports = (around[:, None] * FACTORS).ravel()
    seen = buyer_surplus(case, rows, reports).reshape(m, len(FACTORS)) if m else np.zeros((0, len(FACTORS)))
    best = np.argmax(seen, axis=1)
    gained = seen[np.arange(m), best] - honest
    regret = np.where(gained > NEGLIGIBLE * scale, gained, 0.0)
    witness = np.where(regret > 0, (around * FACTORS[best]) ** 2, case.truth.valuation)
    return Regret(regret, witness, exact=False, reports=len(rows))


@dataclass
class _Gap:
    """Two neighbouring lines of one envelope between which other lines may still lie."""

    task: int
    low: tuple[float, float]
    high: tuple[float, float]


def envelope_breakpoints(case: Case) -> list[Float[np.ndarray, "k"]]:
    """For each buyer, the values of sqrt(K) where W, or W without any one seller, changes its line."""
    m = len(case.truth)
    everyone = case.problems
    # One task per buyer and seller left out; leaving out the buyer itself is leaving out nobody.
    buyers, absent = np.repeat(np.arange(m), m), np.tile(np.arange(m), m)
    tasks = everyone.take(buyers)
    costs = np.array(tasks.costs)
    rows = np.arange(len(buyers))
    costs[rows, absent] = np.inf
    costs[rows, buyers] = np.inf
    tasks = Problems(
        tasks.buyers, tasks.own, tasks.amplitude, tasks.sizes, costs, tasks.frictions, tasks.curves
    )
    found: list[list[float]] = [[] for _ in range(m)]
    gaps = _widest_gaps(tasks)
    while gaps:
        meeting = np.array([(g.high[1] - g.low[1]) / (g.high[0] - g.low[0]) for g in gaps])
        rows = np.array([g.task for g in gaps])
        asked = _reporting(tasks.take(rows), meeting)
        gains, prices = _lines(asked, put(asked, OPTIMUM, case.effort).allocation)
        narrower = []
        for gap, s, gain, price in zip(gaps, meeting, gains, prices, strict=True):
            known = s * gap.low[0] - gap.low[1]
            slack = 1e-12 * (s * gap.high[0] + gap.high[1])
            inside = gap.low[0] < gain < gap.high[0]
            if inside and s * gain - price > known + slack:
                narrower += [
                    _Gap(gap.task, gap.low, (gain, price)),
                    _Gap(gap.task, (gain, price), gap.high),
                ]
            else:
                found[buyers[gap.task]].append(float(s))
        gaps = narrower
    return [np.unique(np.array(points)) for points in found]


def _widest_gaps(tasks: Problems) -> list[_Gap]:
    """Between the line for s near 0 (what is free) and that for large s (everything on offer)."""
    offered = np.isfinite(
        tasks.prices
    )  # neither left out here nor kept off the market by an infinite distance
    low_gains, low_prices = _lines(tasks, offered & (tasks.prices <= 0))
    high_gains, high_prices = _lines(tasks, offered)
    return [
        _Gap(
            task,
            (float(low_gains[task]), float(low_prices[task])),
            (float(high_gains[task]), float(high_prices[task])),
        )
        for task in map(int, np.flatnonzero(high_gains > low_gains))
    ]


def _lines(tasks: Problems, allocation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D and Q of the sets chosen: gain per unit of sqrt(K), and prices."""
    unit = _reporting(tasks, np.ones(len(tasks.buyers)))
    return unit.gains(unit.imported(allocation)), np.where(allocation, tasks.prices, 0.0).sum(axis=1)


def _reporting(block: Problems, amplitude: np.ndarray) -> Problems:
    """The same problems with another sqrt(K)."""
    return Problems(
        block.buyers, block.own, amplitude, block.sizes, block.costs, block.frictions, block.curves
    )


def _intervals(points: Float[np.ndarray, "k"]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of (0, infinity); the last is cut at twice its start, as it goes on alike."""
    if not points.size:
        return np.zeros(1), np.ones(1)
    left, right = np.concatenate(([0.0], points)), np.concatenate((points, [2 * points[-1]]))
    wide = right - left > 1e-12 * right
    return left[wide], right[wide]

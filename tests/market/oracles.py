"""Markets to test on, and slow answers to compare with, straight from the definitions."""

import itertools
import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ipfl.market import Bids, Logarithmic, Outcome, PowerLaw, SquareRoot, clear
from ipfl.market.clearing import settle
from ipfl.market.exact import Effort
from ipfl.market.problems import problems

RULE_PAIRS = [
    ("greedy", "marginal"),
    ("greedy", "critical"),
    ("exact", "marginal"),
    ("exact", "vcg"),
    ("exact", "vcg-subsidised"),
]
EXACT_PAIRS = RULE_PAIRS[2:]


LAW = settings(deadline=None, derandomize=True, max_examples=60)
COSTLY = settings(LAW, phases=[Phase.explicit, Phase.generate])
"""For laws that take long to test: a counter-example is not made smaller."""


@dataclass(frozen=True)
class Saturating:
    """A curve of one's own, exp(-n/reach) - exp(-(n + a)/reach), which no compiled code knows."""

    reach: float = 40.0

    def gain(self, num_examples: Any, more: Any) -> Any:
        return -np.exp(-np.asarray(num_examples) / self.reach) * np.expm1(-np.asarray(more) / self.reach)


CURVES = [
    SquareRoot(),
    PowerLaw(0.3),
    PowerLaw(1.5, 8.0),
    Logarithmic(0.2),
    Logarithmic(0.5, 25.0),
    Saturating(),
]


@dataclass(frozen=True)
class Market:
    bids: Bids
    distance: np.ndarray
    lam: float

    def clear(self, allocation="exact", payment="vcg", **effort) -> Outcome:
        return clear(self.bids, self.distance, self.lam, allocation, payment, **effort)

    def reporting(self, participant, **report) -> "Market":
        return Market(self.bids.with_report(int(participant), **report), self.distance, self.lam)

    def curve(self, buyer):
        return SquareRoot() if self.bids.curves is None else self.bids.curves[buyer]

    def gain(self, buyer, before, more) -> float:
        root = math.sqrt(self.bids.valuation[buyer])
        return root * float(self.curve(buyer).gain(float(before), float(more)))

    def friction(self, buyer, seller) -> float:
        N = self.bids.num_examples
        return self.lam * self.distance[buyer, seller] * float(N[seller]) / float(N[buyer])

    def price(self, buyer, seller) -> float:
        return self.bids.export_cost[seller] + self.friction(buyer, seller)

    @property
    def scale(self) -> float:
        """The most that anyone could gain."""
        N = self.bids.num_examples
        return max((self.gain(i, N[i], N.sum() - N[i]) for i in range(len(N))), default=0.0) or 1.0


def make_bids(num_examples, valuation, export_cost, curves) -> Bids:
    """The run-time type checker looks at a random entry of a tuple; Hypothesis wants that state left alone."""
    state = random.getstate()
    bids = Bids(num_examples, valuation, export_cost, curves=curves)
    random.setstate(state)
    return bids


@st.composite
def markets(draw, min_size=0, max_size=6, curves=True) -> Market:
    """Any market: ties, zeros and lone participants are likely."""
    m = draw(st.integers(min_size, max_size))
    sizes = draw(arrays(np.int64, m, elements=st.integers(1, 60)))
    valuation = draw(arrays(np.float64, m, elements=st.one_of(st.just(0.0), st.floats(0.01, 2000.0))))
    cost = draw(arrays(np.float64, m, elements=st.one_of(st.just(0.0), st.floats(0.001, 3.0))))
    distance = draw(arrays(np.float64, (m, m), elements=st.floats(0.0, 2.0, width=16)))
    lam = draw(st.sampled_from([0.0, 0.01, 0.1, 1.0]))
    chosen = None
    if curves and draw(st.booleans()):
        chosen = tuple(draw(st.sampled_from(CURVES)) for _ in range(m))
    return Market(make_bids(sizes, valuation, cost, chosen), distance, lam)


def random_market(seed, m, curves=None, size=(5, 400)) -> Market:
    """A market without ties, in which buying is often worth it."""
    rng = np.random.default_rng(seed)
    N = rng.integers(*size, m)
    valuation = np.where(rng.random(m) < 0.15, 0.0, 10 ** rng.uniform(0.5, 4.5, m))
    worth = np.sqrt(np.median(valuation[valuation > 0])) / np.sqrt(np.median(N)) if valuation.any() else 1.0
    cost = rng.uniform(0.0, 0.3, m) * worth
    distance = rng.uniform(0.0, 2.0, (m, m))
    if curves == "mixed":
        curves = tuple(CURVES[k] for k in rng.integers(0, len(CURVES), m))
    elif curves == "built-in":
        curves = tuple(CURVES[k] for k in rng.integers(0, len(CURVES) - 1, m))
    return Market(make_bids(N, valuation, cost, curves), distance, float(rng.uniform(0, 0.2) * worth))


SEEDS = st.integers(0, 2**32 - 1)


def subsets(m) -> np.ndarray:
    return np.array(list(itertools.product([False, True], repeat=m)), dtype=bool).reshape(2**m, m)


def set_values(market, buyer) -> tuple[np.ndarray, np.ndarray]:
    """Every set without the buyer, and G_i(S) minus the prices of S."""
    m = len(market.bids)
    sets = subsets(m)
    sets = sets[~sets[:, buyer]]
    own = float(market.bids.num_examples[buyer])
    imported = sets @ market.bids.num_examples.astype(np.float64)
    prices = np.array([market.price(buyer, seller) for seller in range(m)])
    root = math.sqrt(market.bids.valuation[buyer])
    values = root * np.asarray(market.curve(buyer).gain(own, imported)) - sets @ prices
    return sets, values


def best_value(market, buyer, without=None) -> float:
    sets, values = set_values(market, buyer)
    if without is not None:
        values = values[~sets[:, without]]
    return float(values.max())


def is_unique(market, buyer, share=1e-7) -> bool:
    """Whether the best set is ahead of the second best by a clear margin."""
    _, values = set_values(market, buyer)
    return len(values) == 1 or np.diff(np.sort(values)[-2:])[0] > share * market.scale


def vcg_payments(market, buyer) -> np.ndarray:
    sets, values = set_values(market, buyer)
    best = int(np.argmax(values))
    payments = np.zeros(len(market.bids))
    for seller in np.flatnonzero(sets[best]):
        payments[seller] = (
            market.bids.export_cost[seller] + values[best] - best_value(market, buyer, without=seller)
        )
    return payments


def slow_threshold(market, buyer, seller) -> float:
    """x_j by bisection on the exponent of x - N_j."""
    price, size = market.price(buyer, seller), float(market.bids.num_examples[seller])
    if price <= 0:
        return math.inf
    low, high = -200.0, 200.0
    for _ in range(100):
        middle = (low + high) / 2
        if market.gain(buyer, math.exp(middle), size) > price:
            low = middle
        else:
            high = middle
    return math.exp(low) + size


def slow_greedy(market, buyer) -> tuple[list[int], float]:
    """Whom the greedy rule takes, in order, and the smallest relative margin of any of its decisions."""
    others = [seller for seller in range(len(market.bids)) if seller != buyer]
    x = {seller: slow_threshold(market, buyer, seller) for seller in others}
    ranked = sorted(others, key=lambda seller: (-x[seller], seller))
    finite = sorted(value for value in x.values() if math.isfinite(value))
    margin = min((b / a - 1 for a, b in itertools.pairwise(finite)), default=1.0)
    taken, n = [], float(market.bids.num_examples[buyer])
    for seller in ranked:
        after = n + market.bids.num_examples[seller]
        if math.isfinite(x[seller]):
            margin = min(margin, abs(after / x[seller] - 1))
        if not after < x[seller]:
            break
        taken.append(seller)
        n = float(after)
    return taken, margin


def highest_winning_reports(market, seller, rule) -> np.ndarray:
    """For each buyer, by bisection over reports of one seller's cost, the mechanism being asked again each time."""
    block = problems(market.bids, market.distance, market.lam)

    def sold(reports):
        return settle(block.asked(seller, reports), rule, Effort()).allocation[:, seller]

    low, high = np.zeros(len(market.bids)), np.full(len(market.bids), 1.01 * market.scale)
    ever = sold(low)
    assert not sold(high).any()
    for _ in range(32):
        middle = (low + high) / 2
        still = sold(middle)
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    return np.where(ever, low, np.nan)

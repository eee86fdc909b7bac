"""The exact graph against brute force, its proof, and its behaviour where the search is cut short."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.market import Bids, exact
from ipfl.market.exact import Effort, optimum
from ipfl.market.problems import problems
from market.oracles import (
    COSTLY,
    EXACT_PAIRS,
    SEEDS,
    Market,
    best_value,
    is_unique,
    markets,
    random_market,
    set_values,
)
from tried import tried

COMPILED, PLAIN = 0, 10**9


def solved(market, with_premiums=True, compile_from=PLAIN, **effort):
    with mock.patch.object(exact, "COMPILE_FROM", compile_from):
        return optimum(problems(market.bids, market.distance, market.lam), with_premiums, Effort(**effort))


def worth(market, buyer, chosen):
    sets, values = set_values(market, buyer)
    return float(values[(sets == chosen).all(axis=1)][0])


@tried(
    st.one_of(
        markets(), st.builds(random_market, SEEDS, st.integers(2, 10), st.sampled_from([None, "mixed"]))
    ),
    times=40,
    in_full=200,
    how=COSTLY,
)
def test_optimum_equals_brute_force_with_proof(market):
    found = solved(market)
    for buyer in range(len(market.bids)):
        best = best_value(market, buyer)
        assert found.values[buyer] == pytest.approx(best, abs=1e-11 * market.scale)
        assert worth(market, buyer, found.allocation[buyer]) == pytest.approx(best, abs=1e-11 * market.scale)
        assert found.bounds[buyer] >= best - 1e-14 * market.scale
    outcome = market.clear()
    assert (outcome.gap == 0).all()
    np.testing.assert_array_equal(outcome.allocation, found.allocation)
    greedy = market.clear("greedy", "marginal")
    for buyer in range(len(market.bids)):
        assert worth(market, buyer, greedy.allocation[buyer]) <= found.values[buyer] + 1e-11 * market.scale


@tried(
    st.builds(random_market, SEEDS, st.integers(2, 9), st.just("mixed")), times=40, in_full=200, how=COSTLY
)
def test_premiums_are_what_the_optimum_loses_without_a_seller(market):
    found = solved(market)
    for buyer in range(len(market.bids)):
        if not is_unique(market, buyer):
            continue
        for seller in range(len(market.bids)):
            expected = 0.0
            if found.allocation[buyer, seller]:
                expected = best_value(market, buyer) - best_value(market, buyer, without=seller)
            assert found.premiums[buyer, seller] == pytest.approx(expected, abs=1e-10 * market.scale)


@tried(SEEDS, st.integers(3, 9), st.integers(1, 12), st.booleans(), times=25, in_full=120, how=COSTLY)
def test_search_cut_short_still_knows_how_far_it_may_be_from_the_optimum(seed, m, node_limit, with_premiums):
    market = random_market(seed, m, "mixed")
    found = solved(market, with_premiums, node_limit=node_limit)
    outcome = market.clear("exact", "vcg" if with_premiums else "marginal", node_limit=node_limit)
    for buyer in range(m):
        best = best_value(market, buyer)
        small = 1e-11 * market.scale
        assert found.values[buyer] == pytest.approx(worth(market, buyer, found.allocation[buyer]), abs=small)
        assert found.values[buyer] <= best + small
        assert best <= found.bounds[buyer] + 1e-14 * market.scale
        assert outcome.bound[buyer] == found.bounds[buyer]
        if found.values[buyer] < best - small:
            assert outcome.gap[buyer] == found.bounds[buyer] - found.values[buyer]
        assert outcome.gap[buyer] in (0.0, found.bounds[buyer] - found.values[buyer])


@pytest.mark.parametrize("payment", ["marginal", "vcg"])
def test_gap_is_there_where_the_search_was_cut_short_and_gone_where_it_was_not(payment):
    """Of 30 markets, those with a buyer whose optimum one node does not prove."""
    open_, missed = 0, 0
    for seed in range(30):
        market = random_market(seed, 8)
        short, full = market.clear("exact", payment, node_limit=1), market.clear()
        open_ += int((short.gap > 0).any())
        missed += int(short.objective < full.objective - 1e-9 * market.scale)
        assert (full.gap == 0).all()
        assert (short.bound >= full.bound - full.gap - 1e-11 * market.scale).all()
        # Everybody is still paid and no worse off than alone: bills follow what was found.
        assert short.surpluses.min() >= -1e-9 * market.scale
    assert open_ > 10
    # Pricing a seller searches again without it, and so finds most of what the first search missed.
    assert missed > 0 or payment == "vcg"


def test_better_set_met_while_pricing_a_seller_is_adopted():
    """The search without a seller may find, within the limit, what the search with it did not."""
    adopted = 0
    for seed in range(60):
        market = random_market(seed, 8)
        plain = solved(market, with_premiums=False, node_limit=4)
        priced = solved(market, with_premiums=True, node_limit=4)
        assert (priced.values >= plain.values).all()
        better = np.flatnonzero(priced.values > plain.values + 1e-9 * market.scale)
        adopted += len(better)
        for buyer in better:
            value = worth(market, buyer, priced.allocation[buyer])
            assert value == pytest.approx(priced.values[buyer], abs=1e-11 * market.scale)
    assert adopted > 0


@tried(
    st.builds(random_market, SEEDS, st.integers(2, 14), st.sampled_from([None, "built-in"])),
    st.sampled_from([3, 20, 1_000_000]),
    st.booleans(),
    times=20,
    in_full=100,
    how=COSTLY,
)
def test_compiled_and_plain_search_are_the_same(market, node_limit, with_premiums):
    plain = solved(market, with_premiums, PLAIN, node_limit=node_limit)
    compiled = solved(market, with_premiums, COMPILED, node_limit=node_limit)
    np.testing.assert_array_equal(compiled.allocation, plain.allocation)
    for field in ("premiums", "values", "bounds"):
        np.testing.assert_allclose(
            getattr(compiled, field), getattr(plain, field), rtol=0, atol=1e-12 * market.scale, err_msg=field
        )


@tried(
    st.builds(random_market, SEEDS, st.integers(2, 8), st.just("built-in")), times=20, in_full=80, how=COSTLY
)
def test_curve_known_only_by_its_gain_is_searched_alike(market):
    """The same curves, but hidden from the search: no code, no closed form of the peak."""

    class Hidden:
        def __init__(self, curve):
            self.gain = curve.gain

    hidden = Market(
        Bids(
            market.bids.num_examples, market.bids.valuation, market.bids.export_cost,
            curves=tuple(Hidden(curve) for curve in market.bids.curves),
        ),
        market.distance,
        market.lam,
    )  # fmt: skip
    known, unknown = solved(market), solved(hidden, compile_from=COMPILED)
    np.testing.assert_array_equal(known.allocation, unknown.allocation)
    np.testing.assert_allclose(known.premiums, unknown.premiums, rtol=0, atol=1e-12 * market.scale)


@tried(SEEDS, st.integers(2, 9), st.integers(1, 50), times=30, in_full=150, how=COSTLY)
def test_equal_sizes_are_solved_by_sorting(seed, m, size):
    """One node is enough for a proof."""
    market = random_market(seed, m, "mixed", size=(size, size + 1))
    outcome = market.clear(node_limit=1)
    assert (outcome.gap == 0).all()
    for buyer in range(m):
        expected = best_value(market, buyer)
        assert worth(market, buyer, outcome.allocation[buyer]) == pytest.approx(
            expected, abs=1e-11 * market.scale
        )


@pytest.mark.parametrize("pair", EXACT_PAIRS, ids="/".join)
def test_hopeless_seller_changes_nothing(pair):
    for seed in range(20):
        market = random_market(seed, 5)
        hopeless = market.reporting(4, export_cost=1e6 * market.scale)
        without = Market(market.bids.take(range(4)), market.distance[:4, :4], market.lam).clear(*pair)
        found = hopeless.clear(*pair)
        np.testing.assert_array_equal(found.allocation[:4, :4], without.allocation)
        np.testing.assert_allclose(found.payments[:4, :4], without.payments, atol=1e-12 * market.scale)


def near_ties(rate=1e-6, sellers=200, seed=0):
    """One buyer of 5000 examples whose best total is near 100,000; sellers of 1000 to 1100 at one rate."""
    sizes = np.random.default_rng(seed).integers(1000, 1101, sellers)
    m = sellers + 1
    bids = Bids(
        np.array([5000, *sizes]), np.array([4000.0, *[0.0] * sellers]), np.array([0.0, *(rate * sizes)])
    )
    return Market(bids, np.zeros((m, m)), 0.0)


def test_sellers_at_one_price_per_example_are_settled_with_proof_within_bounded_work():
    """No fractional bound tells their sets apart; the lattice of totals does. sqrt(K)/(2 n^1.5) = rate at
    n = (sqrt(4000)/2e-6)^(2/3) = 99999.99..., so the best integer total is 100000 and, if 95000 examples can be
    bought exactly, the optimum is sqrt(4000/5000) - sqrt(4000/100000) - 0.095 = 0.599427."""
    market = near_ties()
    outcome = market.clear(node_limit=200_000)
    best = math.sqrt(4000 / 5000) - math.sqrt(4000 / 100_000) - 0.095
    value = outcome.gains[0] - 1e-6 * (market.bids.num_examples @ outcome.allocation[0])
    assert value <= best + 1e-12
    assert value + outcome.gap[0] >= best - 1e-12
    assert outcome.bound[0] >= best - 1e-12
    assert outcome.gap[0] <= 1e-9 * market.scale
    assert value == pytest.approx(best, rel=1e-9)
    assert outcome.surpluses.min() >= -1e-9 * market.scale


def test_sellers_at_nearly_one_price_per_example_end_with_a_proof_or_a_stated_gap():
    market = near_ties()
    jitter = 1 + 1e-9 * np.random.default_rng(1).standard_normal(200)
    bids = market.bids
    market = Market(
        Bids(bids.num_examples, bids.valuation, np.array([0.0, *(bids.export_cost[1:] * jitter)])),
        market.distance,
        0.0,
    )
    for node_limit in (100, 20_000):
        outcome = market.clear("exact", "marginal", node_limit=node_limit)
        value = outcome.gains[0] - market.bids.export_cost @ outcome.allocation[0]
        assert 0 <= outcome.gap[0] <= 1e-6 * market.scale
        assert outcome.bound[0] >= value - 1e-15
        assert outcome.gap[0] in (0.0, pytest.approx(outcome.bound[0] - value, abs=1e-12))

"""Laws of a cleared market under every rule."""

import dataclasses
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.errors import BidError, InvariantError
from ipfl.market import Bids, clear, clearing, well_being
from market.oracles import LAW, RULE_PAIRS, SEEDS, Market, markets, random_market
from tried import tried

PAIRS = st.sampled_from(RULE_PAIRS)
MONEY = ("payments", "charges", "gains", "costs", "frictions", "paid", "received", "utilities", "surpluses")
TOTALS = ("welfare", "objective", "subsidy")


@tried(markets(), PAIRS, times=50, in_full=300, how=LAW)
def test_nobody_who_tells_the_truth_is_worse_off_than_alone(market, pair):
    outcome = market.clear(*pair)
    assert outcome.utilities.min(initial=0.0) >= -1e-9 * market.scale
    assert outcome.surpluses.min(initial=0.0) >= -1e-9 * market.scale
    bought = outcome.allocation
    assert (
        outcome.payments[bought] >= (market.bids.export_cost * bought)[bought] - 1e-9 * market.scale
    ).all()
    assert (outcome.payments[~bought] == 0).all()


@tried(markets(), PAIRS, times=50, in_full=300, how=LAW)
def test_outcome_adds_up_by_its_definitions(market, pair):
    outcome = market.clear(*pair)
    m, N, level = len(market.bids), market.bids.num_examples, 1e-12 * market.scale
    assert not outcome.allocation.diagonal().any()
    sold = outcome.allocation.sum(axis=0)
    for i in range(m):
        sellers = np.flatnonzero(outcome.allocation[i])
        assert outcome.gains[i] == pytest.approx(market.gain(i, N[i], N[sellers].sum()), rel=1e-12)
        assert outcome.costs[i] == pytest.approx(market.bids.export_cost[i] * sold[i], rel=1e-12)
        friction = math.fsum(market.friction(i, j) for j in sellers)
        assert outcome.frictions[i] == pytest.approx(friction, rel=1e-12)
        assert outcome.paid[i] == pytest.approx(math.fsum(outcome.charges[i]), rel=1e-12)
        assert outcome.received[i] == pytest.approx(math.fsum(outcome.payments[:, i]), rel=1e-12)
        utility = outcome.gains[i] - outcome.costs[i] - outcome.paid[i] + outcome.received[i]
        assert outcome.utilities[i] == pytest.approx(utility, abs=level)
        assert outcome.surpluses[i] == pytest.approx(utility - friction, abs=level)
    welfare = math.fsum([*outcome.gains, *-outcome.costs])
    assert outcome.welfare == pytest.approx(welfare, abs=level)
    assert outcome.objective == pytest.approx(welfare - math.fsum(outcome.frictions), abs=level)
    assert math.fsum(outcome.utilities) == pytest.approx(welfare + outcome.subsidy, abs=m * level)
    assert (outcome.allocation_rule, outcome.payment_rule) == pair


@tried(markets(), PAIRS, times=50, in_full=300, how=LAW)
def test_money_in_is_money_out(market, pair):
    """To the last unit: without a subsidy every amount paid is the amount received, bit for bit."""
    outcome = market.clear(*pair)
    if pair[1] == "vcg-subsidised":
        # No more than a premium is added to any charge, and none is taken away.
        assert (outcome.payments >= outcome.charges).all()
        difference = math.fsum([*outcome.payments.ravel(), *-outcome.charges.ravel()])
        assert outcome.subsidy == pytest.approx(difference, abs=1e-15 * len(market.bids) * market.scale)
    else:
        np.testing.assert_array_equal(outcome.payments, outcome.charges)
        assert outcome.subsidy == 0.0


@tried(SEEDS, st.integers(2, 8), PAIRS, st.randoms(use_true_random=False), times=30, in_full=150, how=LAW)
def test_permuting_participants_permutes_the_outcome(seed, m, pair, random):
    market = random_market(seed, m, "mixed")
    order = random.sample(range(m), m)
    moved = Market(market.bids.take(order), market.distance[np.ix_(order, order)], market.lam)
    before, after = market.clear(*pair), moved.clear(*pair)
    np.testing.assert_array_equal(after.allocation, before.allocation[np.ix_(order, order)])
    for field in MONEY:
        values = getattr(before, field)
        expected = values[np.ix_(order, order)] if values.ndim == 2 else values[order]
        np.testing.assert_allclose(getattr(after, field), expected, atol=1e-9 * market.scale, err_msg=field)
    for field in TOTALS:
        assert getattr(after, field) == pytest.approx(getattr(before, field), abs=1e-9 * market.scale)


@tried(markets(), PAIRS, st.integers(-30, 30), times=30, in_full=150, how=LAW)
def test_counting_money_in_a_unit_of_a_power_of_two_changes_nothing_at_all(market, pair, power):
    """K by a^2, c and lam by a: money by a. Powers of two make every step of it exact, ties included."""
    a = 2.0**power
    bids = dataclasses.replace(
        market.bids, valuation=market.bids.valuation * a * a, export_cost=market.bids.export_cost * a
    )
    before, after = market.clear(*pair), clear(bids, market.distance, market.lam * a, *pair)
    np.testing.assert_array_equal(after.allocation, before.allocation)
    for field in MONEY:
        np.testing.assert_allclose(
            getattr(after, field), a * getattr(before, field), rtol=1e-12, err_msg=field
        )
    for field in TOTALS:
        assert getattr(after, field) == pytest.approx(a * getattr(before, field), rel=1e-12, abs=1e-300)


@tried(SEEDS, st.integers(2, 7), PAIRS, st.floats(1e-6, 1e6), times=20, in_full=100, how=LAW)
def test_scaling_money_by_any_number_scales_the_outcome(seed, m, pair, a):
    market = random_market(seed, m, "mixed")
    bids = dataclasses.replace(
        market.bids, valuation=market.bids.valuation * a * a, export_cost=market.bids.export_cost * a
    )
    before, after = market.clear(*pair), clear(bids, market.distance, market.lam * a, *pair)
    np.testing.assert_array_equal(after.allocation, before.allocation)
    for field in (*MONEY, *TOTALS):
        expected = a * np.asarray(getattr(before, field))
        np.testing.assert_allclose(
            getattr(after, field), expected, atol=1e-9 * a * market.scale, err_msg=field
        )


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
@pytest.mark.parametrize("workers", [1, 2, None])
def test_outcome_does_not_depend_on_blocks_or_threads(pair, workers):
    market = random_market(3, 17, "built-in")
    whole = market.clear(*pair)
    with mock.patch.object(clearing, "BLOCK_ENTRIES", 40), mock.patch.object(clearing, "THREADS_FROM", 1):
        parts = market.clear(*pair, workers=workers)
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(parts, field.name), getattr(whole, field.name))


def test_error_in_a_thread_is_not_lost():
    market = random_market(0, 6)
    with (
        mock.patch.object(clearing, "BLOCK_ENTRIES", 6),
        mock.patch.object(clearing, "THREADS_FROM", 1),
        mock.patch.object(clearing, "settle", side_effect=InvariantError("broken")),
        pytest.raises(InvariantError, match="broken"),
    ):
        market.clear(workers=2)


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
@pytest.mark.parametrize(
    "bids",
    [
        Bids(np.zeros(0), np.zeros(0), np.zeros(0)),
        Bids(np.array([7]), np.array([36.0]), np.array([0.0])),
        Bids(np.array([4, 5, 6]), np.zeros(3), np.array([0.0, 0.1, 0.2])),
    ],
    ids=["nobody", "one participant", "all value nothing"],
)
def test_markets_without_trade_are_defined(pair, bids):
    """Who values nothing buys nothing, who is alone has nobody to buy from."""
    m = len(bids)
    outcome = clear(bids, np.ones((m, m)), 0.1, *pair)
    assert outcome.allocation.shape == (m, m)
    assert not outcome.allocation.any()
    for field in MONEY:
        assert not getattr(outcome, field).any()
    assert (outcome.welfare, outcome.objective, outcome.subsidy) == (0.0, 0.0, 0.0)


@settings(LAW, max_examples=60)
@given(markets())
def test_exact_graph_is_worth_at_least_the_greedy_one(market):
    greedy, exact = market.clear("greedy", "marginal"), market.clear("exact", "marginal")
    assert exact.objective >= greedy.objective - 1e-11 * len(market.bids) * market.scale
    assert np.isnan(greedy.bound).all()
    assert np.isnan(greedy.gap).all()


@settings(LAW, max_examples=60)
@given(markets(min_size=1), PAIRS)
def test_well_being_by_the_bids_themselves_is_that_of_the_outcome(market, pair):
    outcome = market.clear(*pair)
    judged = well_being(market.bids, outcome, market.distance, market.lam)
    for field in dataclasses.fields(judged):
        np.testing.assert_allclose(
            getattr(judged, field.name), getattr(outcome, field.name), rtol=1e-12, atol=1e-12 * market.scale
        )


def test_well_being_by_the_truth_after_a_lie():
    """Seller 2 of the counter-example asks 0.233562 instead of its cost 0.672902: it is paid 0.878680."""
    truth = Bids(np.array([4, 4, 4]), np.array([36.0, 0, 0]), np.array([0, 0.467123, 0.672902]))
    outcome = clear(truth.with_report(2, export_cost=0.233562), np.zeros((3, 3)), 0.0, "greedy", "marginal")
    assert outcome.costs[2] == 0.233562
    judged = well_being(truth, outcome, np.zeros((3, 3)), 0.0)
    assert judged.costs[2] == 0.672902
    assert judged.utilities[2] == pytest.approx(0.205778, abs=1e-6)


def test_well_being_of_another_number_of_participants_is_refused():
    market = random_market(0, 3)
    truth = market.bids.take([0, 1])
    with pytest.raises(BidError, match="the outcome is one of 3 participants, expected 2"):
        well_being(truth, market.clear(), np.ones((2, 2)), 0.1)


@pytest.mark.parametrize("tolerance", [-1e-12, 0.01, math.nan])
def test_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(BidError, match=rf"tolerance is {tolerance}, expected a number in \[0, 0.001\]"):
        random_market(0, 3).clear(tolerance=tolerance)


def test_node_limit_below_one_is_refused():
    with pytest.raises(BidError, match="node_limit is 0, expected a whole number >= 1"):
        random_market(0, 3).clear(node_limit=0)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (lambda s: {"payments": s.payments * 0, "charges": s.charges * 0}, "paid at least its reported cost"),
        (
            lambda s: {"payments": s.payments + 9, "charges": s.charges + 9},
            "no buyer pays more than it gains",
        ),
        (lambda s: {"allocation": ~s.allocation & False | np.eye(3, dtype=bool)}, "nobody buys from itself"),
    ],
)
def test_a_mechanism_that_breaks_a_law_of_money_is_stopped(change, law):
    """The rule is replaced by a wrong one, as a mistake of ours would."""
    bids = Bids(np.array([4, 5, 7]), np.array([36.0, 0, 0]), np.array([0.0, 0.1, 0.1]))
    if "itself" in law:
        bids = dataclasses.replace(bids, export_cost=np.zeros(3))

    def wrong(*arguments):
        settled = honest(*arguments)
        return dataclasses.replace(settled, **change(settled))

    honest = clearing.settle
    with mock.patch.object(clearing, "settle", wrong), pytest.raises(InvariantError, match=law):
        clear(bids, np.zeros((3, 3)), 0.0)

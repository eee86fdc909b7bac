"""The report of an audit as a whole."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import Bids, audit, regret
from market.oracles import LAW, RULE_PAIRS, SEEDS, Market, markets, random_market
from tried import tried

PAIRS = st.sampled_from(RULE_PAIRS)


def bare_audit(market, pair, **options):
    return audit(market.bids, market.distance, market.lam, *pair, **{"regrets": (), **options})


@tried(markets(), PAIRS, times=30, in_full=150, how=LAW)
def test_money_adds_up_to_the_last_unit_and_nobody_is_worse_off(market, pair):
    report = bare_audit(market, pair)
    assert report.imbalance == 0.0
    assert report.individually_rational
    assert report.scale == pytest.approx(market.scale, rel=1e-12)
    for least, whose, values in (
        (report.min_utility, report.min_utility_of, report.outcome.utilities),
        (report.min_surplus, report.min_surplus_of, report.outcome.surpluses),
    ):
        if len(values):
            assert least == values.min() == values[market.bids.ids.index(whose)]
        else:
            assert (least, whose) == (0.0, "")
    assert report.optimal_objective >= report.outcome.objective - 1e-10 * market.scale
    assert report.objective_ratio <= 1 + 1e-9
    assert report.max_gap == 0.0


@settings(LAW, max_examples=30)
@given(SEEDS, st.integers(2, 7), PAIRS)
def test_ratios_are_shares_of_the_exact_graph(seed, m, pair):
    market = random_market(seed, m)
    report, best = bare_audit(market, pair), market.clear("exact", "vcg")
    assert report.optimal_welfare == pytest.approx(best.welfare, abs=1e-12 * market.scale)
    assert report.optimal_objective == pytest.approx(best.objective, abs=1e-12 * market.scale)
    if best.objective > 0:
        assert report.objective_ratio == report.outcome.objective / report.optimal_objective
        assert report.welfare_ratio == report.outcome.welfare / report.optimal_welfare


def test_greedy_that_buys_nothing_has_a_ratio_of_zero_and_a_market_without_gain_one_of_one():
    """100 examples at 2.5 stop the greedy rule; the exact graph buys the single example at 0.12."""
    bids = Bids(np.array([4, 100, 1]), np.array([36.0, 0.0, 0.0]), np.array([0.0, 2.5, 0.12]))
    report = audit(bids, np.zeros((3, 3)), 0.0, "greedy", "critical", regrets=())
    assert (report.welfare_ratio, report.objective_ratio) == (0.0, 0.0)
    assert report.optimal_welfare == pytest.approx(3 - 6 / math.sqrt(5) - 0.12)
    dear = audit(bids.with_report(2, export_cost=9.0), np.zeros((3, 3)), 0.0, regrets=())
    assert (dear.welfare_ratio, dear.objective_ratio) == (1.0, 1.0)


def test_only_the_misreports_asked_for_are_audited():
    market = random_market(0, 4)
    report = bare_audit(market, ("exact", "vcg"), regrets=("cost",))
    assert (report.cost_regret == 0).all()
    for field in ("valuation_regret", "valuation_witness", "size_regret", "size_witness"):
        assert np.isnan(getattr(report, field)).all()
    assert not report.valuation_exact
    nothing = bare_audit(market, ("exact", "vcg"))
    assert nothing.reports == 0 < report.reports
    assert not nothing.truthful_on_cost


def test_unknown_misreport_is_refused():
    with pytest.raises(BidError, match="regret 'age' is unknown, expected any of cost, valuation, size"):
        bare_audit(random_market(0, 3), ("exact", "vcg"), regrets=("cost", "age"))


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
@pytest.mark.parametrize(
    "bids",
    [
        Bids(np.zeros(0), np.zeros(0), np.zeros(0)),
        Bids(np.array([7]), np.array([36.0]), np.array([0.1])),
        Bids(np.array([4, 5, 6]), np.zeros(3), np.array([0.0, 0.1, 0.2])),
    ],
    ids=["nobody", "one participant", "all value nothing"],
)
def test_markets_without_trade_are_audited(pair, bids):
    m = len(bids)
    report = audit(bids, np.ones((m, m)), 0.1, *pair)
    for name in ("cost", "valuation", "size"):
        assert getattr(report, f"{name}_regret").tolist() == [0.0] * m
    np.testing.assert_array_equal(report.cost_witness, bids.export_cost)
    np.testing.assert_array_equal(report.valuation_witness, bids.valuation)
    np.testing.assert_array_equal(report.size_witness, bids.num_examples)
    assert report.individually_rational
    assert report.truthful_on_cost
    assert (report.min_utility, report.imbalance, report.scale) == (0.0, 0.0, 1.0 if m != 1 else report.scale)


def test_gap_left_by_the_search_is_reported():
    market = next(
        m for m in (random_market(seed, 8) for seed in range(60)) if m.clear(node_limit=1).gap.any()
    )
    assert bare_audit(market, ("exact", "vcg"), node_limit=1).max_gap == market.clear(node_limit=1).gap.max()


def test_problems_are_put_to_the_mechanism_in_portions(monkeypatch):
    market, asked = random_market(1, 4, "mixed"), ("cost", "valuation")
    whole = bare_audit(market, ("exact", "marginal"), regrets=asked)
    monkeypatch.setattr(regret, "CHUNK_ENTRIES", 33)
    parts = bare_audit(market, ("exact", "marginal"), regrets=asked)
    for field in ("cost_regret", "cost_witness", "valuation_regret", "valuation_witness"):
        np.testing.assert_array_equal(getattr(parts, field), getattr(whole, field))


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
def test_permuting_participants_permutes_the_regrets(pair):
    market, order = random_market(5, 3), [2, 0, 1]
    moved = Market(market.bids.take(order), market.distance[np.ix_(order, order)], market.lam)
    before = audit(market.bids, market.distance, market.lam, *pair)
    after = audit(moved.bids, moved.distance, moved.lam, *pair)
    for name in ("cost_regret", "valuation_regret", "size_regret"):
        np.testing.assert_allclose(
            getattr(after, name), getattr(before, name)[order], atol=1e-9 * market.scale, err_msg=name
        )

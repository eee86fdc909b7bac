"""The paper's graph and the critical payments that go with it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.market import Bids
from ipfl.market.greedy import critical_payments, rank, seller_thresholds
from ipfl.market.problems import problems
from ipfl.market.rules import Rule
from market.oracles import (
    COSTLY,
    CURVES,
    SEEDS,
    Market,
    highest_winning_reports,
    markets,
    random_market,
    slow_greedy,
)
from tried import tried


def one_buyer(num_examples, costs, distances=None, lam=0.0, K=36.0, curves=None):
    """A buyer (participant 0) and its sellers; `costs` are those of the sellers."""
    m = len(num_examples)
    distance = np.zeros((m, m))
    if distances is not None:
        distance[0, 1:] = distances
    valuation = np.array([K, *[0.0] * (m - 1)])
    return Market(
        Bids(np.array(num_examples), valuation, np.array([0.0, *costs]), curves=curves), distance, lam
    )


def ranking_of(market):
    return rank(problems(market.bids, market.distance, market.lam))


def test_thresholds_worked_by_hand():
    """K = 36, N_0 = 4. Seller 1 (5 examples, price 1): x = 9. Seller 2 (7 examples, price 1/2): 6/sqrt(9) -
    6/sqrt(16) = 1/2, so x = 16. Seller 3 is free: infinite. Seller 4 asks more than any x could pay: near 2."""
    market = one_buyer([4, 5, 7, 3, 2], [1.0, 0.5, 0.0, 1e9])
    x = seller_thresholds(problems(market.bids, market.distance, market.lam))[0]
    np.testing.assert_allclose(x, [-math.inf, 9.0, 16.0, math.inf, 2.0], rtol=1e-14)
    found = ranking_of(market)
    assert found.order[0].tolist() == [3, 2, 1, 4, 0]
    assert found.totals[0].tolist() == [7.0, 14.0, 19.0, 21.0, 25.0]
    assert found.bought[0] == 2


def test_buyer_that_values_nothing_has_thresholds_at_the_sizes_and_buys_nothing_it_would_pay_for():
    market = one_buyer([4, 5, 7], [1.0, 0.5], K=0.0)
    x = seller_thresholds(problems(market.bids, market.distance, market.lam))[0]
    assert x.tolist() == [-math.inf, 5.0, 7.0]
    assert ranking_of(market).bought[0] == 0


def test_price_of_zero_is_taken_whatever_the_amount():
    """Free sellers of any size: 4 + 1 + 10^6 + 10^9 examples."""
    market = one_buyer([4, 1, 10**6, 10**9], [0.0, 0.0, 0.0])
    assert market.clear("greedy", "critical").allocation[0].tolist() == [False, True, True, True]
    assert market.clear("greedy", "marginal").allocation[0].tolist() == [False, True, True, True]


def test_greedy_stops_at_the_first_that_does_not_fit():
    """K = 36, N_0 = 4. Seller 1 has 100 examples at 2.5, more than 6/2 - 6/sqrt(104) = 2.411652, so it does not
    fit, though its threshold (just under 104) is the largest. Seller 2 has 1 example at 0.121320 = 6/sqrt(8) -
    6/sqrt(9), x = 9 > 5: going on would buy it, for a gain of 3 - 6/sqrt(5) = 0.316718. Stopping buys nothing.
    The exact graph buys seller 2 and pays it 0.121320 + (0.316718 - 0.121320) - 0 = 0.316718."""
    dear = 6 / math.sqrt(8) - 2
    market = one_buyer([4, 100, 1], [2.5, dear])
    x = seller_thresholds(problems(market.bids, market.distance, market.lam))[0]
    assert x[1] == pytest.approx(103.9, abs=0.2)
    assert x[2] == pytest.approx(9.0, rel=1e-13)
    assert not market.clear("greedy", "marginal").allocation.any()
    exact = market.clear()
    assert exact.allocation[0].tolist() == [False, False, True]
    assert exact.payments[0, 2] == pytest.approx(0.316718427, abs=1e-9)


def test_equal_thresholds_go_to_the_lower_index():
    market = one_buyer([4, 4, 4], [0.6, 0.6])
    assert market.clear("greedy", "critical").allocation[0].tolist() == [False, True, False]


def test_critical_payment_worked_by_hand():
    """Alone, seller 1 (4 examples) is bought up to 6/sqrt(4) - 6/sqrt(8) = 0.878680. With a second seller at
    0.672902 it is bought until it asks as much, and with friction e = 0.1 * 0.5 * 4/4 = 0.05 until its cost is
    0.05 below that."""
    alone = one_buyer([4, 4], [0.467123]).clear("greedy", "critical")
    assert alone.payments[0, 1] == pytest.approx(3 - 6 / math.sqrt(8), rel=1e-14)
    both = one_buyer([4, 4, 4], [0.467123, 0.672902])
    assert both.clear("greedy", "critical").payments[0, 1:] == pytest.approx([0.672902, 0.0], rel=1e-13)
    apart = one_buyer([4, 4, 4], [0.467123, 0.672902], distances=[0.5, 0.0], lam=0.1)
    assert apart.clear("greedy", "critical").payments[0, 1] == pytest.approx(0.622902, rel=1e-13)


def test_critical_payment_with_unequal_sizes_worked_by_hand():
    """Sellers of 5 and 7 examples at 0.15 each, both bought: n = 16, nobody fails. Each is bought while x_j > 16,
    so up to what it adds to the others: 6/sqrt(11) - 6/4 = 0.309068 and 6/3 - 6/4 = 0.5."""
    outcome = one_buyer([4, 5, 7], [0.15, 0.15]).clear("greedy", "critical")
    assert outcome.payments[0, 1:] == pytest.approx([6 / math.sqrt(11) - 1.5, 0.5], rel=1e-14)


@tried(SEEDS, st.integers(2, 7), times=25, in_full=100, how=COSTLY)
def test_graph_is_that_of_the_literal_rule(seed, m):
    market = random_market(seed, m, "mixed")
    found = market.clear("greedy", "marginal")
    for buyer in range(m):
        taken, margin = slow_greedy(market, buyer)
        if margin > 1e-9:
            assert sorted(taken) == np.flatnonzero(found.allocation[buyer]).tolist()


@tried(SEEDS, st.integers(2, 4), st.sampled_from([None, None, "mixed"]), times=5, in_full=30, how=COSTLY)
def test_critical_payment_is_the_highest_report_that_still_wins(seed, m, curves):
    market = random_market(seed, m, curves)
    outcome = market.clear("greedy", "critical")
    for seller in range(m):
        highest = highest_winning_reports(market, seller, Rule("greedy", "critical"))
        sold = outcome.allocation[:, seller]
        paid = outcome.payments[sold, seller]
        np.testing.assert_allclose(paid, highest[sold], rtol=0, atol=1e-7 * market.scale)


@tried(
    SEEDS,
    st.integers(2, 7),
    st.sampled_from([None, "mixed", *CURVES]),
    st.lists(st.floats(0, 1), min_size=2, max_size=6, unique=True),
    times=25,
    in_full=100,
    how=COSTLY,
)
def test_winner_that_asks_for_less_still_wins(seed, m, curves, shares):
    """Monotone in the bid, for every gain curve: what critical payments rest on."""
    market = random_market(seed, m, curves if curves in (None, "mixed") else (curves,) * m)
    sold = [
        market.reporting(1, export_cost=report).clear("greedy", "marginal").allocation[:, 1]
        for report in sorted(share * market.scale for share in shares)
    ]
    for cheap, dear in itertools.pairwise(sold):
        assert (cheap >= dear).all()


@tried(markets(min_size=2), times=30, in_full=150, how=COSTLY)
def test_every_seller_bought_adds_at_least_its_price(market):
    found = market.clear("greedy", "marginal")
    for buyer, seller in zip(*np.nonzero(found.allocation), strict=True):
        without = market.bids.num_examples @ found.allocation[buyer] - market.bids.num_examples[seller]
        added = market.gain(
            buyer, market.bids.num_examples[buyer] + without, market.bids.num_examples[seller]
        )
        assert added >= market.price(buyer, seller) - 1e-9 * market.scale


@tried(SEEDS, st.integers(2, 6), st.integers(1, 300), times=30, in_full=150, how=COSTLY)
def test_equal_sizes_make_greedy_optimal(seed, m, size):
    market = random_market(seed, m, "mixed", size=(size, size + 1))
    greedy, exact = market.clear("greedy", "marginal"), market.clear("exact", "marginal")
    assert greedy.objective == pytest.approx(exact.objective, abs=1e-9 * market.scale)


def test_one_big_dear_seller_ends_the_greedy_rule_at_once():
    """A known weakness of stopping: 1000 examples at any price have a threshold above 1000, and come first."""
    market = one_buyer([4, 4, 1000], [0.467123, 1e9])
    for payment in ("marginal", "critical"):
        assert not market.clear("greedy", payment).allocation.any()
    assert market.clear().allocation[0].tolist() == [False, True, False]


def test_market_of_nobody_has_an_empty_ranking():
    nobody = random_market(0, 3)
    empty = problems(nobody.bids, nobody.distance, 0.1).take(np.zeros(0, dtype=np.int64))
    found = rank(empty)
    assert found.bought.shape == (0,)
    assert all(len(part) == 0 for part in found.edges())
    assert critical_payments(empty, found).shape == (0, 3)

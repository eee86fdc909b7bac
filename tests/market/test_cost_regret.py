"""The regret of sellers: worked by hand, zero where it is proven to be, and never below what a grid of lies finds."""

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.market import Bids, audit, well_being
from ipfl.market.cost_regret import between, ceiling, cost_breakpoints
from ipfl.market.exact import Effort
from ipfl.market.regret import Case
from ipfl.market.rules import Rule
from market.oracles import COSTLY, RULE_PAIRS, SEEDS, Market, highest_winning_reports, markets, random_market
from tried import tried

TRUTHFUL = [pair for pair in RULE_PAIRS if pair[1] != "marginal"]
MARGINAL = [pair for pair in RULE_PAIRS if pair[1] == "marginal"]


def cost_audit(market, pair, **effort):
    return audit(market.bids, market.distance, market.lam, *pair, regrets=("cost",), **effort)


def utility(market, participant, pair, report):
    """What a participant gets, by the true types, when it reports this cost and the market is cleared."""
    outcome = market.reporting(participant, export_cost=report).clear(*pair)
    return well_being(market.bids, outcome, market.distance, market.lam).utilities[participant]


def two_sellers(first=0.467123, second=0.672902):
    bids = Bids(np.array([4, 4, 4]), np.array([36.0, 0.0, 0.0]), np.array([0.0, first, second]))
    return Market(bids, np.zeros((3, 3)), 0.0)


@pytest.mark.parametrize("pair", MARGINAL, ids="/".join)
def test_marginal_payments_let_the_dearer_seller_of_the_counter_example_win_by_a_lie(pair):
    """K = 36, N = 4. Truth sells seller 1 only. Seller 2 asking for 0.233562 < 0.467123 sells instead, is paid
    6/sqrt(4) - 6/sqrt(8) = 0.878680 whatever it asked, and gains 0.878680 - 0.672902 = 0.205778."""
    market = two_sellers()
    report = cost_audit(market, pair)
    assert report.cost_regret == pytest.approx([0.0, 0.0, 0.205778], abs=1e-6)
    assert report.cost_regret[2] == pytest.approx(3 - 6 / np.sqrt(8) - 0.672902, abs=1e-12)
    assert 0 <= report.cost_witness[2] < 0.467123
    assert report.cost_witness[:2].tolist() == [0.0, 0.467123]
    assert not report.truthful_on_cost
    lie = market.reporting(2, export_cost=report.cost_witness[2]).clear(*pair)
    assert lie.allocation[0].tolist() == [False, False, True]
    assert lie.payments[0, 2] == pytest.approx(0.878680, abs=1e-6)
    for lie in (report.cost_witness[2], 0.233562):
        assert utility(market, 2, pair, lie) == pytest.approx(0.205778, abs=1e-6)


@pytest.mark.parametrize("pair", TRUTHFUL, ids="/".join)
def test_no_lie_pays_on_the_counter_example_under_the_other_rules(pair):
    report = cost_audit(two_sellers(), pair)
    assert report.cost_regret.tolist() == [0.0, 0.0, 0.0]
    assert report.cost_witness.tolist() == [0.0, 0.467123, 0.672902]
    assert report.truthful_on_cost


@pytest.mark.parametrize("pair", MARGINAL, ids="/".join)
def test_a_tie_lost_is_regretted(pair):
    """Both ask 0.467123: the lower index sells. Seller 2, a hair cheaper, would be paid 0.878680: 0.411557 more.
    The truth lies on a breakpoint, so it belongs to none of the intervals beside it."""
    report = cost_audit(two_sellers(second=0.467123), pair)
    assert report.cost_regret == pytest.approx([0.0, 0.0, 0.411557], abs=1e-6)
    assert report.cost_witness[2] < 0.467123


@pytest.mark.parametrize("pair", TRUTHFUL, ids="/".join)
def test_a_tie_lost_is_not_regretted_where_the_winner_earns_nothing(pair):
    assert cost_audit(two_sellers(second=0.467123), pair).truthful_on_cost


@tried(
    st.one_of(
        markets(max_size=5),
        st.builds(random_market, SEEDS, st.integers(2, 7), st.sampled_from([None, "mixed"])),
    ),
    st.sampled_from(TRUTHFUL),
    times=16,
    in_full=80,
    how=COSTLY,
)
def test_no_seller_gains_by_any_lie_on_its_cost(market, pair):
    report = cost_audit(market, pair)
    assert (report.cost_regret == 0).all()
    np.testing.assert_array_equal(report.cost_witness, market.bids.export_cost)


@tried(
    st.one_of(
        markets(min_size=2, max_size=4),
        st.builds(random_market, SEEDS, st.integers(2, 4), st.sampled_from([None, "mixed"])),
    ),
    st.sampled_from([*MARGINAL, *MARGINAL, *TRUTHFUL]),
    times=4,
    in_full=20,
    how=COSTLY,
)
def test_regret_is_at_least_what_a_dense_grid_of_lies_finds_and_its_witness_attains_it(market, pair):
    report = cost_audit(market, pair)
    small = 1e-9 * market.scale
    grid = np.concatenate((np.linspace(0, market.scale, 15), market.bids.export_cost * (1 - 1e-6)))
    honest = market.clear(*pair).utilities
    for participant in range(len(market.bids)):
        best = max(utility(market, participant, pair, lie) for lie in grid) - honest[participant]
        assert report.cost_regret[participant] >= best - 2 * small
        attained = utility(market, participant, pair, report.cost_witness[participant]) - honest[participant]
        assert attained == pytest.approx(report.cost_regret[participant], abs=small)


@pytest.mark.parametrize("pair", MARGINAL, ids="/".join)
def test_a_good_share_of_random_markets_has_a_profitable_lie_under_marginal_payments(pair):
    """Otherwise the tests above would prove little."""
    regrets = [cost_audit(random_market(seed, 6), pair).cost_regret.max() for seed in range(15)]
    assert sum(regret > 0 for regret in regrets) >= 3


def case_of(market, pair, **effort):
    return Case(market.bids, market.distance, market.lam, Rule(*pair), Effort(**effort))


@pytest.mark.parametrize("pair", [("greedy", "critical"), ("exact", "vcg")], ids="/".join)
def test_ceiling_is_the_highest_report_that_still_sells(pair):
    """And what is paid, under the rules that pay the critical value."""
    for seed in range(4):
        market = random_market(seed, 4)
        case, outcome = case_of(market, pair), market.clear(*pair)
        for seller in range(4):
            found = ceiling(case.rule, case.problems, seller, case)
            highest = highest_winning_reports(market, seller, case.rule)
            np.testing.assert_allclose(found, highest, rtol=0, atol=1e-7 * market.scale)
            sold = outcome.allocation[:, seller]
            paid = outcome.payments[sold, seller]
            np.testing.assert_allclose(found[sold], paid, rtol=0, atol=1e-9 * market.scale)
            assert np.isnan(found[seller])
            assert np.isnan(found[market.bids.valuation == 0]).all()


def test_breakpoints_of_the_exact_graph_worked_by_hand():
    """Seller 2 of the counter-example is bought below 0.467123, seller 1's cost, and not above."""
    market = two_sellers()
    case = case_of(market, ("exact", "vcg"))
    points = cost_breakpoints(case.rule, case.problems.take(np.array([0])), 2, case)
    assert [values.tolist() for values in points] == [[pytest.approx(0.467123)]]


def test_breakpoints_of_the_greedy_graph_worked_by_hand():
    """Without seller 2: seller 1 is bought. Seller 2 meets its threshold at 0.467123, the buyer's own 4 + 4
    at 3 - 6/sqrt(8) = 0.878680, and what is bought, 8 + 4, at 6/sqrt(8) - 6/sqrt(12) = 0.389270."""
    market = two_sellers()
    case = case_of(market, ("greedy", "critical"))
    points = cost_breakpoints(case.rule, case.problems.take(np.array([0])), 2, case)
    assert points[0] == pytest.approx([0.389270, 0.467123, 0.878680], abs=1e-6)
    nobody = case.problems.take(np.zeros(0, dtype=np.int64))
    assert cost_breakpoints(case.rule, nobody, 2, case) == []


def test_one_report_lies_inside_every_interval():
    assert between(np.zeros(0)).tolist() == [1.0]
    assert between(np.array([2.0])).tolist() == [1.0, 4.0]
    assert between(np.array([2.0, 4.0, 10.0])).tolist() == [1.0, 3.0, 7.0, 20.0]

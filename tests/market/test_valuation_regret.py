"""The regret of buyers on their valuation: zero where it is proven to be, and at least what a grid finds."""

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.market import Bids, audit, well_being
from ipfl.market.cost_regret import cost_regret
from ipfl.market.exact import Effort
from ipfl.market.regret import Case
from ipfl.market.rules import Rule
from ipfl.market.valuation_regret import envelope_breakpoints
from market.oracles import COSTLY, EXACT_PAIRS, RULE_PAIRS, SEEDS, Market, markets, random_market, set_values
from tried import tried

GREEDY_PAIRS = RULE_PAIRS[:2]


def valuation_audit(market, pair):
    return audit(market.bids, market.distance, market.lam, *pair, regrets=("valuation",))


def surplus(market, participant, pair, report):
    """What a participant gets, by the true types, when it reports this valuation and the market is cleared."""
    outcome = market.reporting(participant, valuation=report).clear(*pair)
    return well_being(market.bids, outcome, market.distance, market.lam).surpluses[participant]


def one_seller():
    """K = 36, N = 4 and a seller of 4 examples at 0.3: G = 3 - 6/sqrt(8) = 0.878680."""
    return Market(Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.3])), np.zeros((2, 2)), 0.0)


@pytest.mark.parametrize("pair", [("exact", "vcg"), ("exact", "marginal")], ids="/".join)
def test_buyer_of_one_seller_pays_all_it_says_it_gains_so_it_says_less(pair):
    """It is charged s (1/2 - 1/sqrt(8)) = 0.146447 s for a report of K = s^2, and buys while that is above 0.3: so the
    best report is just above s = 2.048528, where it keeps 0.878680 - 0.3 = 0.578680. The truth keeps nothing."""
    report = valuation_audit(one_seller(), pair)
    assert report.valuation_exact
    assert report.valuation_regret[0] == pytest.approx(0.578680, abs=1e-6)
    assert np.sqrt(report.valuation_witness[0]) == pytest.approx(2.048528, abs=1e-5)
    assert report.valuation_regret[1] == 0.0
    assert report.valuation_witness[1] == 0.0
    assert surplus(one_seller(), 0, pair, report.valuation_witness[0]) == pytest.approx(0.578680, abs=1e-5)


@pytest.mark.parametrize("pair", GREEDY_PAIRS, ids="/".join)
def test_the_search_under_the_greedy_graph_comes_close_from_below(pair):
    report = valuation_audit(one_seller(), pair)
    assert not report.valuation_exact
    assert 0.5 < report.valuation_regret[0] <= 0.878680 - 0.3
    witness = report.valuation_witness[0]
    assert surplus(one_seller(), 0, pair, witness) == pytest.approx(report.valuation_regret[0], abs=1e-9)


@tried(
    st.one_of(
        markets(max_size=4),
        st.builds(random_market, SEEDS, st.integers(2, 6), st.sampled_from([None, "mixed"])),
    ),
    times=12,
    in_full=60,
    how=COSTLY,
)
def test_nobody_gains_by_a_lie_on_its_valuation_where_the_operator_pays_the_rest(market):
    report = valuation_audit(market, ("exact", "vcg-subsidised"))
    assert report.valuation_exact or market.bids.curves is not None
    assert (report.valuation_regret == 0).all()
    np.testing.assert_array_equal(report.valuation_witness, market.bids.valuation)


@tried(
    st.one_of(
        markets(min_size=2, max_size=4),
        st.builds(random_market, SEEDS, st.integers(2, 4), st.sampled_from([None, "mixed"])),
    ),
    st.sampled_from(EXACT_PAIRS),
    times=4,
    in_full=20,
    how=COSTLY,
)
def test_exact_regret_is_at_least_what_a_dense_grid_of_lies_finds_and_its_witness_comes_close(market, pair):
    report = valuation_audit(market, pair)
    top = np.sqrt(market.bids.valuation.max()) or 1.0
    grid = (top * np.concatenate((np.linspace(0, 1.5, 19), np.geomspace(2, 50, 4)))) ** 2
    honest = market.clear(*pair).surpluses
    for participant in range(len(market.bids)):
        best = max(surplus(market, participant, pair, lie) for lie in grid) - honest[participant]
        assert report.valuation_regret[participant] >= best - 1e-8 * market.scale
        attained = (
            surplus(market, participant, pair, report.valuation_witness[participant]) - honest[participant]
        )
        assert attained == pytest.approx(report.valuation_regret[participant], abs=1e-4 * market.scale)


@tried(
    st.one_of(markets(), st.builds(random_market, SEEDS, st.integers(2, 6), st.just("mixed"))),
    st.sampled_from(GREEDY_PAIRS),
    times=6,
    in_full=30,
    how=COSTLY,
)
def test_searched_regret_is_attained_by_its_witness(market, pair):
    report = valuation_audit(market, pair)
    honest = market.clear(*pair).surpluses
    assert (report.valuation_regret >= 0).all()
    for participant in range(len(market.bids)):
        attained = (
            surplus(market, participant, pair, report.valuation_witness[participant]) - honest[participant]
        )
        assert attained == pytest.approx(report.valuation_regret[participant], abs=1e-9 * market.scale)


@tried(
    st.builds(random_market, SEEDS, st.integers(2, 5), st.sampled_from([None, "mixed"])),
    times=8,
    in_full=40,
    how=COSTLY,
)
def test_optimum_bends_nowhere_between_breakpoints(market):
    """W, and W without any one seller, is a line in sqrt(K) on each interval, by brute force at three points."""
    case = Case(market.bids, market.distance, market.lam, Rule("exact", "vcg"), Effort())
    for buyer, points in enumerate(envelope_breakpoints(case)):
        # Values at sqrt(K) = 0 and 1 give the line of every set.
        sets, nothing = set_values(market.reporting(buyer, valuation=0.0), buyer)
        slopes = set_values(market.reporting(buyer, valuation=1.0), buyer)[1] - nothing
        ends = np.array([0.0, *points, 3 * points[-1] if len(points) else 1.0])
        probes = ends[:-1, None] + np.diff(ends)[:, None] * np.array([0.1, 0.5, 0.9])
        for absent in range(len(market.bids)):
            among = ~sets[:, absent]
            best = (probes[:, :, None] * slopes[among] + nothing[among]).max(axis=2)
            bend = np.abs(best[:, 1] - (best[:, 0] + best[:, 2]) / 2)
            assert (bend <= 1e-9 * (market.scale + best[:, 2])).all()


def tied():
    """Sellers of 1, 2 and 3 examples at 0.05 each example: 3 is worth as much as 1 and 2 at every valuation."""
    sizes = np.array([4, 1, 2, 3, 3, 4, 2])
    valuation = np.array([36.0, 0, 0, 0, 0, 0, 0])
    return Market(Bids(sizes, valuation, 0.05 * sizes), np.zeros((7, 7)), 0.0)


@pytest.mark.parametrize("pair", EXACT_PAIRS, ids="/".join)
def test_markets_full_of_ties_are_audited_and_lines_are_claimed_only_where_there_are_lines(pair):
    report = valuation_audit(tied(), pair)
    honest = tied().clear(*pair).surpluses[0]
    if pair[1] == "vcg-subsidised":
        assert (report.valuation_regret == 0).all()
    for lie in np.geomspace(0.1, 1000, 15):
        gained = surplus(tied(), 0, pair, lie) - honest
        assert gained <= report.valuation_regret[0] + 1e-9 or not report.valuation_exact


def test_regrets_of_nobody_are_empty():
    nobody = random_market(0, 2).bids.take(np.zeros(0, dtype=np.int64))
    case = Case(nobody, np.zeros((0, 0)), 0.1, Rule("exact", "vcg"), Effort())
    assert envelope_breakpoints(case) == []
    assert cost_regret(case).regret.shape == (0,)

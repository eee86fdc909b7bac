"""Distances and lam that make no market, and the problem of each buyer."""

import math

import numpy as np
import pytest

from ipfl.errors import BidError
from ipfl.market import Bids, audit, clear
from ipfl.market.problems import check_market, problems
from market.oracles import CURVES, RULE_PAIRS, random_market

BIDS = Bids(
    np.array([4, 8, 2]),
    np.array([36.0, 1.0, 4.0]),
    np.array([0.1, 0.2, 0.3]),
    participant_ids=("a", "b", "c"),
)


@pytest.mark.parametrize("value", [math.nan, -math.inf, -1e-9, 2.0000001])
@pytest.mark.parametrize("run", [clear, audit])
def test_distance_out_of_range_names_both_participants(run, value):
    distance = np.ones((3, 3))
    distance[1, 2] = value
    message = rf"participant b: distance to c is {value}, expected a finite number in \[0, 2\]"
    with pytest.raises(BidError, match=message):
        run(BIDS, distance)


@pytest.mark.parametrize("value", [math.nan, math.inf, -7.0])
@pytest.mark.parametrize("lam", [0.0, 0.1])
@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
def test_diagonal_is_never_read(value, lam, pair):
    distance = np.full((3, 3), 0.5)
    expected = clear(BIDS, distance, lam, *pair)
    np.fill_diagonal(distance, value)
    found = clear(BIDS, distance, lam, *pair)
    np.testing.assert_array_equal(found.payments, expected.payments)
    np.testing.assert_array_equal(found.surpluses, expected.surpluses)
    report = audit(BIDS, distance, lam, *pair, regrets=("cost", "valuation"))
    assert report.min_surplus == expected.surpluses.min()


@pytest.mark.parametrize("lam", [-0.1, math.nan, math.inf])
def test_lam_below_zero_or_not_finite_is_refused(lam):
    with pytest.raises(BidError, match=f"lam is {lam}, expected a finite number >= 0"):
        clear(BIDS, np.ones((3, 3)), lam)


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (0, 0)])
def test_distance_of_another_shape_is_refused(shape):
    with pytest.raises(BidError, match=rf"distance has shape \({shape[0]}, {shape[1]}\), expected \(3, 3\)"):
        clear(BIDS, np.ones(shape))


@pytest.mark.parametrize(
    "distance", [np.ones((3, 3), dtype=bool), np.full((3, 3), "1"), np.full((3, 3), None)]
)
def test_distance_that_holds_no_numbers_is_refused(distance):
    with pytest.raises(BidError, match="distance is not an array of numbers"):
        check_market(BIDS, distance, 0.1)


def test_distance_of_a_lone_participant_is_not_read():
    lone = Bids(np.array([4]), np.array([36.0]), np.array([0.0]))
    assert clear(lone, np.array([[math.nan]])).welfare == 0.0


def test_friction_worked_by_hand():
    """lam = 0.5, d = 0.5: e = 0.25 * N_j / N_i; buyer a (4): 2/4 and 8/4 of it; prices add the seller's cost."""
    found = problems(BIDS, np.full((3, 3), 0.5), 0.5, slice(0, 1))
    np.testing.assert_allclose(found.frictions, [[0.0, 0.5, 0.125]], rtol=1e-15)
    np.testing.assert_allclose(found.prices[0, 1:], [0.7, 0.425], rtol=1e-15)
    assert found.amplitude.tolist() == [6.0]


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
def test_friction_beyond_the_largest_number_means_never_bought(pair):
    outcome = clear(BIDS, np.ones((3, 3)), 1e308, *pair)
    assert not outcome.allocation.any()
    assert outcome.objective == 0.0


def test_rows_may_be_taken_again_and_asked_another_price():
    market = random_market(0, 5, "mixed")
    block = problems(market.bids, market.distance, market.lam)
    twice = block.take(np.array([3, 3, 1]))
    assert twice.buyers.tolist() == [3, 3, 1]
    assert twice.curves == tuple(market.bids.curves[i] for i in (3, 3, 1))
    asked = twice.asked(2, np.array([0.0, 1.0, np.inf]))
    assert asked.costs[:, 2].tolist() == [0.0, 1.0, np.inf]
    assert (np.delete(asked.costs, 2, axis=1) == np.delete(twice.costs, 2, axis=1)).all()


def test_gains_of_mixed_curves_are_those_of_each_buyer():
    m = len(CURVES)
    bids = Bids(np.full(m, 9), np.full(m, 4.0), np.zeros(m), curves=tuple(CURVES))
    block = problems(bids, np.zeros((m, m)), 0.0)
    expected = [2.0 * float(curve.gain(9.0, 7.0)) for curve in CURVES]
    np.testing.assert_allclose(block.gains(np.full(m, 7.0)), expected, rtol=1e-15)

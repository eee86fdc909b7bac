"""Money in whole units: laws of rounding, and of the bills of small markets under every rule."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ipfl.errors import BidError, InvariantError
from ipfl.market import Bids, clear
from ipfl.market.units import AMOUNT_MAX, UNITS, billed, exact_units, units_down, units_up, whole_units
from market.oracles import LAW, RULE_PAIRS, markets
from tried import tried

CREDITS_MAX = 2**33
"""Below it, whole numbers of units are told apart as credits in float64."""
COSTS = st.one_of(st.floats(0, 1e-5), st.floats(0, 5), st.floats(0, 1e10), st.floats(0, 1e300))
UNIT_COUNTS = st.one_of(st.integers(0, 100), st.integers(0, 10**9), st.integers(0, CREDITS_MAX * UNITS - 1))
NEAR = st.integers(-2, 2)


def near(amount: float, steps: int) -> float:
    """A neighbour of a float64, some floats away."""
    for _ in range(abs(steps)):
        amount = math.nextafter(amount, math.inf if steps > 0 else 0.0)
    return amount


def bids_of(*costs: float) -> Bids:
    m = len(costs)
    return Bids(np.full(m, 4), np.full(m, 36.0), np.array(costs))


# ---------------------------------------------------------------- rounding


@given(COSTS)
def test_a_cost_becomes_the_fewest_units_that_cover_it_as_written(cost):
    written = Fraction(repr(cost))
    units = units_up(cost)
    assert Fraction(units, UNITS) >= written > Fraction(units - 1, UNITS)


@given(UNIT_COUNTS, NEAR)
def test_a_price_becomes_the_most_units_that_are_not_more(count, steps):
    amount = near(count / UNITS, steps)
    units = int(units_down(np.array([amount]))[0])
    assert units / UNITS <= amount < (units + 1) / UNITS
    if steps == 0:
        assert units == count


@given(UNIT_COUNTS)
def test_whole_units_are_written_and_read_without_loss(count):
    assert exact_units(np.array([count / UNITS])).tolist() == [count]
    assert units_up(count / UNITS) == count


@given(UNIT_COUNTS.filter(lambda count: count < 10**12), st.sampled_from([-1, 1]))
def test_an_amount_next_to_a_whole_one_is_not_taken_for_it(count, step):
    amount = near(count / UNITS, step)
    if amount != count / UNITS:
        with pytest.raises(InvariantError, match="every amount that is billed is a whole number of units"):
            exact_units(np.array([0.5, amount]))


@pytest.mark.parametrize("amount", [CREDITS_MAX, 1e18, math.inf, math.nan])
def test_an_amount_whose_units_cannot_be_told_apart_is_refused(amount):
    with pytest.raises(BidError, match=r"more than the 8,589,934,592 credits that can be billed: divide val"):
        units_down(np.array([0.5, amount]))
    assert units_down(np.array([near(CREDITS_MAX, -1)]))[0] < AMOUNT_MAX


def test_no_amounts_are_no_units():
    assert units_down(np.zeros(0)).tolist() == exact_units(np.zeros(0)).tolist() == []


# ---------------------------------------------------------------- bids


@given(st.lists(COSTS, max_size=5))
def test_whole_costs_are_the_least_that_cover_the_reported_ones_and_stay_as_they_are(costs):
    bids = bids_of(*costs)
    whole = whole_units(bids)
    assert whole_units(whole) is whole
    assert (whole is bids) == (whole.export_cost.tolist() == costs)
    np.testing.assert_array_equal(whole.valuation, bids.valuation)
    for reported, cost in zip(costs, whole.export_cost.tolist(), strict=True):
        assert cost == units_up(reported) / UNITS >= reported


def test_prohibitive_costs_stay():
    """A buyer that sells to nobody reports a cost beyond all gains; it is whole already, whatever its size."""
    bids = bids_of(1e9, 2.0**33, 1e22, 1e300, 0.0)
    assert whole_units(bids) is bids
    assert whole_units(bids_of(1e300, 0.12345678)).export_cost.tolist() == [1e300, 0.123457]


# ---------------------------------------------------------------- bills


def units_of(matrix: object) -> np.ndarray:
    dense = matrix if isinstance(matrix, np.ndarray) else np.asarray(matrix.todense())
    return exact_units(dense.ravel()).reshape(dense.shape)


@tried(markets(), st.sampled_from(RULE_PAIRS), st.booleans(), times=80, in_full=1500, how=LAW)
def test_bills_in_whole_units_keep_the_laws_of_the_market(market, pair, sparse):
    bids, distance, m = whole_units(market.bids), market.distance, len(market.bids)
    if sparse:
        buyers, sellers = np.nonzero(~np.eye(m, dtype=bool))
        distance = csr_array((distance[buyers, sellers], (buyers, sellers)), shape=(m, m))
    exact = clear(bids, distance, market.lam, *pair)
    bill = billed(exact, bids)
    before, after = exact.edges(), bill.edges()

    # who buys from whom stays, and how matrices are kept too
    assert type(bill.allocation) is type(bill.payments) is type(bill.charges) is type(exact.allocation)
    for side in ("buyers", "sellers"):
        np.testing.assert_array_equal(getattr(after, side), getattr(before, side))
    for field in ("gains", "costs", "frictions", "bound", "gap", "welfare", "objective"):
        np.testing.assert_array_equal(getattr(bill, field), getattr(exact, field))

    # no price rises or falls by a unit, but to cover a cost that rounding errors undercut; nobody sells below cost
    costs = bids.export_cost[after.sellers]
    prices, asked = exact_units(after.payments), exact_units(costs)
    assert (prices >= asked).all()
    lifted = before.payments < costs
    assert (after.payments <= before.payments)[~lifted].all()
    assert (after.payments + 1 / UNITS > before.payments).all()
    assert (prices == asked)[lifted].all()
    charges = exact_units(after.charges)
    assert (charges >= 0).all()
    assert (charges <= prices).all()

    # money in is money out, to the unit
    paid, received = exact_units(bill.paid), exact_units(bill.received)
    np.testing.assert_array_equal(paid, units_of(bill.charges).sum(axis=1))
    np.testing.assert_array_equal(received, units_of(bill.payments).sum(axis=0))
    subsidy = exact_units(np.array([bill.subsidy]))[0]
    assert received.sum() - paid.sum() == subsidy == prices.sum() - charges.sum() >= 0
    assert (pair[1] == "vcg-subsidised") or (subsidy == 0 and bill.charges is bill.payments)

    # what each one is left with changes by less than a unit a sale
    trades = np.bincount(after.buyers, minlength=m) + np.bincount(after.sellers, minlength=m)
    slack = trades / UNITS + 1e-9 * market.scale
    assert (np.abs(bill.utilities - exact.utilities) <= slack).all()
    assert (np.abs(bill.surpluses - exact.surpluses) <= slack).all()
    np.testing.assert_allclose(bill.surpluses, bill.utilities - bill.frictions, atol=1e-12)

    # and what is billed can be billed again
    again = billed(bill, bids)
    np.testing.assert_array_equal(units_of(again.payments), units_of(bill.payments))
    np.testing.assert_array_equal(units_of(again.charges), units_of(bill.charges))


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
def test_a_seller_with_a_prohibitive_cost_sells_nothing_and_hinders_nobody(pair):
    bids = Bids(np.array([4, 4, 4]), np.array([36.0, 36.0, 0.0]), np.array([1e9, 1e300, 0.25]))
    bill = billed(clear(whole_units(bids), np.zeros((3, 3)), 0.0, *pair), whole_units(bids))
    assert bill.allocation.tolist() == [[False, False, True], [False, False, True], [False, False, False]]


@settings(LAW, max_examples=20)
@given(st.sampled_from(RULE_PAIRS), st.floats(1e11, 1e15))
def test_a_market_of_amounts_too_large_is_refused(pair, scale):
    """K = scale^2 and one seller that asks for nearly all that its model is worth."""
    bids = whole_units(Bids(np.array([4, 400]), np.array([scale**2, 0.0]), np.array([0.0, 0.4 * scale])))
    exact = clear(bids, np.zeros((2, 2)), 0.0, *pair)
    assert exact.allocation[0, 1]
    with pytest.raises(BidError, match=r"more than the 8,589,934,592 credits that can be billed"):
        billed(exact, bids)


def test_totals_too_large_are_refused_though_each_price_is_not():
    m = 4
    bids = Bids(np.full(m, 4), np.full(m, 1.0), np.zeros(m))
    exact = clear(bids, np.zeros((m, m)), 0.0)
    payments = np.where(exact.allocation, 4e9, 0.0)
    assert exact.allocation[0].sum() == 3
    large = dataclasses.replace(
        exact, payments=payments, charges=payments, paid=payments.sum(1), received=payments.sum(0)
    )
    with pytest.raises(BidError, match=r"a payment of 1.2e\+10 is more than"):
        billed(large, bids)


@pytest.mark.parametrize("undercut", [1e-15, 4e-7])
def test_a_price_that_rounding_errors_put_below_the_cost_is_lifted_to_it(undercut):
    bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
    exact = clear(bids, np.zeros((2, 2)), 0.0, "exact", "marginal")
    payments = np.where(exact.allocation, 0.5 - undercut, 0.0)
    bill = billed(dataclasses.replace(exact, payments=payments, charges=payments), bids)
    assert bill.payments[0, 1] == bill.paid[0] == bill.received[1] == 0.5


def test_a_market_of_nobody_is_billed():
    nobody = Bids(np.zeros(0), np.zeros(0), np.zeros(0))
    assert billed(clear(nobody, np.zeros((0, 0))), nobody).subsidy == 0.0

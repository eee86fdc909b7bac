"""Gain and threshold: worked by hand, and their laws for every curve."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import gain, threshold
from market.oracles import CURVES, LAW

SIZES = st.integers(1, 10**6)


def test_gain_worked_by_hand():
    """K = 36, N = 4: sqrt(36/4) = 3; with 5 more, 3 - sqrt(36/9) = 1; with 12 more, 3 - sqrt(36/16) = 1.5."""
    found = gain(np.array([36.0]), np.array([4]), np.array([0, 5, 12]))
    np.testing.assert_allclose(found, [0.0, 1.0, 1.5], rtol=1e-15)


def test_gain_of_a_valuation_of_zero_is_zero():
    assert gain(np.array([0.0]), np.array([4]), np.array([5])) == 0.0


def test_gain_of_few_examples_on_many_keeps_its_digits():
    """sqrt(K)/(2 n^1.5) per example to first order: with n = 10^12 a difference of roots would lose all."""
    found = gain(np.array([1.0]), np.array([10**12]), np.array([1]))
    np.testing.assert_allclose(found, [0.5e-18 * (1 - 0.75e-12)], rtol=1e-15)


@LAW
@given(st.floats(0, 1e12), SIZES, SIZES, SIZES)
def test_gain_is_bounded_monotone_and_concave(valuation, own, some, more):
    at = gain(np.array([valuation]), np.array([own]), np.array([0, some, some + more, some + 2 * more]))
    top = math.sqrt(valuation) / math.sqrt(own)
    assert at[0] == 0.0
    assert (np.diff(at) >= -1e-14 * top).all()
    assert at[-1] <= top * (1 + 1e-14)
    assert at[3] - at[2] <= at[2] - at[1] + 1e-13 * top


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("valuation", -1.0, 0),
        ("valuation", math.nan, 0),
        ("num_examples", 0.5, 1),
        ("imported", -1.0, 0),
        ("imported", math.inf, 0),
    ],
)
def test_gain_refuses_what_no_market_has(field, value, least):
    inputs = {name: np.array([4.0, 4.0]) for name in ("valuation", "num_examples", "imported")}
    inputs[field][1] = value
    with pytest.raises(
        BidError, match=f"participant 1: {field} is {value}, expected a finite number >= {least}"
    ):
        gain(**inputs)


def test_threshold_worked_by_hand():
    """N = 5: 6/sqrt(x - 5) - 6/sqrt(x) is 6/2 - 6/3 = 1 at x = 9, so a price of 1 is worth it below 9."""
    np.testing.assert_allclose(threshold(np.array([1 / 6]), np.array([5])), [9.0], rtol=1e-14)


def test_threshold_is_infinite_for_what_is_free_and_the_size_for_what_is_not_for_sale():
    for curve in CURVES:
        rates = np.array([-1.0, 0.0, math.inf])
        assert threshold(rates, np.array([7, 7, 7]), curve).tolist() == [math.inf, math.inf, 7.0]


def test_threshold_of_a_curve_that_starts_finite_is_the_size_when_the_price_is_above_its_start():
    """log((n + a + 25)/(n + 25)) never exceeds log((a + 25)/25) = log 2 for a = 25."""
    curve = CURVES[4]
    most = 0.5 * math.log(2)
    found = threshold(np.array([1.01 * most, 0.99 * most]), np.array([25, 25]), curve)
    assert found[0] == 25.0
    assert found[1] > 25.0


@LAW
@given(st.sampled_from(CURVES), st.floats(-12, 3), st.integers(1, 500))
def test_threshold_is_where_one_more_model_is_worth_its_price(curve, exponent, size):
    rate = 10.0**exponent
    x = float(threshold(np.array([rate]), np.array([size]), curve)[0])
    assert x >= size
    for n, worth in ((x - size) * (1 - 1e-6), True), ((x - size) * (1 + 1e-6), False):
        # A threshold within rounding of the size is a price that is never paid.
        if n > 1e-6 * size:
            assert (float(curve.gain(n, float(size))) > rate) is worth


@LAW
@given(st.sampled_from(CURVES), st.integers(1, 500), st.floats(-10, 2), st.floats(0.001, 3))
def test_threshold_falls_with_the_price(curve, size, exponent, step):
    rates = 10.0 ** np.array([exponent, exponent + step])
    cheap, dear = threshold(rates, np.array([size, size]), curve)
    assert cheap >= dear


@LAW
@given(st.floats(-15, 15), st.integers(1, 10**9))
def test_newton_and_bisection_agree_on_the_square_root(exponent, size):
    from ipfl.market.gain import _bisected_threshold

    rate, sizes = np.array([10.0**exponent]), np.array([float(size)])
    np.testing.assert_allclose(
        threshold(rate, sizes), _bisected_threshold(rate, sizes, CURVES[0]), rtol=1e-13
    )


def test_threshold_of_a_vanishing_price_is_infinite():
    assert threshold(np.array([1e-300, 5e-324]), np.array([4, 4])).tolist() == [math.inf, math.inf]

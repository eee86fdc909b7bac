"""The laws of every gain curve, and the names and parameters that make one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import GainCurve, Logarithmic, PowerLaw, SquareRoot, make_curve
from ipfl.market.search import coded_gain, coded_peak
from market.oracles import CURVES, LAW

POSITIVE = st.floats(0.05, 3.0)
ANY_CURVE = st.one_of(
    st.sampled_from(CURVES),
    st.builds(PowerLaw, exponent=POSITIVE, scale=POSITIVE),
    st.builds(Logarithmic, scale=POSITIVE, reference=st.floats(0, 1000)),
)
CODED = st.one_of(
    st.just(SquareRoot()),
    st.builds(PowerLaw, exponent=POSITIVE, scale=POSITIVE),
    st.builds(Logarithmic, scale=POSITIVE, reference=st.floats(0, 1000)),
)
COUNT = st.integers(1, 10**6)


@LAW
@given(ANY_CURVE, COUNT, COUNT, COUNT)
def test_laws_of_a_gain_curve(curve, n, a, b):
    assert isinstance(curve, GainCurve)
    n, a, b = float(n), float(a), float(b)
    whole = float(curve.gain(n, a + b))
    assert float(curve.gain(n, 0.0)) == 0.0
    assert 0.0 <= float(curve.gain(n, a)) <= whole * (1 + 1e-12)
    assert float(curve.gain(n, a)) + float(curve.gain(n + a, b)) == pytest.approx(whole, rel=1e-9, abs=1e-300)
    assert float(curve.gain(n + a, b)) <= float(curve.gain(n, b)) * (1 + 1e-12)


@LAW
@given(ANY_CURVE, COUNT)
def test_curve_of_arrays_is_the_curve_of_each_entry(curve, n):
    more = np.array([0.0, 1.0, 7.0, 1e5])
    together = curve.gain(np.full(4, float(n)), more)
    np.testing.assert_allclose(together, [float(curve.gain(float(n), a)) for a in more], rtol=1e-14)


@LAW
@given(CODED, COUNT, COUNT)
def test_coded_gain_is_the_gain_of_the_curve(curve, n, more):
    code = (curve.code, *curve.parameters())
    assert coded_gain(code, float(n), float(more)) == pytest.approx(
        float(curve.gain(float(n), float(more))), rel=1e-12
    )


@LAW
@given(CODED, st.floats(-9, -1))
def test_coded_peak_is_where_the_slope_equals_the_rate(curve, exponent):
    rate = 10.0**exponent
    peak = coded_peak((curve.code, *curve.parameters()), rate, 0.0)
    if peak > 1:
        width = 1e-4 * peak
        slope = float(curve.gain(peak - width, 2 * width)) / (2 * width)
        assert slope == pytest.approx(rate, rel=1e-3)


def test_coded_peak_of_what_is_free_is_left_to_the_caller():
    assert coded_peak((0.0, 0.0, 0.0), 0.0, 17.0) == 17.0


def test_square_root_is_the_power_law_of_one_half():
    n, more = np.array([1.0, 4.0, 9.0]), np.array([3.0, 12.0, 1e6])
    np.testing.assert_allclose(SquareRoot().gain(n, more), PowerLaw(0.5).gain(n, more), rtol=1e-13)
    np.testing.assert_allclose(
        SquareRoot().gain(n, more), [0.5, 0.25, 1 / 3 - 1 / np.sqrt(1e6 + 9)], rtol=1e-13
    )


def test_curves_are_made_by_name():
    assert make_curve("sqrt") == SquareRoot()
    assert make_curve("power", exponent=0.3, scale=2.0) == PowerLaw(0.3, 2.0)
    assert make_curve("log", reference=10.0) == Logarithmic(1.0, 10.0)


@pytest.mark.parametrize(
    ("family", "parameters", "message"),
    [
        ("cubic", {}, "gain curve 'cubic' is unknown, expected one of sqrt, power, log"),
        ("power", {}, "gain curve power: got the parameters none, expected exponent and perhaps scale"),
        ("sqrt", {"scale": 2.0}, "gain curve sqrt: got the parameters scale, expected none"),
        ("log", {"exponent": 2.0}, "gain curve log: got the parameters exponent, expected perhaps scale and"),
        ("power", {"exponent": 0.0}, "gain curve power: exponent is 0.0, expected a finite number > 0"),
        ("power", {"exponent": 1.0, "scale": np.inf}, "gain curve power: scale is inf, expected a finite"),
        ("log", {"scale": -1.0}, "gain curve log: scale is -1.0, expected a finite number > 0"),
        ("log", {"reference": -1.0}, "gain curve log: reference is -1.0, expected a finite number >= 0"),
        ("log", {"reference": np.nan}, "gain curve log: reference is nan, expected a finite number >= 0"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(family, parameters, message):
    with pytest.raises(BidError, match=message):
        make_curve(family, **parameters)

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.calibration.fit import ErrorCurve
from ipfl.calibration.worth import worth
from ipfl.errors import ConfigError
from ipfl.market import Bids, SquareRoot, clear

CURVES = st.builds(
    ErrorCurve, floor=st.floats(0, 0.2), scale=st.floats(0.01, 20), exponent=st.floats(0.01, 3.0)
)


@settings(deadline=None, max_examples=40)
@given(
    curve=CURVES,
    num_examples=st.integers(1, 10**6),
    per_point=st.floats(0.01, 1e3),
    more=st.integers(1, 10**6),
)
def test_money_is_the_worth_of_the_points_that_more_examples_bring(
    curve: ErrorCurve, num_examples: int, per_point: float, more: int
) -> None:
    found = worth(curve, num_examples, per_point)
    start = curve.scale * num_examples**-curve.exponent
    points = -100 * start * math.expm1(-curve.exponent * math.log1p(more / num_examples))
    assert found.money(more) == pytest.approx(per_point * points, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(curve=CURVES, num_examples=st.integers(1, 10**6))
def test_twice_the_worth_is_four_times_the_valuation_and_the_same_curve(
    curve: ErrorCurve, num_examples: int
) -> None:
    once, twice = worth(curve, num_examples, 1.0), worth(curve, num_examples, 2.0)
    assert twice.valuation == pytest.approx(4 * once.valuation, rel=1e-9)
    assert twice.gain_curve.scale == pytest.approx(once.gain_curve.scale, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(curve=CURVES, num_examples=st.integers(1, 10**6), nudge=st.sampled_from([0.97, 1.03]))
def test_the_valuation_suits_the_square_root_law_best(
    curve: ErrorCurve, num_examples: int, nudge: float
) -> None:
    found = worth(curve, num_examples, 100.0)
    more = np.linspace(found.more_max / 200, found.more_max, 200)
    wanted = np.array([found.money(count) for count in more])
    law = SquareRoot().gain(num_examples, more)

    def missed(root: float) -> float:
        return float(((root * law - wanted) ** 2).sum())

    root = math.sqrt(found.valuation)
    assert missed(root) <= missed(nudge * root)
    assert found.square_root_off == pytest.approx(np.abs(root * law - wanted).max(), rel=1e-6, abs=1e-9)


def test_a_curve_with_exponent_one_half_is_the_square_root_law_exactly() -> None:
    found = worth(ErrorCurve(0.1, 3.0, 0.5), 400, 50.0)
    assert found.valuation == pytest.approx((100 * 50 * 3) ** 2)
    assert found.gain_curve.scale == pytest.approx(1.0)
    assert found.square_root_off_share < 1e-12


def test_a_market_pays_its_gain_in_money() -> None:
    found = worth(ErrorCurve(0.0, 2.0, 0.7), 100, 10.0)
    bids = Bids(
        np.array([100, 300]), np.array([found.valuation, 0.0]), np.array([1e9, 0.5]),
        curves=(found.gain_curve, SquareRoot()),
    )  # fmt: skip
    outcome = clear(bids, np.zeros((2, 2)), lam=0.0, allocation="exact", payment="vcg")
    by_hand = 10.0 * 100 * (2.0 * 100**-0.7 - 2.0 * 400**-0.7)
    assert outcome.allocation.tolist() == [[False, True], [False, False]]
    assert outcome.gains[0] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("per_point", [0.0, -1.0, math.nan, math.inf])
def test_a_worth_that_is_not_positive_is_refused(per_point: float) -> None:
    with pytest.raises(ConfigError, match="what a point of accuracy is worth"):
        worth(ErrorCurve(0.0, 1.0, 0.5), 100, per_point)


def test_money_in_too_small_a_unit_is_refused() -> None:
    with pytest.raises(ConfigError, match="larger unit of money"):
        worth(ErrorCurve(0.0, 1.0, 0.5), 100, 1e9)

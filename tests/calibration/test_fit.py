import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.calibration.fit import ErrorCurve, Estimate, check_errors, fit_curve
from ipfl.errors import DataError

SIZES = np.array([39, 55, 78, 110, 156, 220, 311, 440])


def noisy(curve: ErrorCurve, random: np.random.Generator, num_seeds: int = 5) -> np.ndarray:
    """Errors as a calibration measures them: a share of 190 rows, and each seed easier or harder as a whole."""
    true = curve.error(SIZES)
    ease = 1 + 0.1 * random.normal(size=(num_seeds, 1))
    return np.clip(true * ease + random.normal(size=(num_seeds, 8)) * np.sqrt(true * (1 - true) / 190), 0, 1)


@settings(max_examples=12, deadline=None)
@given(floor=st.floats(0, 0.2), at_first=st.floats(0.05, 0.6), exponent=st.floats(0.1, 2.5))
def test_errors_on_a_curve_give_that_curve_back(floor: float, at_first: float, exponent: float) -> None:
    curve = ErrorCurve(floor, at_first * 39**exponent, exponent)
    fit = fit_curve(SIZES, np.tile(curve.error(SIZES), (3, 1)))
    assert fit.curve.exponent == pytest.approx(exponent, rel=1e-4)
    assert fit.curve.floor == pytest.approx(floor, abs=1e-5)
    assert fit.curve.error(880) == pytest.approx(curve.error(880), abs=1e-6)
    assert fit.improvement(440, 440).high - fit.improvement(440, 440).low < 1e-6


def test_a_floor_below_zero_is_not_fitted() -> None:
    falls_too_far = np.tile(ErrorCurve(-0.05, 3.0, 0.5).error(SIZES), (3, 1))
    fit = fit_curve(SIZES, falls_too_far)
    assert fit.curve.floor == 0
    assert fit.curve.exponent > 0.5


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_curve_falls_and_every_interval_holds_its_value(seed: int) -> None:
    fit = fit_curve(SIZES, noisy(ErrorCurve(0.03, 2.0, 0.6), np.random.default_rng(seed)))
    errors = [fit.error(size) for size in (10, 100, 1000, 10_000)]
    assert [error.value for error in errors] == sorted((error.value for error in errors), reverse=True)
    for estimate in (*errors, fit.floor, fit.scale, fit.exponent, fit.improvement(440, 440)):
        assert estimate.low <= estimate.value <= estimate.high
    assert fit.improvement(440, 0).value == 0
    assert fit.improvement(440, 440).value == pytest.approx(fit.error(440).value - fit.error(880).value)


@pytest.mark.parametrize(
    ("times", "held_min"), [(12, 18), pytest.param(30, 50, id="in-full", marks=pytest.mark.slow)]
)
def test_the_interval_at_twice_the_data_holds_the_truth_about_as_often_as_it_says(
    times: int, held_min: int
) -> None:
    """95 % is promised, and fewer than 18 of 24, or than 50 of 60, would be one case in 5,000 or more."""
    random = np.random.default_rng(0)
    held, widths = [], []
    for curve in (ErrorCurve(0.02, 2.0, 0.7), ErrorCurve(0.05, 1.0, 0.3)):
        true = curve.error(880)
        for _ in range(times):
            found = fit_curve(SIZES, noisy(curve, random)).error(880)
            held.append(found.low <= true <= found.high)
            widths.append(found.high - found.low)
    assert sum(held) >= held_min
    assert np.median(widths) < 0.06


def test_more_seeds_give_a_narrower_interval() -> None:
    curve = ErrorCurve(0.02, 2.0, 0.7)
    widths = []
    for num_seeds in (3, 12):
        found = [
            fit_curve(SIZES, noisy(curve, np.random.default_rng(k), num_seeds)).error(880) for k in range(3)
        ]
        widths.append(np.median([estimate.high - estimate.low for estimate in found]))
    assert widths[1] < widths[0] / 2


def test_a_curve_that_misses_by_more_than_the_spread_widens_the_interval() -> None:
    random = np.random.default_rng(0)
    straight = ErrorCurve(0.02, 2.0, 0.7).error(SIZES)
    bent = straight + 0.02 * (-1.0) ** np.arange(8)
    tiny = 1e-4 * random.normal(size=(5, 8))
    assert fit_curve(SIZES, bent + tiny).widening > 20 * fit_curve(SIZES, straight + tiny).widening


def test_the_same_errors_give_the_same_interval_and_the_seed_counts() -> None:
    errors = noisy(ErrorCurve(0.02, 2.0, 0.7), np.random.default_rng(0))
    first, again, other = (fit_curve(SIZES, errors, seed=seed) for seed in (0, 0, 1))
    assert first.error(880) == again.error(880)
    assert first.error(880).value == other.error(880).value
    assert isinstance(first.error(880), Estimate)
    assert first.error(880).low != other.error(880).low


@pytest.mark.parametrize(
    ("sizes", "errors", "said"),
    [
        ([10, 20, 40], np.full((3, 3), 0.1), "3 size(s) are too few"),
        ([10, 20, 40, 80], np.tile([0.4, 0.3, 0.2, 0.1], (2, 1)), "2 seed(s) are too few"),
        ([10, 20, 40, 80], np.zeros((3, 4)), "the error is 0 at every size"),
        ([10, 20, 40, 80], np.full((3, 4), 0.25), "does not fall"),
        ([10, 20, 40, 80], np.tile([0.1, 0.2, 0.3, 0.4], (3, 1)), "does not fall"),
        (
            [10, 20, 40, 80],
            np.array([[0.3, 0.3, 0.2, 0.2], [0.2, 0.2, 0.3, 0.3], [0.3, 0.3, 0.29, 0.29]]),
            "does not fall",
        ),
    ],
)
def test_what_tells_no_curve_is_refused(sizes: list[int], errors: np.ndarray, said: str) -> None:
    for refuse in (check_errors, fit_curve):
        with pytest.raises(DataError) as caught:
            refuse(np.array(sizes), errors)
        assert said in str(caught.value)

"""Fitting error against examples: error(n) = floor + scale * n^-exponent (Hestness et al., arXiv 1712.00409).

Least squares, each size weighted by one over the variance of its mean. For a given exponent the best floor and
scale are linear, and known in closed form; so only the exponent is searched for, by SciPy, from every valley of a
grid. That finds the best fit there is, not the one nearest to a guess.

**The interval** is a bootstrap over seeds: seeds are drawn with replacement and fitted again (all their draws at
once). Few seeds make such an interval too narrow, so it is widened: by Student's t over the normal quantile and
sqrt(s / (s - 1)), s seeds, and by the square root of the mean squared weighted residual where the curve misses the
means by more than their spread explains. What it cannot know: whether the law goes on beyond the sizes measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ipfl.errors import DataError
from ipfl.seeding import generator

SIZES_MIN = 4
SEEDS_MIN = 3
EXPONENT_MIN, EXPONENT_MAX = 0.01, 3.0
GRID = np.geomspace(EXPONENT_MIN, EXPONENT_MAX, 120)
GOLDEN, SECTIONS = 0.6180339887498949, 30
DRAWS = 400
PRIOR = 4.0
"""Degrees of freedom that the common spread counts for, beside a size's own."""


@dataclass(frozen=True)
class ErrorCurve:
    """error(n) = floor + scale * n^-exponent.

    >>> round(float(ErrorCurve(floor=0.02, scale=1.0, exponent=0.5).error(400)), 6)
    0.07
    """

    floor: float
    scale: float
    exponent: float

    def error(self, num_examples: Any) -> Any:
        """The error with so many examples; falls in them."""
        n = np.asarray(num_examples, dtype=np.float64)
        return self.floor + self.scale * n**-self.exponent


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted curve with its bootstrap draws.

    Attributes:
      curve: the best fit to the means over seeds.
      draws: fits to seeds drawn with replacement, rows of floor, scale, exponent.
      widening: how much wider the interval is than that of the draws.
      residual: the largest miss of a mean [error].
      level: of the interval.
    """

    curve: ErrorCurve
    draws: Float[np.ndarray, "d 3"]
    widening: float
    residual: float
    level: float

    @property
    def floor(self) -> Estimate:
        """The error that no number of examples removes."""
        return self._interval(lambda curve: curve.floor, 0.0, 1.0)

    @property
    def scale(self) -> Estimate:
        """What multiplies n^-exponent."""
        return self._interval(lambda curve: curve.scale, 0.0, np.inf)

    @property
    def exponent(self) -> Estimate:
        """How fast the error falls."""
        return self._interval(lambda curve: curve.exponent, EXPONENT_MIN, EXPONENT_MAX)

    def error(self, num_examples: float) -> Estimate:
        """The mean error over seeds with so many examples."""
        return self._interval(lambda curve: curve.error(num_examples), 0.0, 1.0)

    def improvement(self, num_examples: float, more: float) -> Estimate:
        """By how much the error falls from `num_examples` to `num_examples + more`."""
        return self._interval(
            lambda curve: curve.error(num_examples) - curve.error(num_examples + more), 0.0, 1.0
        )

    def _interval(self, quantity: Callable[[ErrorCurve], Any], least: float, most: float) -> Estimate:
        value = float(quantity(self.curve))
        drawn = np.array([quantity(ErrorCurve(*row)) for row in self.draws.tolist()])
        tail = (1 - self.level) / 2
        low, high = (value + self.widening * (np.quantile(drawn, q) - value) for q in (tail, 1 - tail))
        return Estimate(value, float(max(least, min(low, value))), float(min(most, max(high, value))))


def fit_curve(
    sizes: Int[np.ndarray, "k"], errors: Float[np.ndarray, "s k"], level: float = 0.95, seed: int = 0
) -> Fit:
    """Fit error(n) = floor + scale * n^-exponent with floor >= 0, scale > 0 and 0.01 <= exponent <= 3.

    Laws: errors that lie on such a curve give that curve back; the fitted curve falls; the interval holds the fit.

    Args:
      sizes: k numbers of examples, ascending.
      errors: of every seed with so many examples, in [0, 1].
      level: of the interval.
      seed: of the bootstrap.
    Raises:
      DataError: fewer than 4 sizes or 3 seeds, or errors that do not fall by more than they spread.

    >>> n = np.array([50, 100, 200, 400])
    >>> fit = fit_curve(n, np.tile(0.02 + 1.0 * n**-0.5, (3, 1)))
    >>> round(fit.curve.floor, 4), round(fit.curve.scale, 4), round(fit.curve.exponent, 4)
    (0.02, 1.0, 0.5)
    """
    from scipy.stats import norm, t

    check_errors(sizes, errors)
    num_seeds = len(errors)
    mean, weights = errors.mean(axis=0), _weights(errors)
    curve = _best(sizes, mean, weights)
    if curve[1] <= 0:
        raise DataError("no falling curve fits these errors: measure more sizes or more seeds")
    drawn = _resampled(errors, generator(seed, -1, -1, "search"))
    draws = _best_of_each(sizes, drawn, weights)
    residuals = mean - ErrorCurve(*curve.tolist()).error(sizes)
    misfit = (
        float((weights * residuals**2).sum()) / max(1, len(sizes) - 3) if errors.std(axis=0).any() else 0.0
    )
    tail = 1 - (1 - level) / 2
    few = float(t.ppf(tail, num_seeds - 1) / norm.ppf(tail)) * np.sqrt(num_seeds / (num_seeds - 1))
    widening = float(few * max(1.0, np.sqrt(misfit)))
    return Fit(ErrorCurve(*curve.tolist()), draws, widening, float(np.abs(residuals).max()), level)


def check_errors(sizes: Int[np.ndarray, "k"], errors: Float[np.ndarray, "s k"]) -> None:
    """Refuse errors from which no curve can be told, instead of guessing one.

    Raises:
      DataError: fewer than 4 sizes or 3 seeds, or errors that do not fall by more than they spread.
    """
    from scipy.stats import t

    num_seeds, num_sizes = errors.shape
    if num_sizes < SIZES_MIN:
        raise DataError(
            f"{num_sizes} size(s) are too few to tell a curve of three parameters: measure {SIZES_MIN} or more"
        )
    if num_seeds < SEEDS_MIN:
        raise DataError(f"{num_seeds} seed(s) are too few for an interval: give {SEEDS_MIN} or more")
    if not errors.any():
        raise DataError("the error is 0 at every size: more examples cannot make this model better")
    half, mean, variances = num_sizes // 2, errors.mean(axis=0), _variances(errors)
    falls = float(mean[:half].mean() - mean[-half:].mean())
    deviation = np.sqrt((variances[:half].sum() + variances[-half:].sum()) / num_seeds) / half
    noise = float(t.ppf(0.95, (num_seeds - 1) * num_sizes) * deviation)
    if falls <= noise:
        raise DataError(
            f"the error does not fall with more examples by more than it spreads ({mean[0]:.2%} with {sizes[0]}, "
            f"{mean[-1]:.2%} with {sizes[-1]}; {falls:.2%} from the smaller to the larger sizes, noise {noise:.2%}): "
            "more data of this kind would not help this model, "
            "or there is too little to tell; try more seeds, smaller sizes or another model"
        )


def _weights(errors: Float[np.ndarray, "s k"]) -> Float[np.ndarray, "k"]:
    """One over the variance of each size's mean; all alike where nothing spreads."""
    variances = _variances(errors)
    if not (variances > 1e-20).all():
        return np.ones(errors.shape[1])
    weights: np.ndarray = len(errors) / variances
    return weights


def _variances(errors: Float[np.ndarray, "s k"]) -> Float[np.ndarray, "k"]:
    """Over seeds, of each size, moderated: few seeds say little about one size's spread.

    The common part has the shape of a share's variance, e (1 - e), and counts for 4 degrees of freedom.
    """
    num_seeds, mean = len(errors), errors.mean(axis=0)
    own = errors.var(axis=0, ddof=1)
    shape = np.maximum(mean * (1 - mean), 1e-6)
    common = float((own / shape).mean()) * shape
    variances: np.ndarray = ((num_seeds - 1) * own + PRIOR * common) / (num_seeds - 1 + PRIOR)
    return variances


def _resampled(errors: Float[np.ndarray, "s k"], random: np.random.Generator) -> Float[np.ndarray, "d k"]:
    """Means over seeds drawn with replacement."""
    rows = random.integers(len(errors), size=(DRAWS, len(errors)))
    means: np.ndarray = errors[rows].mean(axis=1)
    return means


def _best(
    sizes: Int[np.ndarray, "k"], mean: Float[np.ndarray, "k"], weights: Float[np.ndarray, "k"]
) -> Float[np.ndarray, "3"]:
    """The best floor, scale and exponent: SciPy from every valley of the grid."""
    from scipy.optimize import minimize_scalar

    def miss(log_exponent: float) -> float:
        return float(_linear(sizes, mean[None], weights, np.exp([log_exponent]))[2][0])

    misses = _on_grid(sizes, mean[None], weights)[0]
    left, right = np.append(np.inf, misses[:-1]), np.append(misses[1:], np.inf)
    best = (float(misses.min()), float(GRID[misses.argmin()]))
    for place in np.flatnonzero((misses <= left) & (misses <= right)).tolist():
        bounds = np.log(GRID[[max(0, place - 1), min(len(GRID) - 1, place + 1)]])
        found = minimize_scalar(miss, bounds=tuple(bounds), method="bounded", options={"xatol": 1e-9})
        best = min(best, (float(found.fun), float(np.exp(found.x))))
    floor, scale, _ = _linear(sizes, mean[None], weights, np.array([best[1]]))
    return np.array([floor[0], scale[0], best[1]])


def _best_of_each(
    sizes: Int[np.ndarray, "k"], means: Float[np.ndarray, "d k"], weights: Float[np.ndarray, "k"]
) -> Float[np.ndarray, "d 3"]:
    """The same for each row of means, all at once: golden sections around the lowest point of the grid."""
    lowest = _on_grid(sizes, means, weights).argmin(axis=1)
    low = np.log(GRID[np.maximum(lowest - 1, 0)])
    high = np.log(GRID[np.minimum(lowest + 1, len(GRID) - 1)])
    for _ in range(SECTIONS):
        inner, outer = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        misses = [_linear(sizes, means, weights, np.exp(point))[2] for point in (inner, outer)]
        lower = misses[0] <= misses[1]
        low, high = np.where(lower, low, inner), np.where(lower, outer, high)
    exponents = np.exp((low + high) / 2)
    floor, scale, _ = _linear(sizes, means, weights, exponents)
    return np.stack([floor, scale, exponents], axis=1)


def _on_grid(
    sizes: Int[np.ndarray, "k"], means: Float[np.ndarray, "d k"], weights: Float[np.ndarray, "k"]
) -> Float[np.ndarray, "d g"]:
    """The weighted squared miss of every row of means with every exponent of the grid."""
    every = np.repeat(means, len(GRID), axis=0)
    misses = _linear(sizes, every, weights, np.tile(GRID, len(means)))[2]
    return misses.reshape(len(means), len(GRID))


def _linear(
    sizes: Int[np.ndarray, "k"],
    means: Float[np.ndarray, "d k"],
    weights: Float[np.ndarray, "k"],
    exponents: Float[np.ndarray, "d"],
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Best floor >= 0 and scale >= 0 for each row's exponent, and the weighted squared miss."""
    unit = float(sizes[0])  # so that the power is near 1 and the normal equations are well scaled
    power = (sizes / unit) ** -exponents[:, None]
    share = weights / weights.sum()
    centre, middle = power @ share, means @ share
    spread = power - centre[:, None]
    scale = np.maximum(((means - middle[:, None]) * spread) @ share / ((spread**2) @ share), 0.0)
    floor = middle - scale * centre
    through_zero = np.maximum((means * power) @ share / ((power**2) @ share), 0.0)
    scale = np.where(floor < 0, through_zero, scale)
    floor = np.maximum(floor, 0.0)
    miss = ((means - floor[:, None] - scale[:, None] * power) ** 2) @ weights
    return floor, scale * unit**exponents, miss

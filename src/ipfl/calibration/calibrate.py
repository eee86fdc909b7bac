"""The three steps in one, and the check of the method on the data itself."""

from collections.abc import Sequence
from typing import NamedTuple

from ipfl.calibration.examples import Examples
from ipfl.calibration.fit import SIZES_MIN, Estimate, fit_curve
from ipfl.calibration.learning_curve import STEPS_MAX, LearningCurve, Progress, learning_curve
from ipfl.calibration.terms import Calibration
from ipfl.calibration.worth import worth
from ipfl.config import Config
from ipfl.errors import DataError
from ipfl.learning import choose_model


class HalfCheck(NamedTuple):
    """A prediction from half the data against what all of it showed.

    `predicted` is the error at `size` by a fit to sizes up to half of it, `measured` what was measured there.
    """

    size: int
    fitted_up_to: int
    predicted: Estimate
    measured: float

    @property
    def off(self) -> float:
        """Predicted minus measured."""
        return self.predicted.value - self.measured

    @property
    def held(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.predicted.low <= self.measured <= self.predicted.high


def calibrate(
    examples: Examples,
    worth_per_point: float,
    config: Config | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    sizes: Sequence[int] | None = None,
    export_cost: float | None = None,
    steps_max: int = STEPS_MAX,
    progress: Progress | None = None,
) -> Calibration:
    """Measure, fit, and put in money; arguments as in `learning_curve` and `worth`.

    Raises:
      ConfigError, DataError: as these do.
    """
    config = config or Config()
    measured = learning_curve(examples, config, seeds, sizes, steps_max, progress=progress)
    fit = fit_curve(measured.sizes, measured.errors)
    return Calibration(
        examples,
        choose_model(config.model, examples.input_shape, examples.model),
        measured,
        fit,
        worth(fit.curve, measured.num_train, worth_per_point),
        export_cost,
    )


def check_on_half(measured: LearningCurve) -> HalfCheck:
    """Fit the sizes up to half of the largest, predict the largest, and compare.

    Raises:
      DataError: fewer than 4 sizes up to half of the largest, or they tell no curve.
    """
    size = int(measured.sizes[-1])
    half = measured.up_to((size + 1) // 2)
    if len(half.sizes) < SIZES_MIN:
        raise DataError(
            f"{len(half.sizes)} of the sizes are at most half of {size}: checking the prediction at twice the data "
            f"needs {SIZES_MIN}; give smaller sizes too, or leave the check out"
        )
    predicted = fit_curve(half.sizes, half.errors).error(size)
    return HalfCheck(size, int(half.sizes[-1]), predicted, float(measured.mean_errors[-1]))

"""From a fitted error curve and the worth of a point of accuracy to a bid in money.

A buyer's gain of importing M examples is sqrt(K) * curve.gain(N, M). With w the worth of one percentage point and
error(n) = floor + a * n^-b, what they bring is 100 w a (N^-b - (N + M)^-b). That is a power law of exponent b, and
only the product of sqrt(K) and the curve's scale matters. K is chosen to be the one that suits the paper's
square-root law best, and the scale makes up for the rest; so the same K serves, less exactly, in a market that
knows that law alone.
"""

import math
from dataclasses import dataclass

import numpy as np

from ipfl.calibration.fit import ErrorCurve
from ipfl.errors import ConfigError
from ipfl.market.curves import SQUARE_ROOT, PowerLaw

TIMES_MORE = 3.0
"""The square-root law is fitted to imports of up to so many times the examples one has."""
VALUATION_MAX = 1e15
POINTS = 200


@dataclass(frozen=True)
class Worth:
    """What more examples are worth, as bids say it.

    Attributes:
      num_examples: N, the training examples one has.
      worth_per_point: of one percentage point of accuracy [money].
      valuation: K, for the gain curve and for the square-root law.
      gain_curve: the power law with which sqrt(K) * gain_curve.gain(N, more) is in money.
      square_root_off: by how much the square-root law with the same K is off at most [money].
      square_root_off_share: the same as a share of the largest gain in that range.
      more_max: that range: up to so many examples more.
    """

    num_examples: int
    worth_per_point: float
    valuation: float
    gain_curve: PowerLaw
    square_root_off: float
    square_root_off_share: float
    more_max: int

    def money(self, more: float) -> float:
        """What `more` examples are worth."""
        return math.sqrt(self.valuation) * float(self.gain_curve.gain(self.num_examples, more))


def worth(
    curve: ErrorCurve, num_examples: int, worth_per_point: float, times_more: float = TIMES_MORE
) -> Worth:
    """The valuation and gain curve of somebody to whom a point of accuracy is worth `worth_per_point`.

    Laws: money(more) = 100 * worth_per_point * (error(N) - error(N + more)); twice the worth of a point is four
    times the valuation, and the same gain curve.

    Args:
      curve: error against examples.
      num_examples: N >= 1.
      worth_per_point: of one percentage point of accuracy, > 0 [money].
      times_more: the square-root law is fitted to imports of up to so many times N.
    Raises:
      ConfigError: a worth that is not > 0, or one so large that the valuation exceeds 1e15.

    >>> found = worth(ErrorCurve(floor=0.0, scale=1.0, exponent=0.5), num_examples=100, worth_per_point=10.0)
    >>> round(found.valuation), round(found.money(300), 6), round(found.square_root_off, 6)
    (1000000, 50.0, 0.0)
    """
    check_money(worth_per_point)
    money = 100 * worth_per_point * curve.scale
    more_max = max(1, round(times_more * num_examples))
    more = np.linspace(more_max / POINTS, more_max, POINTS)
    wanted = money * PowerLaw(curve.exponent).gain(num_examples, more)
    law = SQUARE_ROOT.gain(num_examples, more)
    root = float(wanted @ law / (law @ law))
    if root**2 > VALUATION_MAX:
        raise ConfigError(
            f"worth = {worth_per_point:g}: the valuation would be {root**2:.3g}, above {VALUATION_MAX:.0e}; "
            "count in a larger unit of money, such as thousands"
        )
    off = float(np.abs(root * law - wanted).max())
    return Worth(
        num_examples=num_examples,
        worth_per_point=worth_per_point,
        valuation=root**2,
        gain_curve=PowerLaw(curve.exponent, money / root),
        square_root_off=off,
        square_root_off_share=off / float(wanted[-1]),
        more_max=more_max,
    )


def check_money(worth_per_point: float, export_cost: float | None = None) -> None:
    """Refuse amounts that no bid can hold, before anything is trained.

    Raises:
      ConfigError: a worth that is not > 0, an export cost that is not >= 0.
    """
    if not (math.isfinite(worth_per_point) and worth_per_point > 0):
        raise ConfigError(f"worth = {worth_per_point}: expected what a point of accuracy is worth, > 0")
    if export_cost is not None and not (math.isfinite(export_cost) and export_cost >= 0):
        raise ConfigError(f"export_cost = {export_cost}: expected what serving one buyer costs, >= 0")

"""Gain curves: what more examples are worth, per unit of sqrt(valuation).

A buyer's gain of importing a set S is G_i(S) = sqrt(K_i) * curve_i.gain(N_i, sum of N_j over S). The paper's
curve is the square-root law (arXiv 2505.02462); power laws are what scaling studies fit (Hestness et al.,
arXiv 1712.00409). Everything promised for one curve holds for every curve with the laws of `GainCurve`.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ipfl.errors import BidError
from ipfl.types.market import GainCurve


@dataclass(frozen=True)
class SquareRoot:
    """The paper's law: gain(n, a) = 1/sqrt(n) - 1/sqrt(n + a).

    >>> round(float(SquareRoot().gain(4, 12)), 6)
    0.25
    """

    code: ClassVar[int] = 0

    def gain(self, num_examples: Any, more: Any) -> Any:
        """Written without a difference of nearly equal numbers."""
        before, after = np.sqrt(num_examples), np.sqrt(np.add(num_examples, more))
        return more / (before * after * (before + after))

    def parameters(self) -> tuple[float, float]:
        """None."""
        return (0.0, 0.0)


@dataclass(frozen=True)
class PowerLaw:
    """A scaling law a * n^-b: gain(n, a') = scale * (n^-exponent - (n + a')^-exponent).

    `scale` and `exponent` are > 0; exponent 0.5 with scale 1 is the square-root law.

    >>> round(float(PowerLaw(exponent=1.0).gain(4, 12)), 6)
    0.1875
    """

    exponent: float
    scale: float = 1.0
    code: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _positive("power", "exponent", self.exponent)
        _positive("power", "scale", self.scale)

    def gain(self, num_examples: Any, more: Any) -> Any:
        """n^-b * (1 - (1 + a/n)^-b), by expm1 and log1p."""
        ratio = np.divide(more, num_examples)
        start = self.scale * np.power(np.asarray(num_examples, dtype=np.float64), -self.exponent)
        return -start * np.expm1(-self.exponent * np.log1p(ratio))

    def parameters(self) -> tuple[float, float]:
        """exponent and scale."""
        return (self.exponent, self.scale)


@dataclass(frozen=True)
class Logarithmic:
    """gain(n, a) = scale * log((n + a + reference) / (n + reference)), scale > 0 and reference >= 0.

    >>> round(float(Logarithmic().gain(4, 12)), 6)
    1.386294
    """

    scale: float = 1.0
    reference: float = 0.0
    code: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive("log", "scale", self.scale)
        if not (math.isfinite(self.reference) and self.reference >= 0):
            raise BidError(f"gain curve log: reference is {self.reference}, expected a finite number >= 0")

    def gain(self, num_examples: Any, more: Any) -> Any:
        """By log1p, which stays exact for small steps."""
        return self.scale * np.log1p(np.divide(more, np.add(num_examples, self.reference)))

    def parameters(self) -> tuple[float, float]:
        """scale and reference."""
        return (self.scale, self.reference)


SQUARE_ROOT = SquareRoot()
"""The curve of everyone who names none."""

BUILT_IN = (SquareRoot, PowerLaw, Logarithmic)
"""The curves that the compiled search knows; any other is searched in plain Python."""

FAMILIES = {"sqrt": SquareRoot, "power": PowerLaw, "log": Logarithmic}
"""The names that a table of bids uses."""


def make_curve(family: str, **parameters: float) -> GainCurve:
    """A curve by its name in a table of bids.

    Raises:
      BidError: an unknown family or parameter, or a parameter out of range.

    >>> make_curve("power", exponent=0.3)
    PowerLaw(exponent=0.3, scale=1.0)
    """
    if family not in FAMILIES:
        raise BidError(f"gain curve {family!r} is unknown, expected one of {', '.join(FAMILIES)}")
    try:
        curve: GainCurve = FAMILIES[family](**parameters)
    except TypeError:
        given = ", ".join(sorted(parameters)) or "none"
        raise BidError(
            f"gain curve {family}: got the parameters {given}, expected {_expected(family)}"
        ) from None
    return curve


def _expected(family: str) -> str:
    known = {"sqrt": "none", "power": "exponent and perhaps scale", "log": "perhaps scale and reference"}
    names = getattr(FAMILIES[family], "__dataclass_fields__", {})
    return known.get(family, ", ".join(names) or "none")


def _positive(family: str, field: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise BidError(f"gain curve {family}: {field} is {value}, expected a finite number > 0")

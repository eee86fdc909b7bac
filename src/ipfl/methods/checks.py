"""What methods refuse before anything is trained."""

import math
from typing import Any

from ipfl.errors import ConfigError


def at_least(method: Any, field: str, bound: float, above: bool = False) -> None:
    """Raise unless a hyper-parameter is finite and >= bound (> bound where `above`).

    Raises:
      ConfigError: names the method, the hyper-parameter, its value and the bound.
    """
    value = getattr(method, field)
    if not math.isfinite(value) or value < bound or (above and value == bound):
        name = type(method).__name__
        raise ConfigError(
            f"{name}: {field} = {value!r}, expected a number {'above' if above else 'of at least'} {bound:g}"
        )


def refuse(method: Any, reason: str) -> None:
    """Raise `ConfigError`: the method cannot do what it is asked for."""
    raise ConfigError(f"{type(method).__name__}: {reason}")

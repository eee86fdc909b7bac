"""Methods: how participants train and collaborate. One short file each."""

import difflib
from collections.abc import Callable

from ipfl.errors import ConfigError
from ipfl.methods.base import Federation, Method, Round
from ipfl.methods.ipfl import Ipfl
from ipfl.methods.local import Local

METHODS: dict[str, Callable[[Federation], Method]] = {"ipfl": Ipfl, "local": Local}
"""Every method by name."""


def find_method(name: str) -> Callable[[Federation], Method]:
    """The method called `name`.

    Raises:
      ConfigError: there is none of that name.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(METHODS)}"
        raise ConfigError(f"unknown method {name!r}; {hint}")
    return METHODS[name]


__all__ = ["METHODS", "Federation", "Ipfl", "Local", "Method", "Round", "find_method"]

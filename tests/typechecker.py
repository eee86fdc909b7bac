"""The run-time type checker of the test suite: beartype, with an int welcome where a float is (PEP 484)."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_of_inner: dict[Any, Callable[..., Any]] = {}


def check(stub: Callable[..., Any]) -> Callable[..., Any]:
    """Check a stub's arguments and result; jaxtyping makes stubs that hold a function's annotations and do nothing.

    A function inside another one is made anew, and so are its stubs, in every call of that other one. Beartype
    takes milliseconds for each, so an equal stub is answered with what was made for the first.
    """
    if "<locals>" not in stub.__qualname__ or not _is_bare(stub):
        return _checked(stub)
    try:
        key = (stub.__module__, stub.__qualname__, stub.__code__, tuple(stub.__annotations__.items()))
        known = _of_inner.get(key)
    except TypeError:  # an annotation that cannot be hashed
        return _checked(stub)
    if known is None:
        known = _of_inner[key] = _checked(stub)
    return known


def _is_bare(stub: Callable[..., Any]) -> bool:
    """Whether nothing but code and annotations make up what it does: no variables of its surroundings, no defaults."""
    return not (stub.__closure__ or stub.__defaults__ or stub.__kwdefaults__)

"""`ipfl.market.search`, compiled by Numba on first need and kept in its cache.

Numba is imported here and only here, so a market that never needs the compiled search never waits for it.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from ipfl.market import search

HELPERS = (
    "peak_total", "fill", "merge_flips", "optimise", "write_set", "drop_losers", "common_divisor", "best_set",
)  # fmt: skip


@functools.cache
def solve_rows() -> Callable[..., None]:
    """The compiled `search.solve_rows`; its `curves` are rows of (code, parameter, parameter)."""
    import numba
    from numba.extending import overload

    for name in HELPERS:
        overload(getattr(search, name))(stand_in(getattr(search, name)))
    overload(search.added_gain)(stand_in(search.coded_gain))
    overload(search.likely_peak)(stand_in(search.coded_peak))
    return compile_cached(numba.njit, search.solve_rows)


def stand_in(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """What `overload` asks for: given a call's argument types, the function that compiled code calls instead."""
    bare = without_annotations(compiled)

    def choose(*arguments: Any, **named: Any) -> Callable[..., Any]:
        return bare

    choose.__signature__ = inspect.signature(bare)  # type: ignore[attr-defined]
    return choose


def without_annotations(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; Numba takes annotations for part of the signature that it matches."""
    plain = cast(FunctionType, function)
    return FunctionType(plain.__code__, plain.__globals__, plain.__name__, plain.__defaults__)


def compile_cached(njit: Callable[..., Any], function: Callable[..., None]) -> Callable[..., None]:
    """Compile with a cache on disk; without one where no folder for it can be written."""
    try:
        cached: Callable[..., None] = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        cached = njit(nogil=True)(function)
    return cached

"""`ipfl.market.search`, compiled by Numba on first need and kept in its cache.

Numba is imported here and only here, so a market that never needs the compiled search never waits for it.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from ipfl.market import search

HELPERS = ("peak_total", "fill", "merge_flips", "optimise", "write_set", "common_divisor", "best_set")


@functools.cache
def solve_rows() -> Callable[..., None]:
    """The compiled `search.solve_rows`; its `curves` are rows of (code, parameter, parameter)."""
    import numba
    from numba.extending import overload

    def register(function: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        """Wherever compiled code calls `function`, `compiled` is called in its place."""
        bare = without_annotations(compiled)

        def choose(*arguments: Any, **named: Any) -> Callable[..., Any]:
            return bare

        choose.__signature__ = inspect.signature(bare)  # type: ignore[attr-defined]
        overload(function)(choose)

    for name in HELPERS:
        register(getattr(search, name), getattr(search, name))
    register(search.added_gain, search.coded_gain)
    register(search.likely_peak, search.coded_peak)
    return compile_cached(numba.njit, search.solve_rows)


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

"""One buyer's proxy in one pass over memory, compiled by Numba on first need and kept in its cache.

Exempt from run-time type checks, and in a file of its own, because Numba's cache notices changes of this file only.
"""

import functools
from collections.abc import Callable
from typing import Any, cast, no_type_check

import numpy as np

WIDTH = 2048
"""Columns added up at a time: their sums stay in a core's nearest cache."""


@no_type_check
def pull_row(params, own, published, sellers, weights, square, total, result):
    """result = params + t - own * <t, own> / square, with t = sum of weights * published[sellers], in float64.

    `total` is room for t. The products are summed in four parts, always the same ones.
    """
    p = len(params)
    dot = 0.0
    for start in range(0, p, WIDTH):
        end = min(start + WIDTH, p)
        part, mine = total[start:end], own[start:end]
        part[:] = 0.0
        for place in range(len(sellers)):
            weight, theirs = weights[place], published[sellers[place], start:end]
            for column in range(end - start):
                part[column] += weight * theirs[column]
        whole = (end - start) // 4 * 4
        a = b = c = d = 0.0
        for column in range(0, whole, 4):
            a += part[column] * mine[column]
            b += part[column + 1] * mine[column + 1]
            c += part[column + 2] * mine[column + 2]
            d += part[column + 3] * mine[column + 3]
        for column in range(whole, end - start):
            a += part[column] * mine[column]
        dot += (a + b) + (c + d)
    along = dot / square
    for column in range(p):
        result[column] = np.float32(params[column] + total[column] - along * own[column])


@functools.cache
def compiled() -> Callable[..., None]:
    """`pull_row`, compiled; without a cache on disk where no folder for it can be written."""
    import numba

    plain: Any = pull_row
    try:
        function = numba.njit(cache=True, nogil=True, error_model="numpy")(plain)
    except RuntimeError:
        function = numba.njit(nogil=True, error_model="numpy")(plain)
    return cast(Callable[..., None], function)

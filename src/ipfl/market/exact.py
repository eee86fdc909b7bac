"""The exact graph, with proof: each buyer's optimum, its bound, and what each seller adds to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ipfl.market.curves import BUILT_IN, SQUARE_ROOT
from ipfl.market.problems import Problems
from ipfl.market.search import solve_rows

TOLERANCE = 1e-12
"""A set within this share of the most the buyer could gain counts as optimal."""
NODE_LIMIT = 1_000_000
"""States one search may visit before it stops and says how far it may be from the optimum."""
COMPILE_FROM = 400
"""Pairs of buyer and seller from which the compiled search is used: fewer would not pay for its import."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best set of every buyer.

    Attributes:
      allocation: who is bought.
      premiums: W_i - W_i(without j) for every seller bought, W_i being the optimum; only if asked for.
      values: W_i, as found.
      bounds: no set is worth more.
    """

    allocation: Bool[np.ndarray, "b m"]
    premiums: Float[np.ndarray, "b m"]
    values: Float[np.ndarray, "b"]
    bounds: Float[np.ndarray, "b"]


@dataclass(frozen=True)
class Effort:
    """How hard the exact search tries: relative tolerance, and states visited at most per search.

    `compile_from`: pairs of buyer and seller from which the compiled search is used, None for COMPILE_FROM.
    """

    tolerance: float = TOLERANCE
    node_limit: int = NODE_LIMIT
    compile_from: int | None = None


def optimum(problems: Problems, with_premiums: bool, effort: Effort) -> Optimum:
    """Solve every buyer's problem.

    Laws: values equal brute force; values <= bounds; values >= those of the greedy graph; premiums >= 0.
    """
    shape = problems.frictions.shape
    result = Optimum(np.zeros(shape, dtype=bool), np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[0]))
    curves, solve = _curves_and_search(problems, effort.compile_from)
    solve(
        curves,
        problems.amplitude,
        problems.own,
        problems.buyers,
        problems.sizes,
        problems.prices,
        with_premiums,
        effort.tolerance,
        effort.node_limit,
        result.allocation,
        result.premiums,
        result.values,
        result.bounds,
    )
    return result


def _curves_and_search(problems: Problems, compile_from: int | None) -> tuple[Any, Callable[..., None]]:
    """Codes and the compiled search; for few pairs, or a curve without a code, the plain one."""
    curves = problems.curves or (SQUARE_ROOT,) * len(problems.buyers)
    codes = [(curve.code, *curve.parameters()) if isinstance(curve, BUILT_IN) else curve for curve in curves]
    few = problems.frictions.size < (COMPILE_FROM if compile_from is None else compile_from)
    if few or not all(isinstance(code, tuple) for code in codes):
        return codes, solve_rows
    from ipfl.market import compiled

    return np.array(codes, dtype=np.float64), compiled.solve_rows()

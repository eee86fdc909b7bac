"""Proxies: where the models a participant bought pull its own (paper, proxy of the local objective)."""

import numpy as np
from jaxtyping import Float, Float32
from scipy import sparse

from ipfl.cores import on_cores
from ipfl.learning.pull_row import compiled

BLOCK_ROWS = 8
"""Buyers that a core is given at once."""
COMPILE_FROM = 1 << 22
"""Products from which the compiled pull is used: fewer would not pay for its import."""
THREADS_FROM = 1 << 18
"""Products, and numbers, from which a second thread pays for being started."""


def proxies(
    params: Float32[np.ndarray, "m p"],
    updates: Float32[np.ndarray, "m p"],
    published: Float32[np.ndarray, "m p"],
    edge_weights: Float[np.ndarray, "m m"] | sparse.csr_array,
    eta: float,
) -> Float32[np.ndarray, "m p"]:
    """z_i = theta_i + eta * grad_{v_i} sum_j w_ij cos(v_i, v_j).

    grad_{v_i} cos(v_i, v_j) = v_j / (|v_i| |v_j|) - cos(v_i, v_j) v_i / |v_i|^2, so the proxies are a product with
    the sparse matrix of edges: O(edges * p), buyer by buyer, summed in float64 and rounded once. Memory beyond the
    result stays O(p) for each core.

    Laws: w = 0 gives z = theta; the pull is orthogonal to v_i; a zero update neither pulls nor is pulled; the same
    to the last bit on any number of cores.

    Args:
      params: theta, the participants' own models.
      updates: v = theta - theta_0, their own true updates.
      published: the updates others see; equal to `updates` where a participant is honest.
      edge_weights: w, [buyer, seller], dense or sparse; 0 where nothing was bought.
      eta: step towards the bought models.
    """
    m = len(params)
    result = np.empty_like(params)
    own_norm, sold_norm = np.empty(m), np.empty(m)
    edges = sparse.csr_array(edge_weights)

    def measure(rows: slice) -> None:
        own_norm[rows] = sold_norm[rows] = _norms(updates[rows])
        if published is not updates:
            sold_norm[rows] = _norms(published[rows])

    def pull(row: int) -> None:
        place = slice(edges.indptr[row], edges.indptr[row + 1])
        sellers, weights = edges.indices[place], edges.data[place]
        felt = (weights != 0) & (sold_norm[sellers] > 0)
        if own_norm[row] == 0 or not felt.any():
            result[row] = params[row]
            return
        own, scale = updates[row], eta * weights[felt] / (own_norm[row] * sold_norm[sellers[felt]])
        room = np.empty(len(own))
        step(params[row], own, published, sellers[felt], scale, own_norm[row] ** 2, room, result[row])

    products = len(edges.data) * params.shape[1]
    step = compiled() if products >= COMPILE_FROM else _pull_row
    threads = None if products + params.size >= THREADS_FROM else 1

    def pull_all(rows: slice) -> None:
        for row in range(rows.start, rows.stop):
            pull(row)

    blocks = [slice(start, min(start + BLOCK_ROWS, m)) for start in range(0, m, BLOCK_ROWS)]
    on_cores(measure, blocks, threads)
    on_cores(pull_all, blocks, threads)
    return result


def _pull_row(
    params: np.ndarray,
    own: np.ndarray,
    published: np.ndarray,
    sellers: np.ndarray,
    weights: np.ndarray,
    square: float,
    total: np.ndarray,
    result: np.ndarray,
) -> None:
    """`pull_row.pull_row`, for few numbers."""
    np.einsum("k,kj->j", weights, published[sellers], out=total)
    result[:] = params + total - np.einsum("j,j->", total, own) / square * own


def _norms(updates: np.ndarray) -> np.ndarray:
    norms: np.ndarray = np.sqrt(np.einsum("ij,ij->i", updates, updates, dtype=np.float64))
    return norms

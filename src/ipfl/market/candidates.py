"""Markets of thousands: each buyer chooses among a few candidates, the stored entries of a sparse matrix of distances.

Buyers' problems are separate, so a seller that is not on offer to a buyer is simply not in its problem. A small
block of buyers faces the union of their candidates, with an infinite cost where one is not on offer; so the same
rules and the same search settle dense and sparse markets alike, in O(candidates).
"""

import numpy as np
from jaxtyping import Float, Int64

from ipfl.errors import BidError
from ipfl.market.problems import Problems
from ipfl.types.market import Bids, Edges, Matrix, SparseMatrix

BLOCK_BUYERS = 16
"""Buyers worked on at once: few, because the pairs of a block grow with their square."""


def candidate_problems(
    bids: Bids, distance: SparseMatrix, lam: float, rows: slice
) -> tuple[Problems, Int64[np.ndarray, "n"]]:
    """The problems of consecutive buyers among their candidates, and who the n sellers of those problems are.

    Args:
      bids: of all m.
      distance: checked (`check_market`).
      lam: weight of friction.
      rows: the buyers, from start to stop.
    """
    buyers = np.arange(rows.start, rows.stop)
    stored = slice(distance.indptr[rows.start], distance.indptr[rows.stop])
    candidates = distance.indices[stored]
    row = np.repeat(np.arange(len(buyers)), np.diff(distance.indptr[rows.start : rows.stop + 1]))
    sellers = np.unique(np.concatenate([candidates, buyers])).astype(np.int64)
    column, own_column = np.searchsorted(sellers, candidates), np.searchsorted(sellers, buyers)
    sizes = bids.num_examples[sellers].astype(np.float64)
    own = bids.num_examples[buyers].astype(np.float64)
    frictions, costs = np.zeros((len(buyers), len(sellers))), np.full((len(buyers), len(sellers)), np.inf)
    # Friction past the largest number is infinite: such a seller is never bought. The diagonal may hold NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        frictions[row, column] = (lam * sizes[column]) * distance.data[stored] / own[row]
    frictions[np.arange(len(buyers)), own_column] = 0.0
    costs[row, column] = bids.export_cost[candidates]
    block = Problems(
        buyers=own_column,
        own=own,
        amplitude=np.sqrt(bids.valuation[buyers]),
        sizes=sizes,
        costs=costs,
        frictions=frictions,
        curves=None if bids.curves is None else tuple(bids.curves[i] for i in buyers),
    )
    return block, sellers


def edge_distances(distance: Matrix, edges: Edges, bids: Bids) -> Float[np.ndarray, "e"]:
    """The distance of every purchase.

    Raises:
      BidError: somebody buys from one who is not its candidate.
    """
    if isinstance(distance, np.ndarray):
        return np.asarray(distance[edges.buyers, edges.sellers], dtype=np.float64)
    m = len(bids)
    keys = np.repeat(np.arange(m), np.diff(distance.indptr)) * m + distance.indices
    wanted = edges.buyers * m + edges.sellers
    places = np.searchsorted(keys, wanted)
    found = np.append(keys, -1)[places] == wanted
    if not found.all():
        first = int(np.argmin(found))
        raise BidError(
            f"participant {bids.ids[edges.buyers[first]]} buys from {bids.ids[edges.sellers[first]]}, who is not "
            "among its candidates: give distances in which that pair is stored"
        )
    return np.asarray(distance.data[places], dtype=np.float64)


def sparse_like(edges: Edges, values: np.ndarray, m: int) -> SparseMatrix:
    """A csr_array of shape (m, m) that stores `values` at the edges, zeros too."""
    from scipy.sparse import csr_array

    starts = np.concatenate([[0], np.cumsum(np.bincount(edges.buyers, minlength=m))])
    matrix: SparseMatrix = csr_array((values, edges.sellers, starts), shape=(m, m))
    return matrix


def sum_by(who: Int64[np.ndarray, "e"], values: Float[np.ndarray, "e"], m: int) -> Float[np.ndarray, "m"]:
    """The sum of each participant's values."""
    return np.bincount(who, values, m).astype(np.float64)  # without any edges it counts instead


def require_dense(distance: Matrix, what: str) -> np.ndarray:
    """The same distances, unless they are sparse where every pair counts.

    Raises:
      BidError: says what needs all of them.
    """
    if isinstance(distance, np.ndarray):
        return distance
    raise BidError(f"{what} needs the distance of every pair: give a dense array, not a sparse one")

"""The distances that a run's market is cleared by: of all pairs or of candidates, of updates or of sketches."""

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ipfl.market.distance import cosine_distances, pair_distances
from ipfl.market.neighbours import nearest
from ipfl.market.sketch import sketch
from ipfl.methods.base import Federation
from ipfl.types.market import Matrix, SparseMatrix


def market_distances(
    federation: Federation, published: Float32[np.ndarray, "m p"], present: Bool[np.ndarray, "m"]
) -> Matrix:
    """d_ij as `[market]` asks for it.

    `distance` = "exact" compares the updates themselves, "sketch" what each participant could have sent in their
    place. `candidates` = k leaves each buyer its k nearest by sketch, among those present; 0 leaves it everybody.
    """
    market = federation.market
    if market.candidates == 0 and market.distance == "exact":
        return cosine_distances(published)
    sketches = sketch(published, market.sketch_size, federation.seed)
    if market.candidates == 0:
        return cosine_distances(sketches)
    here = np.flatnonzero(present)
    near = widened(nearest(sketches[here], market.candidates), here, len(present))
    return near if market.distance == "sketch" else pair_distances(published, near)


def widened(matrix: SparseMatrix, here: np.ndarray, m: int) -> SparseMatrix:
    """What is stored for some participants, as a matrix of all m; nothing is stored for the others."""
    from scipy.sparse import csr_array

    counts = np.zeros(m, dtype=np.int64)
    counts[here] = np.diff(matrix.indptr)
    starts = np.concatenate([[0], np.cumsum(counts)])
    wide: SparseMatrix = csr_array((matrix.data, here[matrix.indices], starts), shape=(m, m))
    return wide


def narrowed(matrix: SparseMatrix, here: np.ndarray) -> SparseMatrix:
    """What is stored for pairs of some participants, given in order; `widened` undoes it."""
    from scipy.sparse import csr_array

    m = len(matrix.indptr) - 1
    place = np.full(m, -1)
    place[here] = np.arange(len(here))
    rows = np.repeat(np.arange(m), np.diff(matrix.indptr))
    kept = (place[rows] >= 0) & (place[matrix.indices] >= 0)
    starts = np.concatenate([[0], np.cumsum(np.bincount(place[rows[kept]], minlength=len(here)))])
    few: SparseMatrix = csr_array(
        (matrix.data[kept], place[matrix.indices[kept]], starts), shape=(len(here), len(here))
    )
    return few


def edge_weights(
    buyers: np.ndarray, sellers: np.ndarray, num_examples: Int64[np.ndarray, "m"]
) -> SparseMatrix:
    """w_ij = N_j / N_i where i bought from j."""
    from scipy.sparse import csr_array

    m = len(num_examples)
    weights: SparseMatrix = csr_array(
        (num_examples[sellers] / num_examples[buyers], (buyers, sellers)), shape=(m, m)
    )
    return weights

"""Candidates: each participant's k nearest by sketch, so that a market of thousands costs O(m k).

Up to SEARCH_FROM participants every pair is looked at, a block of products at a time. Beyond it a graph of near
neighbours is searched (hierarchical navigable small worlds, Malkov and Yashunin, arXiv 1603.09320, by the library
faiss, extra `scale`) on sketches folded to FOLDED numbers, and what it finds is put in order by the whole sketches.
It is built on one thread, so it too finds the same in every run.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from ipfl.cores import on_cores, one_blas_thread
from ipfl.errors import BidError, ConfigError
from ipfl.market.distance import pair_distances
from ipfl.types.market import SparseMatrix

SEARCH_FROM = 4000
"""Participants from which a graph of neighbours is searched rather than every pair."""
FOLDED = 512
"""Numbers that the graph is searched by."""
SPARE = 3
"""So many times k are looked up before the whole sketches choose."""
LINKS, EFFORT = 24, 64
"""Of the graph: links of each participant, and how many are kept in view while it is built and searched."""
BLOCK_ROWS = 128
"""Rows of distances held at once, on each core."""


def nearest(sketches: Float[np.ndarray, "m size"], k: int, search: bool | None = None) -> SparseMatrix:
    """Each participant's k nearest, with their distances by sketch.

    Laws: k entries in every row (m - 1 where that is less), none on the diagonal; of two at the same distance the
    lower index is nearer; the same to the last bit in every run, on any number of cores. Where every pair is
    looked at, these are the k nearest; where a graph is searched some are missed for others about as near
    (benchmarks/sketch.py), and a row may come out shorter.

    Args:
      sketches: of the updates, or the updates themselves.
      k: candidates of each, >= 1.
      search: whether to search a graph of neighbours; None: from SEARCH_FROM participants on.
    Returns:
      A csr_array of shape (m, m).
    Raises:
      BidError: k < 1, or a sketch that is not finite. ConfigError: faiss is needed and not installed.

    >>> nearest(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.1, 1.0]]), 1).indices.tolist()
    [1, 3, 3, 2]
    """
    m = len(sketches)
    if k < 1:
        raise BidError(f"candidates are {k}, expected a whole number >= 1")
    k = min(k, max(m - 1, 0))
    if (m >= SEARCH_FROM if search is None else search) and k:
        found = pair_distances(sketches, _pairs(_searched(sketches, min(SPARE * k, m - 1))))
        return _nearest_stored(found, k)
    return pair_distances(sketches, _pairs(_looked_at(sketches, k)))


def _looked_at(sketches: np.ndarray, k: int) -> Int64[np.ndarray, "m k"]:
    """The k nearest of each, by the products of all pairs."""
    m, units = len(sketches), _units(sketches)
    chosen = np.empty((m, k), dtype=np.int64)

    def choose(start: int) -> None:
        rows = np.arange(start, min(start + BLOCK_ROWS, m))
        apart = -(units[rows] @ units.T)
        apart[np.arange(len(rows)), rows] = np.inf
        chosen[rows] = smallest(apart, k)

    with one_blas_thread():
        on_cores(choose, range(0, m if k else 0, BLOCK_ROWS), None if m >= 1000 else 1)
    return chosen


def _searched(sketches: np.ndarray, k: int) -> Int64[np.ndarray, "m k1"]:
    """About the k nearest of each and itself, -1 where none was found, by a graph of near neighbours."""
    faiss = _faiss()
    units = _units(fold(sketches, FOLDED))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # on several the graph would depend on which is first
    try:
        graph = faiss.IndexHNSWFlat(units.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EFFORT
        graph.hnsw.efSearch = max(EFFORT, 2 * k)
        graph.add(units)
        found: np.ndarray = graph.search(units, k + 1)[1]
    finally:
        faiss.omp_set_num_threads(threads)
    return found


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            f"looking for candidates among {SEARCH_FROM} participants or more needs faiss: "
            "pip install 'ipfl[scale]'"
        ) from None
    return faiss


def _pairs(found: Int64[np.ndarray, "m k"]) -> SparseMatrix:
    """A csr_array that stores a one for everyone found; not oneself."""
    from scipy.sparse import csr_array

    m = len(found)
    rows = np.repeat(np.arange(m), found.shape[1])
    kept = (found.ravel() >= 0) & (found.ravel() != rows)
    pairs: SparseMatrix = csr_array(
        (np.ones(int(kept.sum())), (rows[kept], found.ravel()[kept])), shape=(m, m)
    )
    return pairs


def _nearest_stored(distance: SparseMatrix, k: int) -> SparseMatrix:
    """Of what is stored in each row, the k smallest; of equal ones the first."""
    from scipy.sparse import csr_array

    m, counts = len(distance.indptr) - 1, np.diff(distance.indptr)
    rows = np.repeat(np.arange(m), counts)
    order = np.lexsort((distance.indices, distance.data, rows))
    place = np.arange(len(order)) - np.repeat(distance.indptr[:-1], counts)
    kept = np.sort(order[place < k])
    few: SparseMatrix = csr_array((distance.data[kept], (rows[kept], distance.indices[kept])), shape=(m, m))
    return few


def _units(sketches: np.ndarray) -> Float32[np.ndarray, "m size"]:
    """Sketches of length one; those of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", sketches, sketches, dtype=np.float64))
    if not np.isfinite(lengths).all():
        row = int(np.argmin(np.isfinite(lengths)))
        raise BidError(
            f"the sketch of participant {row} has an entry that is not finite, expected numbers only"
        )
    return (sketches / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)


def smallest(values: Float[np.ndarray, "b n"], k: int) -> Int64[np.ndarray, "b k"]:
    """Where the k smallest of each row are, in order of index; of equal ones the first.

    >>> smallest(np.array([[3.0, 1.0, 2.0, 1.0, 1.0]]), 2).tolist()
    [[1, 3]]
    """
    last = np.partition(values, k - 1, axis=1)[:, k - 1 : k]
    taken = values < last
    ties = values == last
    taken |= ties & (np.cumsum(ties, axis=1) <= k - taken.sum(axis=1, keepdims=True))
    return np.nonzero(taken)[1].reshape(len(values), k)


def fold(sketches: Float[np.ndarray, "m size"], size: int) -> np.ndarray:
    """Shorter sketches from longer ones: buckets added up, which is a count sketch again."""
    m, width = sketches.shape
    padded = np.zeros((m, -(-width // size) * size), dtype=np.float32)
    padded[:, :width] = sketches
    folded: np.ndarray = padded.reshape(m, -1, size).sum(axis=1)
    return folded

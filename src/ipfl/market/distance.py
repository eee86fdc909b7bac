"""Distances between participants: one minus the cosine of their updates (DESIGN: d_ij = 1 - cos(v_i, v_j)).

Source: "Incentivizing Inclusive Contributions in Model Sharing Markets", arXiv 2505.02462.

All pairs come from one Gram matrix, computed in tiles of rows and chunks of columns, each tile once: the matrix is
symmetric. Tiles and chunks are the same on every machine and each is one product on one thread, so the result
does not depend on the number of cores or threads.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ipfl.cores import on_cores, one_blas_thread
from ipfl.errors import BidError
from ipfl.types.market import SparseMatrix

COLUMN_CHUNK = 16_384
"""Columns per product: short enough for float32 sums to stay accurate (error 5e-8 at 5e6 columns)."""
PAIR_CHUNK = 4096
"""The same for the products of single pairs, which are summed in a less accurate order."""
TILE = 128
"""Rows per tile: large enough for products at full speed, small enough to share out 200 rows."""
THREADS_FROM = 1 << 24
"""Multiplications from which a second thread pays."""


def cosine_distances(updates: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "m m"]:
    """Distance of every pair of updates.

    d_ij = 1 - <v_i, v_j> / (|v_i| |v_j|), from one Gram matrix summed in float64 over chunks of columns,
    with the norms from its diagonal. Memory beyond the result stays O(chunk).

    Laws: symmetric; 0 <= d <= 2; zero on the diagonal; unchanged when an update is scaled by a positive
    number; the same to the last bit on any number of threads. An update of zeros has no direction: it is at
    distance 1 from every other.

    Args:
      updates: v_i = theta_i - theta_0, one row per participant, float32 or float64.
    Returns:
      Distances, float64.
    Raises:
      BidError: an entry is NaN or infinite; the message gives the participant's row.

    >>> cosine_distances(np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])).round(6).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    gram = _gram(updates, None)
    divisor = _divisor(updates, gram.diagonal())
    if divisor is not None:
        gram = _gram(updates, divisor)
    norms = _norms(gram.diagonal())
    for rows in _tiles(len(updates)):
        gram[rows] = _from_cosines(gram[rows] / np.outer(norms[rows], norms))
    np.fill_diagonal(gram, 0.0)
    return gram


def pair_distances(updates: Float[np.ndarray, "m p"], pairs: SparseMatrix) -> SparseMatrix:
    """Distances of some pairs only, in O(pairs * p): the same numbers as `cosine_distances` but for rounding.

    Args:
      updates: one row per participant, float32 or float64.
      pairs: a csr_array of shape (m, m); its stored entries, whatever their value, say which pairs.
    Returns:
      A csr_array with the distances in place of those entries.
    Raises:
      BidError: an entry of an update is NaN or infinite, or pairs of another shape.

    >>> from scipy.sparse import csr_array
    >>> pairs = csr_array(np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    >>> pair_distances(np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]), pairs).toarray().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    from scipy.sparse import csr_array

    m, p = updates.shape
    if pairs.shape != (m, m):
        raise BidError(f"pairs have shape {pairs.shape}, expected {(m, m)}, one row per update")
    squares = _squares(updates, None)
    divisor = _divisor(updates, squares)
    if divisor is not None:
        squares = _squares(updates, divisor)
    norms = _norms(squares)
    products = np.zeros(len(pairs.indices))

    def multiply(rows: slice) -> None:
        for row in range(rows.start, rows.stop):
            place = slice(pairs.indptr[row], pairs.indptr[row + 1])
            others = pairs.indices[place]
            for start in range(0, p, PAIR_CHUNK) if len(others) else ():
                columns = slice(start, start + PAIR_CHUNK)
                own, theirs = updates[row, columns], updates[others, columns]
                if divisor is not None:
                    own, theirs = own / divisor[row], theirs / divisor[others, None]
                products[place] += theirs @ own
        places = slice(pairs.indptr[rows.start], pairs.indptr[rows.stop])
        buyers = np.repeat(
            np.arange(rows.start, rows.stop), np.diff(pairs.indptr[rows.start : rows.stop + 1])
        )
        cosines = products[places] / (norms[buyers] * norms[pairs.indices[places]])
        products[places] = _from_cosines(cosines)

    with one_blas_thread():
        on_cores(multiply, _tiles(m), _threads(len(products) * p))
    found: SparseMatrix = csr_array((products, pairs.indices, pairs.indptr), shape=(m, m))
    return found


def _gram(updates: np.ndarray, divisor: np.ndarray | None) -> np.ndarray:
    """<v_i, v_j> of all pairs, rows divided by `divisor` first; large tiles first, those on the diagonal last."""
    m, p = updates.shape
    gram = np.empty((m, m))
    tiles = _tiles(m)
    pairs = [(a, b) for place, a in enumerate(tiles) for b in tiles[place + 1 :]] + [(a, a) for a in tiles]

    def chunk(rows: slice, columns: slice) -> np.ndarray:
        part: np.ndarray = updates[rows, columns]
        return part if divisor is None else part / divisor[rows, None]

    def multiply(pair: tuple[slice, slice]) -> None:
        rows, others = pair
        total = np.zeros((rows.stop - rows.start, others.stop - others.start))
        with np.errstate(all="ignore"):  # what overflows or vanishes is found on the diagonal
            for start in range(0, p, COLUMN_CHUNK):
                columns = slice(start, start + COLUMN_CHUNK)
                own = chunk(rows, columns)
                total += own @ (own if rows is others else chunk(others, columns)).T
        gram[rows, others] = total
        gram[others, rows] = total.T

    with one_blas_thread():
        on_cores(multiply, pairs, _threads(m * m * p))
    return gram


def _squares(updates: np.ndarray, divisor: np.ndarray | None) -> np.ndarray:
    """|v_i|^2, rows divided by `divisor` first."""
    squares = np.zeros(len(updates))
    with np.errstate(all="ignore"):
        for start in range(0, updates.shape[1], PAIR_CHUNK):
            part = updates[:, start : start + PAIR_CHUNK]
            part = part if divisor is None else part / divisor[:, None]
            squares += np.einsum("ij,ij->i", part, part, dtype=np.float64)
    return squares


def _divisor(updates: np.ndarray, squares: np.ndarray) -> np.ndarray | None:
    """What to divide rows by so that squares neither overflow nor vanish; None where none would.

    Raises:
      BidError: an update that is not finite.
    """
    least = float(np.finfo(updates.dtype).tiny) ** 0.6
    odd = np.flatnonzero(~((squares > least) & (squares < 1 / least)))
    scale = np.abs(updates[odd]).max(axis=1, initial=0.0)
    if not np.isfinite(scale).all():
        row = int(odd[np.argmin(np.isfinite(scale))])
        raise BidError(
            f"the update of participant {row} has an entry that is not finite, expected numbers only"
        )
    if not scale.any():
        return None
    divisor = np.ones(len(updates), dtype=updates.dtype)
    divisor[odd] = np.where(scale > 0, scale, 1.0)
    return divisor


def _norms(squares: np.ndarray) -> np.ndarray:
    """|v_i|, 1 for an update of zeros: whatever it is multiplied with is zero."""
    norms: np.ndarray = np.sqrt(squares)
    return np.where(norms > 0, norms, 1.0)


def _from_cosines(cosines: np.ndarray) -> np.ndarray:
    """1 - cos; by Cauchy-Schwarz only rounding can leave [0, 2]."""
    distance: np.ndarray = np.clip(1.0 - cosines, 0.0, 2.0)
    return distance


def _tiles(m: int) -> list[slice]:
    """Slices of nearly equal length, at most TILE."""
    count = -(-m // TILE)
    return [slice(*ends) for ends in pairwise(place * m // count for place in range(count + 1))] if m else []


def _threads(multiplications: int) -> int | None:
    """All cores where there is enough to do."""
    return None if multiplications >= THREADS_FROM else 1

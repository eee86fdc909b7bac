"""Sketches: an update of millions of numbers told in a few thousand, so that angles between updates survive.

A count sketch (Charikar, Chen and Farach-Colton 2002) whose buckets are as full as one another: every coordinate
gets a random sign and one of `size` buckets, ceil(p / size) coordinates at most in each, and a bucket holds the sum.
That takes O(p) and no matrix. Bucket and sign are drawn from the seed alone, so each participant can sketch its own
update, and the sketches of all rounds of a run can be compared.

The inner product of two sketches is that of the updates, plus a random error of mean zero and variance

    q * (|x|^2 |y|^2 + <x, y>^2 - 2 * sum of x_k^2 y_k^2)  <=  q * (1 + cos^2) * |x|^2 |y|^2,

q being the probability that two coordinates share a bucket: less than 1/size, and zero where p <= size, as then
nothing is added up. With independent hashes in place of equal buckets it would be 1/size whatever p is.
"""

import functools

import numpy as np
from jaxtyping import Float, Float32, Int64

from ipfl.cores import on_cores
from ipfl.errors import BidError
from ipfl.seeding import generator

SIZE = 4096
"""Numbers in a sketch, unless given."""
LARGEST = 1e30
"""A sketch with a larger entry is scaled down to it, which keeps its direction: float32 ends at 3e38."""


def sketch(
    updates: Float[np.ndarray, "m p"], size: int = SIZE, seed: int = 0
) -> Float32[np.ndarray, "m size"]:
    """A sketch of every update; `cosine_distances` of the sketches estimates that of the updates.

    Laws: a sketch of one row is that row's sketch among others; linear, but for rounding; lengths and angles are
    kept exactly, but for rounding, where p <= size; otherwise up to `sketch_error`.

    Args:
      updates: one row per participant.
      size: numbers in a sketch, >= 1; unused ones are 0 where p < size.
      seed: of the projection: only sketches with the same seed, size and p can be compared.
    Raises:
      BidError: a size below 1.

    >>> sketch(np.array([[3.0, 0.0, 4.0]]), size=8, seed=1).round(6).tolist()
    [[-4.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    m, p = updates.shape
    if size < 1:
        raise BidError(f"the size of a sketch is {size}, expected a whole number >= 1")
    order, signs = _projection(p, size, seed)
    result = np.zeros((m, size), dtype=np.float32)

    def add_up(row: int) -> None:
        turned = np.zeros(-(-p // size) * size)
        np.multiply(updates[row].take(order), signs, out=turned[:p])
        sums = turned.reshape(-1, size).sum(axis=0)
        result[row] = sums * min(1.0, LARGEST / max(np.abs(sums).max(), LARGEST))

    on_cores(add_up, range(m), None if m * p >= 1 << 20 else 1)
    return result


def sketch_error(num_params: int, size: int = SIZE, cosine: float = 0.0) -> float:
    """The standard deviation of a cosine, and so of a distance, that is read off two sketches.

    (1 - cos^2) * sqrt(q): to first order in 1/sqrt(size), for updates that no few coordinates dominate.

    >>> round(sketch_error(62_006, 4096), 4), round(sketch_error(62_006, 4096, cosine=0.8), 4), sketch_error(4096)
    (0.0151, 0.0054, 0.0)
    """
    full, rest = divmod(num_params, size)  # so many buckets hold one coordinate more than the others
    together = rest * (full + 1) * full + (size - rest) * full * (full - 1)
    q = together / (num_params * (num_params - 1)) if num_params > 1 else 0.0
    return float((1.0 - cosine**2) * np.sqrt(q))


@functools.lru_cache(maxsize=2)
def _projection(p: int, size: int, seed: int) -> tuple[Int64[np.ndarray, "p"], Float32[np.ndarray, "p"]]:
    """Which coordinate comes in which place (place modulo size is its bucket), and the sign it has there."""
    random = generator(seed, -1, -1, "sketch")
    signs = np.where(random.integers(2, size=p, dtype=np.int8) == 1, 1.0, -1.0).astype(np.float32)
    return random.permutation(p), signs

"""Distances between participants: one minus the cosine of their updates (DESIGN: d_ij = 1 - cos(v_i, v_j)).

Source: "Incentivizing Inclusive Contributions in Model Sharing Markets", arXiv 2505.02462.
"""

import numpy as np
from jaxtyping import Float

from ipfl.errors import BidError

COLUMN_CHUNK = 65_536
"""Columns per product: short enough for float32 sums to stay accurate (error 5e-8 at 5e6 columns)."""


def cosine_distances(updates: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "m m"]:
    """Distance of every pair of updates.

    d_ij = 1 - <v_i, v_j> / (|v_i| |v_j|), from one Gram matrix summed in float64 over chunks of columns,
    with the norms from its diagonal.

    Laws: symmetric; 0 <= d <= 2; zero on the diagonal; unchanged when an update is scaled by a positive
    number. An update of zeros has no direction: it is at distance 1 from every other.

    Args:
      updates: v_i = theta_i - theta_0, one row per participant, float32 or float64.
    Returns:
      Distances, float64.
    Raises:
      BidError: an entry is NaN or infinite; the message gives the participant's row.

    >>> cosine_distances(np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])).round(6).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    m, p = updates.shape
    scale = np.abs(updates).max(axis=1, initial=0.0)
    if not np.isfinite(scale).all():
        row = int(np.argmin(np.isfinite(scale)))
        raise BidError(
            f"the update of participant {row} has an entry that is not finite, expected numbers only"
        )
    # Every row is divided by its largest entry first, so that squares neither overflow nor vanish.
    divisor = np.where(scale > 0, scale, 1).astype(updates.dtype)[:, None]
    gram = np.zeros((m, m))
    for start in range(0, p, COLUMN_CHUNK):
        chunk = updates[:, start : start + COLUMN_CHUNK] / divisor
        gram += chunk @ chunk.T
    norms = np.sqrt(np.diagonal(gram))
    norms = np.where(norms > 0, norms, 1.0)
    distance: np.ndarray = 1.0 - gram / np.outer(norms, norms)
    distance = (distance + distance.T) / 2
    # By Cauchy-Schwarz only rounding can leave [0, 2].
    np.clip(distance, 0.0, 2.0, out=distance)
    np.fill_diagonal(distance, 0.0)
    return distance

"""Images of bytes as the models take them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8


def standardised(
    images: UInt8[np.ndarray, "n channels height width"],
    mean: Sequence[float],
    deviation: Sequence[float],
) -> Float32[np.ndarray, "n channels height width"]:
    """(pixel / 255 - mean) / deviation, per channel.

    >>> standardised(np.array([[[[0, 255]]]], np.uint8), [0.5], [0.25]).tolist()
    [[[[-2.0, 2.0]]]]
    """
    x = images.astype(np.float32)
    x /= np.float32(255)
    x -= np.array(mean, np.float32)[:, None, None]
    x /= np.array(deviation, np.float32)[:, None, None]
    return x

"""A partition: the first half of the participants are small, the others three times as large; labels at random."""

import numpy as np

from ipfl.plugins import partition


@partition("two_sizes")
def two_sizes(labels, num_participants, config, rng, groups):
    shares = np.where(np.arange(num_participants) < num_participants // 2, 1.0, 3.0)
    ends = np.floor(np.cumsum(shares) / shares.sum() * len(labels)).astype(int)
    return np.split(rng.permutation(len(labels)), ends[:-1])

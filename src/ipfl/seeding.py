"""The only source of randomness.

Every random draw comes from `generator(seed, round_index, participant, purpose)`: a counter-based
generator keyed by what the draw is for, never by what was drawn before. So results do not depend on
the order in which participants are trained, and a resumed run draws what an uninterrupted one draws.
"""

import hashlib
from typing import Literal

import numpy as np

Purpose = Literal[
    "partition",
    "participants",
    "init",
    "batches",
    "split",
    "conduct",
    "selection",
    "withdrawal",
    "search",
    "sketch",
    "synthetic",
    "torch",
    "privacy",
]


def generator(seed: int, round_index: int, participant: int, purpose: Purpose) -> np.random.Generator:
    """A Philox generator whose key is the SHA-256 of its four arguments.

    Args:
      seed: the run's seed, >= 0.
      round_index: 0-based; -1 for what happens before the first round.
      participant: index of the participant; -1 for draws that belong to nobody.
      purpose: what the draw is for; different purposes are independent streams.

    >>> a = generator(0, 3, 1, "batches").integers(1000, size=3)
    >>> b = generator(0, 3, 1, "batches").integers(1000, size=3)
    >>> a.tolist() == b.tolist()
    True
    """
    text = f"ipfl/{seed}/{round_index}/{participant}/{purpose}"
    key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def torch_seed(seed: int, round_index: int, participant: int) -> int:
    """A 63-bit seed for code that draws from torch's own generator (initial weights, dropout)."""
    return int(generator(seed, round_index, participant, "torch").integers(2**63 - 1))

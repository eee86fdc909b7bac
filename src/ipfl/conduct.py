"""What a dishonest participant does to the update it publishes. Pure functions of the true update.

An attack corrupts an update; a misreport is a false bid and is another matter. The attacker keeps its own
honest model: only what others see of it changes. Attacks: paper, section on poisoning.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from ipfl.errors import ConfigError

Update = Float32[np.ndarray, "p"]
Conduct = Callable[[Update, np.random.Generator], Update]


def _honest(update: Update, random: np.random.Generator) -> Update:
    return update


def _sign_flip(update: Update, random: np.random.Generator) -> Update:
    """Points away from where training went."""
    return -update


def _shuffle(update: Update, random: np.random.Generator) -> Update:
    """The right numbers in the wrong places."""
    return random.permutation(update)


def _same_value(update: Update, random: np.random.Generator) -> Update:
    """Every coordinate equal to the update's root mean square."""
    return np.full_like(update, np.sqrt(np.mean(np.square(update, dtype=np.float64))))


def _gaussian(update: Update, random: np.random.Generator) -> Update:
    """Noise of the update's own norm, as a free rider would send."""
    noise = random.standard_normal(update.shape)
    norm = np.linalg.norm(noise)
    return (noise * (np.linalg.norm(update.astype(np.float64)) / norm)).astype(np.float32)


CONDUCTS: dict[str, Conduct] = {
    "honest": _honest,
    "sign_flip": _sign_flip,
    "shuffle": _shuffle,
    "same_value": _same_value,
    "gaussian": _gaussian,
}
"""Every conduct by name."""


def find_conduct(name: str, participant_id: str) -> Conduct:
    """The conduct called `name`.

    Raises:
      ConfigError: there is none of that name; the message lists those there are.
    """
    if name not in CONDUCTS:
        raise ConfigError(
            f"participant {participant_id}: unknown conduct {name!r}; known: {', '.join(CONDUCTS)}"
        )
    return CONDUCTS[name]

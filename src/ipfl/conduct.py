"""What a dishonest participant does to the update it publishes. Pure functions of the true updates.

An attack corrupts an update; a misreport is a false bid and is another matter. The attacker keeps its own
honest model: only what others see of it changes. Attacks: paper (arXiv 2505.02462), section on poisoning; "a
little is enough": Baruch et al., NeurIPS 2019, arXiv 1902.06156. A free rider does not train at all.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from ipfl.errors import ConfigError

Update = Float32[np.ndarray, "p"]
Updates = Float32[np.ndarray, "m p"]
Conduct = Callable[[Updates, int, np.random.Generator], Update]
"""From everybody's true updates (an attacker may know them all) and its own row to what it publishes."""

FREE_RIDE = "free_ride"
SCALE = 10.0
LITTLE = 1.5


def _honest(updates: Updates, row: int, random: np.random.Generator) -> Update:
    own: Update = updates[row]
    return own


def _sign_flip(updates: Updates, row: int, random: np.random.Generator) -> Update:
    """Points away from where training went."""
    flipped: Update = -updates[row]
    return flipped


def _shuffle(updates: Updates, row: int, random: np.random.Generator) -> Update:
    """The right numbers in the wrong places."""
    return random.permutation(updates[row])


def _same_value(updates: Updates, row: int, random: np.random.Generator) -> Update:
    """Every coordinate equal to the update's root mean square."""
    return np.full_like(updates[row], np.sqrt(np.mean(np.square(updates[row], dtype=np.float64))))


def _gaussian(updates: Updates, row: int, random: np.random.Generator) -> Update:
    """Noise of the update's own norm."""
    noise = random.standard_normal(updates[row].shape)
    norm = np.linalg.norm(noise)
    scaled: Update = (noise * (np.linalg.norm(updates[row].astype(np.float64)) / norm)).astype(np.float32)
    return scaled


def _free_ride(updates: Updates, row: int, random: np.random.Generator) -> Update:
    """Nothing learnt, nothing to show."""
    return np.zeros_like(updates[row])


def _scaled(factor: float) -> Conduct:
    """The true update, so many times over, to outweigh the others in an average."""

    def conduct(updates: Updates, row: int, random: np.random.Generator) -> Update:
        with np.errstate(over="ignore"):  # an infinite update is refused where it arrives
            scaled: Update = (updates[row] * factor).astype(np.float32)
        return scaled

    return conduct


def _little(deviations: float) -> Conduct:
    """Everybody's mean less so many standard deviations, coordinate by coordinate: hard to tell from honest."""

    def conduct(updates: Updates, row: int, random: np.random.Generator) -> Update:
        mean = updates.mean(axis=0, dtype=np.float64)
        low: Update = (mean - deviations * updates.std(axis=0, dtype=np.float64)).astype(np.float32)
        return low

    return conduct


CONDUCTS: dict[str, Conduct] = {
    "honest": _honest,
    "sign_flip": _sign_flip,
    "shuffle": _shuffle,
    "same_value": _same_value,
    "gaussian": _gaussian,
    "scaled": _scaled(SCALE),
    "little": _little(LITTLE),
    FREE_RIDE: _free_ride,
}
"""Every conduct by name."""

ADJUSTABLE = {"scaled": _scaled, "little": _little}
"""Conducts that take a number: "scaled:5" is five times the update."""


def find_conduct(name: str, participant_id: str) -> Conduct:
    """The conduct called `name`, or `name:number` for those that take one.

    Raises:
      ConfigError: there is none of that name; the message lists those there are.

    >>> find_conduct("scaled:2", "a")(np.ones((1, 2), np.float32), 0, np.random.default_rng(0)).tolist()
    [2.0, 2.0]
    """
    kind, colon, number = name.partition(":")
    if colon and kind in ADJUSTABLE:
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if not math.isfinite(amount):
            raise ConfigError(
                f"participant {participant_id}: conduct {name!r}: expected a number after the colon, e.g. '{kind}:2'"
            )
        return ADJUSTABLE[kind](amount)
    if name not in CONDUCTS:
        raise ConfigError(
            f"participant {participant_id}: unknown conduct {name!r}; known: {', '.join(CONDUCTS)}"
        )
    return CONDUCTS[name]

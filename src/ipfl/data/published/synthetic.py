"""Made-up images of any shape: one prototype a class, and noise. For tests, speed and scale, without any file."""

import math
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Int64
from pydantic import Field, model_validator

from ipfl.config import Table
from ipfl.data.sources import Source
from ipfl.seeding import generator

BLOCKS = 4
VALUES_MAX = 2_000_000_000
"""Numbers in all examples together: 8 GB."""


class SyntheticSettings(Table):
    """What [task_settings] may say of the task `synthetic`; `shape` is channels, height and width."""

    shape: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(strict=False, min_length=1, max_length=3)
    ] = (
        1,
        16,
        16,
    )
    classes: Annotated[int, Field(ge=2, le=10_000)] = 10
    examples: Annotated[int, Field(ge=2, le=10_000_000)] = 4000
    test_examples: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    difficulty: Annotated[float, Field(ge=0, le=100)] = 0.3

    @model_validator(mode="after")
    def _fits(self) -> "SyntheticSettings":
        values = (self.examples + self.test_examples) * math.prod(self.shape)
        if values > VALUES_MAX:
            raise ValueError(f"{values:,} numbers are more than {VALUES_MAX:,}: lower examples or shape")
        return self


def synthetic(settings: SyntheticSettings, seed: int) -> Source:
    """Examples x = (prototype of class y + sigma * noise) / sqrt(1 + sigma^2), all draws standard normal.

    Prototypes are alike within blocks of pixels, noise is not.

    sigma = difficulty * sqrt(number of values of an example), so that difficulty means the same for every shape:
    who knows two prototypes takes one for the other with probability Phi(-1 / (sqrt(2) * difficulty)), which is
    0.9 % at 0.3, 8 % at 0.5 and 24 % at 1. Classes are equally frequent, up to one example.

    Args:
      settings: shape, number of classes and examples, difficulty.
      seed: of everything drawn.

    >>> source = synthetic(SyntheticSettings(shape=(3, 4, 4), classes=5, examples=100), seed=0)
    >>> source.x.shape, np.bincount(source.y).tolist(), abs(float(source.x.std()) - 1) < 0.1
    ((100, 3, 4, 4), [20, 20, 20, 20, 20], True)
    """
    rng = generator(seed, -1, -1, "synthetic")
    names = tuple(f"class-{label:0{len(str(settings.classes - 1))}d}" for label in range(settings.classes))
    prototypes = _prototypes(settings.classes, settings.shape, rng)
    x, y = _draw(prototypes, settings.examples, settings.difficulty, rng)
    test = None
    if settings.test_examples:
        test = Source(*_draw(prototypes, settings.test_examples, settings.difficulty, rng), names)
    return Source(x, y, names, test=test)


def _prototypes(
    classes: int, shape: tuple[int, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "classes ..."]:
    """Standard normal values, each for a block of pixels, so that neighbours are alike as in pictures.

    Height and width, the last two dimensions where there are two or three, have at most 4 blocks each.
    """
    blocks = [np.arange(side) * min(side, BLOCKS) // side for side in shape[-2:]] if len(shape) > 1 else []
    coarse = (*shape[: len(shape) - len(blocks)], *(int(block[-1]) + 1 for block in blocks))
    prototypes = rng.standard_normal((classes, *coarse), dtype=np.float32)
    for axis, block in zip((-2, -1), blocks, strict=False):
        prototypes = prototypes.take(block, axis=axis)
    return prototypes


def _draw(
    prototypes: Float32[np.ndarray, "classes ..."], count: int, difficulty: float, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "n ..."], Int64[np.ndarray, "n"]]:
    sigma = np.float32(difficulty * math.sqrt(prototypes[0].size))
    y = rng.permutation(np.arange(count, dtype=np.int64) % len(prototypes))
    x = rng.standard_normal((count, *prototypes.shape[1:]), dtype=np.float32)
    x *= sigma
    x += prototypes[y]
    x /= np.float32(math.sqrt(1 + sigma * sigma))
    return x, y

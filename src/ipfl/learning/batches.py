"""Which examples each step of local training sees: plans drawn before training, alone or for a block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64

Lengths = tuple[int, ...]


def batch_plan(
    num_examples: int, batch_size: int, steps: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Indices of each step's batch: epochs of a fresh permutation each, cut into batches.

    The last batch of an epoch is short when batch_size does not divide num_examples; a single left-over
    example joins the batch before it (batch normalisation cannot train on one example).

    >>> [len(batch) for batch in batch_plan(5, 2, 4, np.random.default_rng(0))]
    [2, 3, 2, 3]
    """
    batches: list[np.ndarray] = []
    edges = [0, *_cuts(num_examples, batch_size), num_examples]
    while len(batches) < steps:
        order = random.permutation(num_examples)
        batches += [order[low:high] for low, high in pairwise(edges)]
    return batches[:steps]


def batch_lengths(num_examples: int, batch_size: int, steps: int) -> Lengths:
    """The lengths of the batches of `batch_plan`, which do not depend on what is drawn.

    >>> batch_lengths(5, 2, 4)
    (2, 3, 2, 3)
    """
    edges = [0, *_cuts(num_examples, batch_size), num_examples]
    epoch = [high - low for low, high in pairwise(edges)]
    return tuple(epoch * (steps // len(epoch) + 1))[:steps]


def _cuts(num_examples: int, batch_size: int) -> list[int]:
    cuts = list(range(batch_size, num_examples, batch_size))
    if cuts and num_examples - cuts[-1] == 1:
        cuts.pop()
    return cuts


@dataclass(frozen=True, eq=False)
class BlockPlan:
    """The batches of b participants whose examples stand one after another in one tensor, step by step.

    Iterating gives the index and the weights (b, width) of every step. A batch that is shorter than the step is
    wide is filled up with an example that weighs nothing. The weights of a batch sum to 1.
    """

    index: Int64[torch.Tensor, "steps b width"]
    weight: Float[torch.Tensor, "steps b width"]
    widths: Lengths

    def __len__(self) -> int:
        return len(self.widths)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index, weight, width in zip(self.index, self.weight, self.widths, strict=True):
            yield index[:, :width], weight[:, :width]

    @property
    def one_width(self) -> bool:
        """Whether all steps have the same shape."""
        return len(set(self.widths)) == 1

    def to(self, device: torch.device) -> "BlockPlan":
        """The same plan on another device."""
        return BlockPlan(self.index.to(device), self.weight.to(device), self.widths)


def block_plan(
    plans: Sequence[Sequence[np.ndarray]],
    sizes: Sequence[int],
    width: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlockPlan:
    """Put the plans of b participants side by side.

    Args:
      plans: one of `batch_plan` each, all with the same number of steps.
      sizes: how many examples each has.
      width: of every step, at least the longest batch; None: each step is as wide as its own longest batch.
      dtype: of the weights.

    >>> plan = block_plan([[np.array([1, 0])], [np.array([2])]], sizes=[2, 3])
    >>> [(index.tolist(), weight.tolist()) for index, weight in plan]
    [([[1, 0], [4, 2]], [[0.5, 0.5], [1.0, 0.0]])]
    """
    longest = [max(map(len, batches)) for batches in zip(*plans, strict=True)]
    widest = width or max(longest)
    index = np.empty((len(longest), len(plans), widest), dtype=np.int64)
    weight = np.zeros((len(longest), len(plans), widest))
    offset = 0
    for place, (plan, size) in enumerate(zip(plans, sizes, strict=True)):
        index[:, place] = offset
        for step, batch in enumerate(plan):
            index[step, place, : len(batch)] += batch
            weight[step, place, : len(batch)] = 1.0 / len(batch)
        offset += size
    widths = tuple(longest) if width is None else (width,) * len(longest)
    return BlockPlan(torch.from_numpy(index), torch.from_numpy(weight).to(dtype), widths)

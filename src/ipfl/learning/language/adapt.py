"""Local training of adapters: AdamW on the completion loss plus the proximal pull, one participant or several at once.

The pull enters as its gradient, pull * (theta - centre), before gradients are cut to length: the same steps as with
the pull in the loss (tests/learning/language/test_adapt.py), without its part of the graph.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch.nn.functional import cross_entropy

from ipfl.config import LanguageConfig, TrainingConfig
from ipfl.learning.language.adapters import Adapters, Dropout
from ipfl.learning.language.base import Base
from ipfl.learning.language.encode import Batch, Encoded, batch
from ipfl.learning.local_update import cosine_gradient

BETA_2, EPSILON = 0.999, 1e-8
Steps = Sequence[Sequence[Encoded]]
"""One participant's batches, one per step."""


@dataclass(frozen=True, eq=False)
class Pulls:
    """Where b participants are drawn to, beside their own data; rows without a vector have strength 0."""

    centre: Float[torch.Tensor, "b p"] | None
    pull: Float[torch.Tensor, "b 1"]
    direction: Float[torch.Tensor, "b p"] | None
    align: Float[torch.Tensor, "b 1"]


def adapt(
    base: Base,
    adapters: Adapters,
    theta: Float[torch.Tensor, "b p"],
    plans: Sequence[Steps],
    training: TrainingConfig,
    language: LanguageConfig,
    lr: float,
    pulls: Pulls,
    dropout_seeds: Sequence[int] | None = None,
) -> Float[torch.Tensor, "b"]:
    """Train b participants' adapters together, in place; each as if it were alone.

    Each step: g = grad L + pull * (theta - centre) - align * grad cos(theta, direction), cut to norm `language.clip`;
    then AdamW, whose moments start at zero every round.

    Args:
      base: the frozen model.
      adapters: its adapted layers.
      theta: one adapter per row; float32, on the base's device.
      plans: every participant's batches, as many steps each.
      training: weight_decay, and momentum = beta_1.
      language: clip, dropout.
      lr: learning rate of this round.
      pulls: see there.
      dropout_seeds: one per participant, where language.dropout > 0.
    Returns:
      Mean completion loss over the steps, of each participant; NaN where there are none.
    """
    num_steps = len(plans[0])
    if num_steps == 0:
        return torch.full((len(theta),), math.nan)
    grad = torch.zeros_like(theta)
    pairs = adapters.pairs(theta, train=True)
    parameter = torch.nn.Parameter(theta)
    parameter.grad = grad
    optimiser = torch.optim.AdamW(
        [parameter],
        lr=lr,
        betas=(training.momentum, BETA_2),
        eps=EPSILON,
        weight_decay=training.weight_decay,
    )
    total = torch.zeros(len(theta), device=theta.device)
    for step in range(num_steps):
        rows = [plan[step] for plan in plans]
        dropout = _dropout(language.dropout, rows, dropout_seeds, step)
        with adapters.bound(pairs, dropout):
            losses = completion_losses(base, side_by_side(rows, base.filler).to(theta.device), len(theta))
            pairs.gradient(losses.sum(), grad)
        with torch.no_grad():
            if pulls.centre is not None:
                grad.add_((theta - pulls.centre) * pulls.pull)
            if pulls.direction is not None:
                grad.sub_(cosine_gradient(theta, pulls.direction) * pulls.align)
            cut(grad, language.clip)
        optimiser.step()
        total += losses.detach()
    return total / num_steps


def completion_losses(base: Base, rows: Batch, participants: int) -> Float[torch.Tensor, "b"]:
    """Each participant's cross-entropy per token of its responses; as many rows of the batch for each."""
    per_token = cross_entropy(base.scores(rows), rows.target, reduction="none")
    owner = rows.row // (len(rows.ids) // participants)
    counts = torch.bincount(owner, minlength=participants)
    sums = torch.zeros(participants, device=per_token.device).index_add(0, owner, per_token)
    return sums / counts


def side_by_side(rows: Sequence[Sequence[Encoded]], filler: int) -> Batch:
    """One batch of all participants' batches, the shorter ones filled up with rows that count nothing."""
    longest = max(map(len, rows))
    filled: list[Encoded | None] = []
    for own in rows:
        filled += [*own, *[None] * (longest - len(own))]
    return batch(filled, filler)


def cut(grad: Float[torch.Tensor, "b p"], clip: float) -> None:
    """Shorten every row that is longer than `clip` to that norm; 0 leaves all as they are."""
    if clip > 0:
        norms = grad.norm(dim=1, keepdim=True)
        grad.mul_((clip / (norms + 1e-6)).clamp(max=1.0))


def learning_rate(first: float, last: float | None, round_index: int, rounds: int) -> float:
    """A cosine from `first` in the first round to `last` in the last one; `first` always where there is no last.

    >>> [round(learning_rate(1.0, 0.0, r, 3), 2) for r in range(3)], learning_rate(1.0, None, 2, 3)
    ([1.0, 0.5, 0.0], 1.0)
    """
    if last is None or rounds < 2:
        return first
    along = min(1.0, round_index / (rounds - 1))
    return last + (first - last) * (1 + math.cos(math.pi * along)) / 2


def _dropout(
    share: float, rows: Sequence[Sequence[Encoded]], seeds: Sequence[int] | None, step: int
) -> Dropout | None:
    if share == 0 or seeds is None:
        return None
    widths = tuple(max(map(len, own)) for own in rows)
    return Dropout(share, tuple(seed + 7919 * step for seed in seeds), widths)

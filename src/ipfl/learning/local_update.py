"""Local training: SGD with momentum on cross-entropy plus the proximal pull (paper, local objective).

The pull lam/(2 eta) * ||theta - z||^2 enters as its gradient, pull * (theta - z) with pull = lam / eta.
"""

import math

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn.functional import cross_entropy

from ipfl.config import TrainingConfig
from ipfl.learning.vectors import FlatModel


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
    while len(batches) < steps:
        order = random.permutation(num_examples)
        cuts = list(range(batch_size, num_examples, batch_size))
        if cuts and num_examples - cuts[-1] == 1:
            cuts.pop()
        batches += np.split(order, cuts)
    return batches[:steps]


def train(
    model: FlatModel,
    x: torch.Tensor,
    y: torch.Tensor,
    batches: list[np.ndarray],
    training: TrainingConfig,
    centre: Float32[np.ndarray, "p"] | None,
    pull: float,
    direction: Float32[np.ndarray, "p"] | None = None,
    align: float = 0.0,
) -> float:
    """Take one SGD step per batch from the parameters that `model` holds.

    Each step: g = grad L + weight_decay * theta + pull * (theta - centre) - align * grad cos(theta, direction);
    u = momentum * u + g; theta -= lr * u. The momentum u starts at zero every round.

    Args:
      model: holds the starting parameters; left with the trained ones.
      x: the participant's inputs (n, ...).
      y: its labels (n,).
      batches: from `batch_plan`.
      training: learning rate, momentum, weight decay.
      centre: the proxy z, or None for no pull.
      pull: lam / eta.
      direction: what theta is kept aligned with, or None.
      align: weight of the cosine between theta and the direction, which is raised.
    Returns:
      Mean cross-entropy over the steps (without pull and alignment); NaN where there are no steps.
    """
    if not batches:
        return math.nan
    theta, grad = model.theta, model.grad
    momentum = torch.zeros_like(theta)
    target = None if centre is None else torch.from_numpy(centre)
    along = None if direction is None or align == 0 else torch.from_numpy(direction)
    total = torch.zeros((), dtype=torch.float64)
    model.module.train()
    for batch in batches:
        index = torch.from_numpy(batch)
        grad.zero_()
        loss = cross_entropy(model.module(x[index]), y[index])
        loss.backward()  # type: ignore[no-untyped-call]
        grad.add_(theta, alpha=training.weight_decay)
        if target is not None:
            grad.add_(theta - target, alpha=pull)
        if along is not None:
            grad.add_(cosine_gradient(theta, along), alpha=-align)
        momentum.mul_(training.momentum).add_(grad)
        theta.sub_(momentum, alpha=training.lr)
        total += loss.detach()
    return float(total) / len(batches)


def cosine_gradient(theta: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Gradient of cos(theta, direction) by theta; zero where either has no direction."""
    norm, other = theta.norm(), direction.norm()
    if not norm * other > 0:
        return torch.zeros_like(theta)
    towards = direction / (norm * other)
    gradient: torch.Tensor = towards - theta * (torch.dot(theta, towards) / norm**2)
    return gradient

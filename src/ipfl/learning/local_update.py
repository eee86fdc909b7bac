"""Local training: SGD with momentum on cross-entropy plus the proximal pull (paper, local objective).

The pull lam/(2 eta) * ||theta - z||^2 enters as its gradient, pull * (theta - z) with pull = lam / eta.
`train` takes one participant after another; `learning.stacked` takes the same steps for several at once.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import cross_entropy

from ipfl.config import TrainingConfig
from ipfl.learning.vectors import FlatModel


def train(
    model: FlatModel,
    x: torch.Tensor,
    y: torch.Tensor,
    batches: list[np.ndarray],
    training: TrainingConfig,
    centre: Float[np.ndarray, "p"] | None,
    pull: float,
    direction: Float[np.ndarray, "p"] | None = None,
    align: float = 0.0,
) -> float:
    """Take one SGD step per batch from the parameters that `model` holds.

    Each step: g = grad L + weight_decay * theta + pull * (theta - centre) - align * grad cos(theta, direction);
    u = momentum * u + g; theta -= lr * u. The momentum u starts at zero every round.

    Args:
      model: holds the starting parameters; left with the trained ones.
      x: the participant's inputs (n, ...), on the model's device.
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
    target = None if centre is None else torch.from_numpy(centre).to(theta)
    along = None if direction is None or align == 0 else torch.from_numpy(direction).to(theta)
    total = torch.zeros((), dtype=torch.float64, device=theta.device)
    model.module.train()
    for batch in batches:
        index = torch.from_numpy(batch).to(x.device)
        grad.zero_()
        loss = cross_entropy(model.scores(x[index]), y[index])
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
    """Gradient of cos(theta, direction) by theta, row by row; zero where either has no direction."""
    norm, other = theta.norm(dim=-1, keepdim=True), direction.norm(dim=-1, keepdim=True)
    known = norm * other > 0
    towards = direction / torch.where(known, norm * other, 1.0)
    along = (theta * towards).sum(-1, keepdim=True) / torch.where(known, norm, 1.0) ** 2
    return torch.where(known, towards - theta * along, 0.0)

"""Accuracy and cross-entropy of a model on held examples."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn.functional import cross_entropy

from ipfl.learning.vectors import FlatModel

BATCH = 1024
"""Examples that one pass takes forward: part of what a result's last bits depend on."""


def examine(
    model: FlatModel, x: torch.Tensor, y: torch.Tensor
) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Cross-entropy of every example, and whether the likeliest class is the right one."""
    model.module.eval()
    losses, correct = [], []
    with torch.inference_mode():
        for start in range(0, len(y), BATCH):
            logits = model.scores(x[start : start + BATCH])
            labels = y[start : start + BATCH]
            losses.append(cross_entropy(logits, labels, reduction="none"))
            correct.append(logits.argmax(1) == labels)
    return torch.cat(losses).cpu().numpy(), torch.cat(correct).cpu().numpy()


def evaluate(model: FlatModel, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in [0, 1] of the parameters that `model` holds."""
    losses, correct = examine(model, x, y)
    return float(losses.mean(dtype=np.float64)), int(correct.sum()) / len(y)

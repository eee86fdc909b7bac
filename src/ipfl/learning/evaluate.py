"""Accuracy and cross-entropy of a model on held examples."""

import torch
from torch.nn.functional import cross_entropy

from ipfl.learning.vectors import FlatModel

BATCH = 1024


def evaluate(model: FlatModel, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in [0, 1] of the parameters that `model` holds."""
    model.module.eval()
    loss = torch.zeros((), dtype=torch.float64)
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(y), BATCH):
            logits = model.module(x[start : start + BATCH])
            labels = y[start : start + BATCH]
            loss += cross_entropy(logits, labels, reduction="sum")
            correct += int((logits.argmax(1) == labels).sum())
    return float(loss) / len(y), correct / len(y)

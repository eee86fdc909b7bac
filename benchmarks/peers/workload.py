"""What every peer reads: a workload that `ipfl bench round` has written, and the models by name.

A workload is a folder of plain NumPy arrays and `workload.json`, so that a peer needs nothing of this package:

    images.npy       training images as pixels, uint8 (n, ...)         labels.npy  int64 (n,)
    order.npy        positions of images, participant after participant   offsets.npy  (m + 1,)
    test_images.npy  test_labels.npy                                   theta_0.npy  the common start, float32 (p,)

A workload of the market alone has params.npy (m, p), num_examples.npy and theta_0.npy.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

Tensors = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Workload:
    """A folder and the settings found in it."""

    folder: Path
    settings: dict[str, Any]

    @property
    def m(self) -> int:
        return int(self.settings["participants"])

    def array(self, name: str) -> np.ndarray:
        """One of the arrays, read as far as it is used."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def rows(self, participant: int) -> np.ndarray:
        """Where a participant's own images stand."""
        start, end = self.offsets[participant], self.offsets[participant + 1]
        return np.asarray(self.array("order")[start:end])

    def num_examples(self, participant: int) -> int:
        return int(self.offsets[participant + 1] - self.offsets[participant])

    def train(self, participant: int) -> Tensors:
        """A participant's own images, normalised, and their labels."""
        rows = self.rows(participant)
        return self.normalised(self.array("images")[rows]), torch.from_numpy(
            self.array("labels")[rows].copy()
        )

    def test(self) -> Tensors:
        return self.normalised(self.array("test_images")), torch.from_numpy(self.array("test_labels").copy())

    def normalised(self, pixels: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(np.array(pixels)).float().div_(self.settings["pixel_max"])
        return values.sub_(self.settings["mean"]).div_(self.settings["std"])

    def model(self) -> nn.Module:
        """The model at the common start theta_0."""
        model = build(self.settings["model"], tuple(self.settings["shape"]), self.settings["classes"])
        theta_0 = torch.from_numpy(np.array(self.array("theta_0")))
        expected = sum(parameter.numel() for parameter in model.parameters())
        if theta_0.numel() != expected:
            raise SystemExit(f"theta_0 has {theta_0.numel():,} numbers, and the model {expected:,}")
        vector_to_parameters(theta_0, model.parameters())
        return model

    @cached_property
    def offsets(self) -> np.ndarray:
        return np.asarray(self.array("offsets"))


def read(folder: Path) -> Workload:
    path = folder / "workload.json"
    if not path.exists():
        raise SystemExit(f"{folder} is no workload: it has no workload.json")
    return Workload(folder, json.loads(path.read_text(encoding="utf-8")))


def build(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """`simple_cnn` (62,006 parameters on 3 x 32 x 32) or `mlp` (4,810 on 64 pixels)."""
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(int(np.prod(shape)), 64), nn.ReLU(), nn.Linear(64, classes)
        )
    if name != "simple_cnn":
        raise SystemExit(f"the peers know the models simple_cnn and mlp, not {name!r}")
    left = [((side - 4) // 2 - 4) // 2 for side in shape[1:]]
    return nn.Sequential(
        nn.Conv2d(shape[0], 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * left[0] * left[1], 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


def batches(num_examples: int, batch_size: int, steps: int, random: np.random.Generator) -> list[np.ndarray]:
    """Positions of each step's batch: fresh permutations, each cut into batches."""
    found: list[np.ndarray] = []
    while len(found) < steps:
        order = random.permutation(num_examples)
        found += [order[start : start + batch_size] for start in range(0, num_examples, batch_size)]
    return found[:steps]


def sgd(model: nn.Module, settings: dict[str, Any]) -> torch.optim.SGD:
    """The optimiser of the workload."""
    return torch.optim.SGD(
        model.parameters(),
        lr=settings["lr"],
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
    )


def count_correct(model: nn.Module, x: torch.Tensor, y: torch.Tensor, batch: int = 1000) -> int:
    """How many images the model gets right, in large batches."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(y), batch):
            correct += int((model(x[start : start + batch]).argmax(1) == y[start : start + batch]).sum())
    return correct

"""The work that is measured: data, model and settings, written to a folder that every system reads.

Data are drawn once, from `seeding.generator`, and kept as pixels (uint8), so that all systems see the same numbers and
each makes tensors of them in its own way. Systems outside this package read the same plain files.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ipfl.config import PartitionConfig, TrainingConfig
from ipfl.data import ParticipantData, Split, Task
from ipfl.data.dealing import unequal_piles
from ipfl.data.published.synthetic import SyntheticSettings, synthetic
from ipfl.data.sources import digits
from ipfl.errors import ConfigError
from ipfl.learning import FlatModel, initialised, model_factory
from ipfl.seeding import generator

ALPHA = 0.5
"""Dirichlet parameter of the classes that participants hold."""
DIGITS_EACH = 160
"""Training images of each participant on the digits: two and a half batches."""
EVALUATED_AT_ONCE = 1000
"""Where one common model is judged, its test images are shared out among evaluation jobs of at least so many."""
MARKET_EXAMPLES = 5000
UPDATE_CLUSTERS = 10
WITHIN = 0.5
"""Spread within a cluster of updates, the clusters' own being 1: distances are about 0.2 within, 1 across."""

Source = Literal["made-up", "digits", "market"]


@dataclass(frozen=True)
class Workload:
    """One piece of work; `source` "market" is the market step alone, on models that are given.

    On the digits every participant draws its own 160 of the 1,437 training images, so that any number of them
    takes full batches; two may hold the same image. On made-up images every class is shared out by Dirichlet(0.5).
    """

    name: str
    source: Source
    participants: int
    model: str = "mlp"
    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 10
    train_images: int = 0
    test_images: int = 0
    steps: int = 20
    batch_size: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-5
    lam: float = 2.0
    eta: float = 5.0
    valuation: float = 5e5
    export_cost: float = 1.0
    pixel_max: float = 16.0
    mean: float = 0.5
    std: float = 0.5
    seed: int = 0

    @property
    def training(self) -> TrainingConfig:
        """The settings of local training."""
        return TrainingConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


_CNN: dict[str, Any] = {"model": "simple_cnn", "shape": (3, 32, 32)}
_PICTURES: dict[str, Any] = {"pixel_max": 255.0, "mean": 128 / 255, "std": 40 / 255}
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "cifar", "made-up", 10, train_images=50_000, test_images=10_000, steps=200, **_CNN, **_PICTURES
        ),
        Workload("digits-9", "digits", 9),
        Workload("digits-100", "digits", 100),
        Workload("market-200", "market", 200, **_CNN),
        Workload("market-1000", "market", 1000, **_CNN),
    )
}
"""What `ipfl bench round` measures. `cifar` has the shape and size of CIFAR-10; its images are made up."""


def choose(names: str | None) -> list[Workload]:
    """Workloads by name, separated by commas; None: all.

    Raises:
      ConfigError: an unknown name.
    """
    asked = list(WORKLOADS) if names is None else [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in WORKLOADS:
            raise ConfigError(f"unknown workload {name!r}; known: {', '.join(WORKLOADS)}")
    return [WORKLOADS[name] for name in asked]


def changed(
    workload: Workload,
    seed: int = 0,
    *,
    steps: int | None = None,
    participants: int | None = None,
    train_images: int | None = None,
) -> Workload:
    """The workload with another seed, or smaller, to try things out; None leaves a setting as it is.

    Raises:
      ConfigError: a setting out of range.
    """
    asked = {"steps": (steps, 1), "participants": (participants, 2), "train_images": (train_images, 50)}
    changes: dict[str, Any] = {"seed": seed}
    for key, (value, lowest) in asked.items():
        if value is not None and value < lowest:
            raise ConfigError(f"{key} = {value}, expected at least {lowest}")
        if value is not None and (key != "train_images" or workload.source == "made-up"):
            changes[key] = value
    if "train_images" in changes:
        changes["test_images"] = changes["train_images"] // 5
    return dataclasses.replace(workload, **changes)


def write(workload: Workload, folder: Path) -> None:
    """Draw the data and write the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    factory = model_factory(workload.model, workload.shape, workload.classes)
    theta_0, _ = FlatModel(initialised(factory, workload.seed)).read()
    arrays = _market(workload, theta_0) if workload.source == "market" else _examples(workload)
    for name, values in (arrays | {"theta_0": theta_0}).items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    kind = "market" if workload.source == "market" else "training"
    settings = dataclasses.asdict(workload) | {"kind": kind}
    (folder / "workload.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Workload:
    """The workload of a folder."""
    settings = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
    del settings["kind"]
    return Workload(**settings | {"shape": tuple(settings["shape"])})


def read_array(folder: Path, name: str) -> np.ndarray:
    """One array of a workload's folder."""
    values: np.ndarray = np.load(folder / f"{name}.npy", allow_pickle=False)
    return values


def make_task(workload: Workload, folder: Path, *, personal: bool) -> Task:
    """Participants with the workload's data.

    Args:
      workload: as read from the folder.
      folder: where its arrays are.
      personal: whether every participant's model is judged on all test images (a common test set), or one model
        for all, each of whose `num_judges` participants takes a part of them.
    """
    images, labels = read_array(folder, "images"), read_array(folder, "labels")
    order, offsets = read_array(folder, "order"), read_array(folder, "offsets")
    test = Split(_normalised(workload, read_array(folder, "test_images")), read_array(folder, "test_labels"))
    judges = num_judges(workload)
    participants = []
    for index in range(workload.participants):
        rows = order[offsets[index] : offsets[index + 1]]
        part = slice(index % judges, None, judges)
        participants.append(
            ParticipantData(
                f"participant-{index}",
                Split(_normalised(workload, images[rows]), labels[rows]),
                None if personal else Split(test.x[part], test.y[part]),
            )
        )
    names = tuple(str(label) for label in range(workload.classes))
    return Task(workload.name, tuple(participants), workload.shape, names, common=test if personal else None)


def num_judges(workload: Workload) -> int:
    """Among how many participants the test images of one common model are shared out."""
    return max(1, min(workload.participants, workload.test_images // EVALUATED_AT_ONCE))


def _normalised(workload: Workload, pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float32)
    values /= np.float32(workload.pixel_max)
    values -= np.float32(workload.mean)
    values /= np.float32(workload.std)
    return values


def _examples(workload: Workload) -> dict[str, np.ndarray]:
    x, y, test_x, test_y = _digits() if workload.source == "digits" else _made_up(workload)
    rng = generator(workload.seed, -1, -1, "partition")
    piles = (
        [_draw(y, rng) for _ in range(workload.participants)]
        if workload.source == "digits"
        else unequal_piles(y, workload.participants, 2, PartitionConfig(kind="niid", alpha=ALPHA), rng, None)
    )
    return {
        "images": x,
        "labels": y,
        "order": np.concatenate(piles),
        "offsets": np.cumsum([0] + [len(pile) for pile in piles]),
        "test_images": test_x[: workload.test_images or None],
        "test_labels": test_y[: workload.test_images or None],
    }


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A participant's own images, its shares of the classes from Dirichlet(0.5)."""
    shares = rng.dirichlet(np.full(labels.max() + 1, ALPHA)) + 1e-3
    chances = (shares / np.bincount(labels))[labels]
    return rng.choice(len(labels), DIGITS_EACH, replace=False, p=chances / chances.sum())


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The digits of scikit-learn as pixels from 0 to 16: 1,437 to train on, 360 to test on."""
    from sklearn.model_selection import train_test_split  # takes a second: only when asked for

    source = digits()
    pixels = np.rint((source.x + 1) * 8).astype(np.uint8)
    x, test_x, y, test_y = train_test_split(
        pixels, source.y, test_size=0.2, random_state=0, stratify=source.y
    )
    return x, y, test_x, test_y


def _made_up(workload: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images of the task `synthetic`, rounded to pixels."""
    settings = SyntheticSettings(
        shape=workload.shape,
        classes=workload.classes,
        examples=workload.train_images,
        test_examples=workload.test_images,
    )
    source = synthetic(settings, workload.seed)
    if source.test is None:
        raise ConfigError(f"workload {workload.name}: test_images is 0, expected some")
    return _pixels(workload, source.x), source.y, _pixels(workload, source.test.x), source.test.y


def _pixels(workload: Workload, x: np.ndarray) -> np.ndarray:
    scaled = x * np.float32(workload.std * workload.pixel_max)
    scaled += np.float32(workload.mean * workload.pixel_max)
    return np.rint(scaled, out=scaled).clip(0, workload.pixel_max).astype(np.uint8)


def _market(workload: Workload, theta_0: np.ndarray) -> dict[str, np.ndarray]:
    """Models in clusters around theta_0, and lognormal sizes around 5,000."""
    rng = generator(workload.seed, -1, -1, "synthetic")
    m, p = workload.participants, len(theta_0)
    params = rng.standard_normal((m, p), dtype=np.float32)
    centres = rng.standard_normal((UPDATE_CLUSTERS, p), dtype=np.float32)
    for row in range(m):
        params[row] *= np.float32(WITHIN)
        params[row] += centres[row % UPDATE_CLUSTERS]
        params[row] *= np.float32(0.01)
        params[row] += theta_0
    sizes = np.maximum(1, np.rint(rng.lognormal(np.log(MARKET_EXAMPLES), 0.5, m))).astype(np.int64)
    return {"params": params, "num_examples": sizes}

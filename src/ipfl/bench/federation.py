"""A made-up federation of any number of participants, and rounds of iPFL in it.

Everybody holds as many images of their own; images are those of the task `synthetic`, so nothing is read.
"""

import gc
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipfl.bench.machine import forget_peak, peak_bytes, resident_bytes
from ipfl.bench.ours import TimedEngine, federation_of
from ipfl.config import MarketConfig, TrainingConfig
from ipfl.config.sections import Rule
from ipfl.data import ParticipantData, Split, Task
from ipfl.data.published.synthetic import SyntheticSettings, synthetic
from ipfl.engines import InProcessEngine
from ipfl.errors import ConfigError
from ipfl.experiment.driving import drive
from ipfl.learning import model_factory
from ipfl.methods import build_method
from ipfl.types import EvaluateJob, Job

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """The federation and its rounds; `candidates` 0: every buyer may buy from all, `sketch_size` 0: the default."""

    participants: int
    model: str = "mlp"
    shape: tuple[int, ...] = (1, 8, 8)
    train_images: int = 64
    test_images: int = 16
    steps: int = 20
    batch_size: int = 64
    rounds: int = 1
    rule: Rule = "truthful"
    distance: str = "exact"
    candidates: int = 0
    sketch_size: int = 0
    workers: int = 0
    seed: int = 0

    def market(self) -> MarketConfig:
        """The market's settings.

        Raises:
          ConfigError: a market without sketches and candidates is asked for them.
        """
        asked = {"distance": self.distance, "candidates": self.candidates, "sketch_size": self.sketch_size}
        chosen = {key: value for key, value in asked.items() if value not in (0, "exact")}
        lacking = chosen.keys() - MarketConfig.model_fields.keys()
        if lacking:
            raise ConfigError(f"market.{min(lacking)}: this version of the market has no such setting")
        return MarketConfig.model_validate({"lam": 2.0, "eta": 5.0, "rule": self.rule} | chosen)


def make_task(settings: Settings) -> Task:
    """Participants whose images are views of one array."""
    m, each = settings.participants, settings.train_images + settings.test_images
    source = synthetic(
        SyntheticSettings(shape=settings.shape, classes=CLASSES, examples=m * each), settings.seed
    )
    participants = []
    for index in range(m):
        train = slice(index * each, index * each + settings.train_images)
        test = slice(train.stop, (index + 1) * each)
        participants.append(
            ParticipantData(
                f"participant-{index}",
                Split(source.x[train], source.y[train]),
                Split(source.x[test], source.y[test]),
            )
        )
    return Task("made-up", tuple(participants), settings.shape, source.class_names)


def measure_rounds(settings: Settings) -> dict[str, Any]:
    """A round to warm up and `rounds` more: seconds of their parts, and the most memory held.

    Returns:
      `data_bytes` is what the process held when the data were ready, before there was an engine; `peak_bytes` the
      most it held from then on.
    """
    task = make_task(settings)
    training = TrainingConfig(steps=settings.steps, batch_size=settings.batch_size)
    gc.collect()
    forget_peak()  # drawing the data needs more than they take
    data_bytes = resident_bytes()
    factory = model_factory(settings.model, settings.shape, CLASSES)
    timed = TimedEngine(
        InProcessEngine(task, factory, training, settings.seed, settings.workers, common_examples_max=0)
    )
    federation = federation_of(timed, settings.market(), 5e5, 1.0, settings.seed)
    method = build_method("ipfl", federation, {})
    state = method.init()
    seconds: dict[str, list[float]] = {"total": [], "train": [], "evaluate": [], "market": []}
    trades = 0
    for _ in range(1 + settings.rounds):
        start = time.perf_counter()
        state, record = drive(method.round(state), timed)
        settled, train = time.perf_counter() - start, timed.taken()[0]
        trades = int(record.outcome.allocation.sum())
        del record
        timed.run(_judged(state.params, state.buffers))
        for name, taken in (
            ("total", time.perf_counter() - start),
            ("train", train),
            ("evaluate", timed.taken()[0]),
            ("market", settled - train),
        ):
            seconds[name].append(taken)
    median = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    return {
        "participants": settings.participants,
        "num_params": state.params.shape[1],
        "settings": dict(vars(settings)),
        "seconds": seconds,
        "median": median,
        "seconds_per_participant": median["total"] / settings.participants,
        "trades": trades,
        "data_bytes": data_bytes,
        "peak_bytes": max(data_bytes, peak_bytes()),
    }


def _judged(params: np.ndarray, buffers: np.ndarray) -> list[Job]:
    """Everybody's model on its own test images."""
    return [
        EvaluateJob(index, params[index : index + 1], buffers[index : index + 1])
        for index in range(len(params))
    ]

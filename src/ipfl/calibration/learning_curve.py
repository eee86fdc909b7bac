"""Error against number of examples, measured on one participant's own data.

For every seed a stratified part of the rows is set aside for testing and the rest is put into a random order in
which every beginning has about the classes' proportions; the first n rows of it are the subset of size n. So the
subsets of a seed grow, and other seeds have other test rows, other subsets and other initial weights. Every
subset is trained on from the start, until its loss has settled or a budget of steps is spent.
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from ipfl.calibration.examples import Examples
from ipfl.config import Config, TrainingConfig
from ipfl.data.prepare import stratified_split
from ipfl.errors import ConfigError, DataError
from ipfl.learning import (
    FlatModel,
    ModelFactory,
    batch_plan,
    choose_model,
    evaluate,
    initialised,
    model_factory,
    train,
)
from ipfl.seeding import generator, torch_seed

SIZES_MAX = 8
SIZES_MIN = 4
RATIO = math.sqrt(2.0)
STEPS_MAX = 1500
"""The budget of one training, in steps of SGD."""
CHUNK = 50
LOSS_SETTLED = 0.01
PATIENCE = 4
IMPROVEMENT = 0.02
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors in [0, 1] of models trained on growing subsets.

    Attributes:
      sizes: k numbers of training examples, ascending.
      seeds: s seeds.
      errors: [seed, size], the share of that seed's test rows that is classified wrongly.
      num_train, num_test: how many rows are for training and for testing.
      unsettled: how many of the trainings spent their budget before the loss settled.
      steps_max: that budget.
    """

    sizes: Int[np.ndarray, "k"]
    seeds: tuple[int, ...]
    errors: Float[np.ndarray, "s k"]
    num_train: int
    num_test: int
    unsettled: int
    steps_max: int

    @property
    def mean_errors(self) -> Float[np.ndarray, "k"]:
        """The mean over seeds."""
        mean: np.ndarray = self.errors.mean(axis=0)
        return mean

    @property
    def spread(self) -> Float[np.ndarray, "k"]:
        """The standard deviation over seeds; 0 for one seed."""
        if len(self.seeds) < 2:
            return np.zeros(len(self.sizes))
        spread: np.ndarray = self.errors.std(axis=0, ddof=1)
        return spread

    def up_to(self, size: int) -> "LearningCurve":
        """The same without larger subsets."""
        kept = self.sizes <= size
        return LearningCurve(
            self.sizes[kept], self.seeds, self.errors[:, kept], self.num_train, self.num_test, self.unsettled,
            self.steps_max,
        )  # fmt: skip


class Subset(NamedTuple):
    """Rows to train on and rows to test on; the seed decides the initial weights and the batches."""

    seed: int
    train: Int[np.ndarray, "train"]
    test: Int[np.ndarray, "test"]


def learning_curve(
    examples: Examples,
    config: Config | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    sizes: Sequence[int] | None = None,
    steps_max: int = STEPS_MAX,
    workers: int = 0,
    progress: Progress | None = None,
) -> LearningCurve:
    """Train on growing subsets, for several seeds.

    Laws: the same arguments give the same errors, whatever `workers`; the error of a seed and a size does not depend
    on which others are asked for.

    Args:
      examples: one participant's.
      config: its model, training and evaluation.test_fraction count; the defaults if None.
      seeds: each draws its own test rows, subsets and initial weights.
      sizes: numbers of training examples; by default up to 8, from all there are downwards by factors of sqrt(2).
      steps_max: the budget of one training.
      workers: threads; 0 = one per core.
      progress: called with how many trainings are done, and how many there are.
    Raises:
      ConfigError: seeds twice, sizes or steps out of range, a model that does not fit.
      DataError: too few rows.
    """
    config = config or Config()
    _check(seeds, steps_max)
    splits = {
        seed: stratified_split(examples.y, config.evaluation.test_fraction, generator(seed, -1, -1, "split"))
        for seed in seeds
    }
    num_train, num_test = (len(part) for part in splits[seeds[0]])
    classes = len(examples.class_names)
    chosen = default_sizes(num_train, classes) if sizes is None else _checked_sizes(sizes, num_train)
    orders = {
        seed: train_rows[growing_order(examples.y[train_rows], generator(seed, -1, -1, "selection"))]
        for seed, (train_rows, _) in splits.items()
    }
    subsets = [Subset(seed, orders[seed][:size], splits[seed][1]) for seed in seeds for size in chosen]
    measured = train_on(examples, subsets, config, steps_max, workers, progress)
    errors = np.array([error for error, _ in measured]).reshape(len(seeds), len(chosen))
    unsettled = sum(not settled for _, settled in measured)
    return LearningCurve(
        np.array(chosen, dtype=np.int64), tuple(seeds), errors, num_train, num_test, unsettled, steps_max
    )


def train_on(
    examples: Examples,
    subsets: Sequence[Subset],
    config: Config,
    steps_max: int = STEPS_MAX,
    workers: int = 0,
    progress: Progress | None = None,
) -> list[tuple[float, bool]]:
    """Train a fresh model on every subset: its error on the subset's test rows, and whether its loss settled."""
    name = choose_model(config.model, examples.input_shape, examples.model)
    factory = model_factory(name, examples.input_shape, len(examples.class_names))
    return _Trainer(examples, factory, config.training, steps_max).run(subsets, workers, progress)


def default_sizes(num_train: int, num_classes: int) -> tuple[int, ...]:
    """Up to 8 sizes, ascending, from all training rows downwards by factors of sqrt(2).

    Raises:
      DataError: fewer than 4 sizes of at least twice as many examples as classes.

    >>> default_sizes(440, 10)
    (39, 55, 78, 110, 156, 220, 311, 440)
    """
    least = max(6, 2 * num_classes)
    steps = [round(num_train / RATIO**step) for step in range(SIZES_MAX)]
    sizes = tuple(sorted(size for size in steps if size >= least))
    if len(sizes) < SIZES_MIN:
        raise DataError(
            f"{num_train} training rows are too few for a curve: {SIZES_MIN} sizes of at least {least} examples "
            f"need {math.ceil(least * RATIO ** (SIZES_MIN - 1))} rows beside those for testing; add rows"
        )
    return sizes


def growing_order(y: Int[np.ndarray, "n"], random: np.random.Generator) -> Int[np.ndarray, "n"]:
    """A random order of which every beginning has about the classes' proportions.

    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> np.bincount(y[growing_order(y, np.random.default_rng(0))[:3]]).tolist()
    [2, 1]
    """
    place = np.empty(len(y))
    for label in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == label))
        place[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
    order: np.ndarray = np.argsort(place, kind="stable")
    return order


class _Trainer:
    """Trains one fresh model per job, on threads with one torch thread each."""

    def __init__(self, examples: Examples, factory: ModelFactory, training: TrainingConfig, steps_max: int):
        self._examples, self._factory = examples, factory
        self._training, self._steps_max = training, steps_max
        self._building = threading.Lock()

    def run(
        self, jobs: Sequence[Subset], workers: int, progress: Progress | None
    ) -> list[tuple[float, bool]]:
        """Error and whether the loss settled, of each job in their order."""
        threads_before = torch.get_num_threads()
        found: list[tuple[float, bool]] = []
        workers = 1 if self._draws_random_numbers(jobs[0]) else workers or os.cpu_count() or 1
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for result in pool.map(self._run_one, jobs):
                found.append(result)
                if progress:
                    progress(len(found), len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C the trainings that wait are not begun
            torch.set_num_threads(threads_before)
        return found

    def _run_one(self, job: Subset) -> tuple[float, bool]:
        if not self._random:
            return self._train(job)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(job.seed, -1, len(job.train)))
            return self._train(job)

    def _train(self, job: Subset) -> tuple[float, bool]:
        examples = self._examples
        x_train, x_test = (torch.from_numpy(part) for part in examples.prepared(job.train, job.test))
        y_train, y_test = (torch.from_numpy(examples.y[rows]) for rows in (job.train, job.test))
        with self._building:  # torch's generator is one for all threads
            model = FlatModel(initialised(self._factory, job.seed))
        settled = self._to_convergence(model, x_train, y_train, job.seed)
        _, accuracy = evaluate(model, x_test, y_test)
        return 1.0 - accuracy, settled

    def _to_convergence(self, model: FlatModel, x: torch.Tensor, y: torch.Tensor, seed: int) -> bool:
        """Train by chunks until the mean loss of one is small, or has not fallen by 2 % for 4 of them.

        A chunk is an epoch, or 50 steps where an epoch is shorter.
        """
        size, batch_size = len(y), self._training.batch_size
        chunk = max(CHUNK, math.ceil(size / batch_size))
        best, since_best, done, index = math.inf, 0, 0, 0
        while done < self._steps_max:
            steps = min(chunk, self._steps_max - done)
            batches = batch_plan(size, batch_size, steps, generator(seed, index, size, "batches"))
            loss = train(model, x, y, batches, self._training, centre=None, pull=0.0)
            done, index = done + steps, index + 1
            if loss < LOSS_SETTLED:
                return True
            since_best = 0 if loss < (1 - IMPROVEMENT) * best else since_best + 1
            best = min(best, loss)
            if since_best >= PATIENCE:
                return True
        return False

    def _draws_random_numbers(self, job: Subset) -> bool:
        """Whether the model does, as one with dropout; torch's generator is one, so such a model has one thread."""
        module = initialised(self._factory, 0).train()
        x, _ = self._examples.prepared(job.train[:8], job.test[:1])
        state = torch.get_rng_state()
        with torch.no_grad():
            module(torch.from_numpy(x))
        self._random = not torch.equal(state, torch.get_rng_state())
        torch.set_rng_state(state)
        return self._random


def _check(seeds: Sequence[int], steps_max: int) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds = {list(seeds)}: expected different whole numbers >= 0, such as 0,1,2,3,4")
    if steps_max < 1:
        raise ConfigError(f"steps_max = {steps_max}: expected at least 1 step of training")


def _checked_sizes(sizes: Sequence[int], num_train: int) -> tuple[int, ...]:
    ordered = tuple(sorted(set(sizes)))
    if len(ordered) < len(sizes):
        raise ConfigError(f"sizes = {list(sizes)}: a size is there twice, expected each once")
    if not ordered or ordered[0] < 2 or ordered[-1] > num_train:
        raise ConfigError(
            f"sizes = {list(sizes)}: expected numbers from 2 to {num_train}, the rows that are not for testing"
        )
    return ordered

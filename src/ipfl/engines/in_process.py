"""All participants in this process: threads side by side, each with one torch thread of its own.

Intra-op threads are never used: on small models they cost more than they bring, and without them the
result of a job does not depend on how many cores there are.
"""

import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, Int

from ipfl.config import EvaluationConfig, TrainingConfig
from ipfl.data import Task
from ipfl.data.exams import Exam, exams
from ipfl.data.tasks import Split
from ipfl.engines.base import Progress
from ipfl.errors import EngineError, IpflError
from ipfl.learning import FlatModel, ModelFactory, batch_plan, examine, initialised, train
from ipfl.seeding import generator, torch_seed
from ipfl.types import EvaluateJob, EvaluateReply, Job, Reply, TrainJob, TrainReply

COMMON_EXAMPLES_MAX = EvaluationConfig().common_examples_max
Tensors = tuple[torch.Tensor, torch.Tensor]


class InProcessEngine:
    """Trains and evaluates every participant of a task here."""

    def __init__(
        self,
        task: Task,
        factory: ModelFactory,
        training: TrainingConfig,
        seed: int,
        workers: int = 0,
        common_examples_max: int = COMMON_EXAMPLES_MAX,
    ):
        """`workers` threads; 0 = one per core. A model that draws random numbers (dropout) is trained by one."""
        self._training = training
        self._seed = seed
        self._factory = factory
        self._ids = [participant.participant_id for participant in task.participants]
        self._train_data = [participant.train for participant in task.participants]
        self._train_splits = [_tensors(split) for split in self._train_data]
        self._exams = exams(task, common_examples_max, seed)
        self.num_examples: Int[np.ndarray, "m"] = np.array(
            [len(p.train) for p in task.participants], dtype=np.int64
        )
        self._local = threading.local()
        self._building = threading.Lock()
        self._initial = self._check_model(task)
        self.workers = 1 if self._draws_random_numbers else (workers or os.cpu_count() or 1)

    def initial(self) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]]:
        """The common initial parameters theta_0 and buffers."""
        params, buffers = self._initial
        return params.copy(), buffers.copy()

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """Every job's reply, in the order of the jobs.

        Raises:
          EngineError: a model or the data failed; names the participant and the round.
        """
        threads_before = torch.get_num_threads()
        replies: list[Reply] = []
        try:
            with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for reply in pool.map(self._run_one, jobs):
                    replies.append(reply)
                    if progress:
                        progress(len(replies), len(jobs))
        finally:
            torch.set_num_threads(threads_before)
        return replies

    def _run_one(self, job: Job) -> Reply:
        try:
            return self._train(job) if isinstance(job, TrainJob) else self._evaluate(job)
        except Exception as error:  # whatever the code of a module raises
            doing = f"training in round {job.round_index}" if isinstance(job, TrainJob) else "evaluation"
            raise EngineError(
                f"participant {self._ids[job.participant]}: {doing} failed in the model or its data: {_reason(error)}"
            ) from error

    def _train(self, job: TrainJob) -> TrainReply:
        model = self._model()
        model.load(job.params, job.buffers)
        x, y = self._train_splits[job.participant]
        random = generator(self._seed, job.round_index, job.participant, "batches")
        steps = self._training.steps if job.steps is None else job.steps
        batches = batch_plan(len(y), self._training.batch_size, steps, random)
        extras = (job.centre, job.pull, job.direction, job.align)
        if self._draws_random_numbers:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_seed(self._seed, job.round_index, job.participant))
                loss = train(model, x, y, batches, self._training, *extras)
        else:
            loss = train(model, x, y, batches, self._training, *extras)
        params, buffers = model.read()
        return TrainReply(job.participant, params, buffers, loss)

    def _evaluate(self, job: EvaluateJob) -> EvaluateReply:
        model = self._model()
        own: tuple[Exam, ...] = self._exams[job.participant]
        if "train" in job.splits:
            own = (*own, Exam(self._train_data[job.participant], {"train": None}))
        loss = np.full((len(job.params), len(job.splits)), np.nan)
        accuracy = loss.copy()
        for row, (params, buffers) in enumerate(zip(job.params, job.buffers, strict=True)):
            model.load(params, buffers)
            for exam in own:
                asked = [name for name in job.splits if name in exam.weights]
                if not asked:
                    continue
                losses, correct = examine(model, *_tensors(exam.examples))
                for name in asked:
                    column, weights = job.splits.index(name), exam.weights[name]
                    loss[row, column] = _mean(losses, weights)
                    accuracy[row, column] = _share(correct, weights)
        return EvaluateReply(job.participant, loss, accuracy)

    def _model(self) -> FlatModel:
        """This thread's own copy of the model; all that is trained in it is overwritten by every job.

        What is not trained (frozen parameters) is the same in every copy, because all are built from the same seed.
        """
        model: FlatModel | None = getattr(self._local, "model", None)
        if model is None:
            with self._building:  # torch's generator is one for all threads
                model = FlatModel(initialised(self._factory, self._seed))
            self._local.model = model
        return model

    def _check_model(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Build theta_0, and try the model once on real examples before anything is trained."""
        try:
            model = FlatModel(initialised(self._factory, self._seed))
        except IpflError:
            raise
        except Exception as error:
            raise EngineError(f"the model cannot be built: {_reason(error)}") from error
        initial = model.read()
        x, y = self._train_splits[0]
        classes = len(task.class_names)
        model.module.train()
        state = torch.get_rng_state()
        try:
            logits = model.module(x[:8])
        except Exception as error:
            raise EngineError(
                f"the model does not accept examples of shape {tuple(task.input_shape)}: {_reason(error)}"
            ) from error
        self._draws_random_numbers = not torch.equal(state, torch.get_rng_state())
        torch.set_rng_state(state)
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else ()
        if len(shape) != 2 or shape[0] != min(8, len(y)) or shape[1] < classes:
            what = f"of shape {shape}" if shape else f"of type {type(logits).__name__}"
            raise EngineError(
                f"the model gives outputs {what} for {min(8, len(y))} examples; "
                f"expected one row per example and at least {classes} columns, one per class"
            )
        return initial


def _tensors(split: Split) -> Tensors:
    return torch.from_numpy(np.ascontiguousarray(split.x)), torch.from_numpy(np.ascontiguousarray(split.y))


def _mean(losses: np.ndarray, weights: np.ndarray | None) -> float:
    """The weighted mean; an example that does not count does not, however wrong the model is on it."""
    values = losses.astype(np.float64)
    if weights is None:
        return float(values.mean())
    counted = weights > 0
    return float((values[counted] * weights[counted]).sum())


def _share(correct: np.ndarray, weights: np.ndarray | None) -> float:
    """The share that is correct; exactly the quotient of two counts where all count alike."""
    if weights is None:
        return int(correct.sum()) / len(correct)
    return min(1.0, math.fsum(weights[correct]))  # weights add up to 1 but for rounding


def _reason(error: Exception) -> str:
    """An error's type and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

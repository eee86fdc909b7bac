"""Training jobs in this process: one after another, or stacked in blocks that are stepped together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32

from ipfl.config import PrivacyConfig, TrainingConfig
from ipfl.engines.models import Models
from ipfl.learning import Stack, batch_lengths, batch_plan, block_plan, train, train_stack
from ipfl.learning.private import train_privately
from ipfl.seeding import generator, torch_seed
from ipfl.types import TrainJob, TrainReply

Tensors = tuple[torch.Tensor, torch.Tensor]


class Trainer:
    """Runs training jobs on the participants' own examples."""

    def __init__(
        self,
        models: Models,
        stack: Stack | None,
        examples: Sequence[Tensors],
        training: TrainingConfig,
        seed: int,
        block: int,
        privacy: PrivacyConfig | None = None,
        privacy_seed: int | None = None,
    ):
        """`examples` are every participant's training inputs and labels, on the device that trains.

        `stack`: the architecture, where `block` participants are stepped together. `privacy`: how what is published
        is trained privately, with noise from `privacy_seed` (None: from `seed`).
        """
        self._models = models
        self._stack = stack
        self._examples = examples
        self._training = training
        self._seed = seed
        self._block = block
        self._privacy = privacy
        self._privacy_seed = seed if privacy_seed is None else privacy_seed
        longest = [max(batch_lengths(len(y), training.batch_size, training.steps)) for _, y in examples]
        self._width = max(longest)

    def batch(self, jobs: Sequence[TrainJob]) -> "TrainingBatch":
        """Room for the replies to some jobs, and the blocks in which they are worked on."""
        return TrainingBatch(self, jobs)

    def steps(self, job: TrainJob) -> int:
        """How many steps a job takes."""
        return self._training.steps if job.steps is None else job.steps

    def blocks(self, jobs: Sequence[TrainJob]) -> Iterator[list[int]]:
        """Jobs that are worked on together: as many steps each, and if the model mixes examples, batches as long.

        Blocks of one group differ in length by one at most, and do not depend on the number of workers.
        """
        groups: dict[Any, list[int]] = {}
        for row, job in enumerate(jobs):
            key: Any = self.steps(job)
            if self._stack is not None and self._models.traits.mixes:
                num_examples = len(self._examples[job.participant][1])
                key = batch_lengths(num_examples, self._training.batch_size, key)
            groups.setdefault(key, []).append(row)
        for rows in groups.values():
            parts = -(-len(rows) // self._block)
            for part in np.array_split(rows, parts):
                yield part.tolist()

    def one(self, job: TrainJob, params: np.ndarray, buffers: np.ndarray) -> float:
        """Train one job's model; write it to `params` and `buffers`, return its mean loss."""
        x, y = self._examples[job.participant]
        private = self._privacy if job.published else None
        batches = self._plan(job) if private is None else []
        with self._models.borrowed() as model:
            model.load(job.params, job.buffers)
            extras = (job.centre, job.pull, job.direction, job.align)
            with torch.random.fork_rng(devices=[], enabled=self._models.traits.draws):
                if self._models.traits.draws:
                    torch.manual_seed(torch_seed(self._seed, job.round_index, job.participant))
                if private is None:
                    loss = train(model, x, y, batches, self._training, *extras)
                else:
                    loss = train_privately(model, x, y, job, self._training, private, self._privacy_seed)
            params[:], buffers[:] = model.read()
        return loss

    def several(
        self,
        stack: Stack,
        jobs: Sequence[TrainJob],
        params: Float32[np.ndarray, "b p"],
        buffers: Float32[np.ndarray, "b k"],
    ) -> Float[np.ndarray, "b"]:
        """Train a block of jobs together; the same as `one` for each, up to rounding."""
        device = self._models.device
        if self.steps(jobs[0]) == 0:
            params[:], buffers[:] = [job.params for job in jobs], [job.buffers for job in jobs]
            return np.full(len(jobs), np.nan)
        splits = [self._examples[job.participant] for job in jobs]
        width = None if self._models.traits.mixes else self._width
        plan = block_plan([self._plan(job) for job in jobs], [len(y) for _, y in splits], width).to(device)
        theta = torch.from_numpy(np.stack([job.params for job in jobs])).to(device)
        kept = torch.from_numpy(np.stack([job.buffers for job in jobs])).to(device)
        centre, pull = _rows([(job.centre, job.pull) for job in jobs], theta)
        direction, align = _rows([(job.direction, job.align) for job in jobs], theta)
        loss = train_stack(
            stack,
            theta,
            kept,
            torch.cat([x for x, _ in splits]),
            torch.cat([y for _, y in splits]),
            plan,
            self._training,
            centre,
            pull,
            direction,
            align,
        )
        params[:], buffers[:] = theta.cpu().numpy(), kept.cpu().numpy()
        found: np.ndarray = loss.cpu().numpy()
        return found

    def stacked(self, rows: Sequence[int]) -> Stack | None:
        """What a block is stepped by: None for one after another."""
        return None if self._models.traits.mixes and len(rows) == 1 else self._stack

    def _plan(self, job: TrainJob) -> list[np.ndarray]:
        num_examples = len(self._examples[job.participant][1])
        random = generator(self._seed, job.round_index, job.participant, "batches")
        return batch_plan(num_examples, self._training.batch_size, self.steps(job), random)


class TrainingBatch:
    """The training jobs of one call: blocks to be worked on in any order, and room for what comes of them."""

    def __init__(self, trainer: Trainer, jobs: Sequence[TrainJob]):
        self._trainer = trainer
        self.jobs = jobs
        self.blocks = list(trainer.blocks(jobs)) if jobs else []
        self._params = np.empty((len(jobs), jobs[0].params.size if jobs else 0), dtype=np.float32)
        self._buffers = np.empty((len(jobs), jobs[0].buffers.size if jobs else 0), dtype=np.float32)
        self._loss = np.full(len(jobs), np.nan)

    def work(self, rows: list[int]) -> None:
        """Train the jobs of a block."""
        stack = self._trainer.stacked(rows)
        if stack is None:
            for row in rows:
                self.work_alone(row)
            return
        params, buffers = self._params[rows], self._buffers[rows]
        self._loss[rows] = self._trainer.several(stack, [self.jobs[row] for row in rows], params, buffers)
        self._params[rows], self._buffers[rows] = params, buffers

    def work_alone(self, row: int) -> None:
        """Train one job by itself."""
        self._loss[row] = self._trainer.one(self.jobs[row], self._params[row], self._buffers[row])

    def replies(self) -> list[TrainReply]:
        """Every job's reply; their parameters are rows of one matrix."""
        return [
            TrainReply(job.participant, params, buffers, float(loss))
            for job, params, buffers, loss in zip(
                self.jobs, self._params, self._buffers, self._loss, strict=True
            )
        ]


def _rows(
    pairs: Sequence[tuple[np.ndarray | None, float]], like: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Vectors as rows (None if there is none), and their strengths; a row without a vector has strength 0."""
    strengths = torch.zeros(len(pairs), 1, dtype=like.dtype)
    if all(vector is None or strength == 0 for vector, strength in pairs):
        return None, strengths.to(like.device)
    rows = torch.zeros(like.shape, dtype=like.dtype)
    for row, (vector, strength) in enumerate(pairs):
        if vector is not None:
            rows[row], strengths[row] = torch.from_numpy(vector), strength
    return rows.to(like.device), strengths.to(like.device)

"""Training jobs of adapters: participants in groups that go through the shared base together."""

from collections.abc import Sequence

import numpy as np
import torch

from ipfl.config import LanguageConfig, TrainingConfig
from ipfl.learning import batch_plan
from ipfl.learning.language.adapt import Pulls, adapt, learning_rate
from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.base import Base
from ipfl.learning.language.encode import Encoded
from ipfl.seeding import generator, torch_seed
from ipfl.types import TrainJob, TrainReply

SEED_ROOM = 2**60
"""Seeds of dropout leave room for a step's number to be added."""


class AdapterTrainer:
    """Runs training jobs on the participants' own rows."""

    def __init__(
        self,
        base: Base,
        adapters: Adapters,
        rows: Sequence[Sequence[Encoded]],
        training: TrainingConfig,
        language: LanguageConfig,
        seed: int,
        rounds: int,
        group_size: int,
    ):
        """`rows` are every participant's training rows; `group_size` participants go through the base together."""
        self._base, self._adapters, self._rows = base, adapters, rows
        self._training, self._language = training, language
        self._seed, self._rounds, self._group_size = seed, rounds, group_size

    def groups(self, jobs: Sequence[TrainJob]) -> list[list[int]]:
        """Jobs that are worked on together: as many steps each; groups differ in size by one at most."""
        by_steps: dict[int, list[int]] = {}
        for place, job in enumerate(jobs):
            by_steps.setdefault(self._steps(job), []).append(place)
        return [
            part.tolist()
            for places in by_steps.values()
            for part in np.array_split(places, -(-len(places) // self._group_size))
        ]

    def train(self, jobs: Sequence[TrainJob]) -> list[TrainReply]:
        """Train the adapters of one group's jobs (of one round)."""
        device = self._base.device
        theta = torch.from_numpy(np.stack([job.params for job in jobs])).to(device)
        training = self._training
        losses = adapt(
            self._base,
            self._adapters,
            theta,
            [self._plan(job) for job in jobs],
            training,
            self._language,
            learning_rate(training.lr, self._language.lr_last, jobs[0].round_index, self._rounds),
            pulls(jobs, device),
            [torch_seed(self._seed, job.round_index, job.participant) % SEED_ROOM for job in jobs],
        )
        params = theta.cpu().numpy()
        return [
            TrainReply(job.participant, params[place], job.buffers, float(losses[place]))
            for place, job in enumerate(jobs)
        ]

    def _steps(self, job: TrainJob) -> int:
        return self._training.steps if job.steps is None else job.steps

    def _plan(self, job: TrainJob) -> list[list[Encoded]]:
        rows = self._rows[job.participant]
        random = generator(self._seed, job.round_index, job.participant, "batches")
        plan = batch_plan(len(rows), self._training.batch_size, self._steps(job), random)
        return [[rows[place] for place in places] for places in plan]


def pulls(jobs: Sequence[TrainJob], device: torch.device) -> Pulls:
    """What the jobs are drawn to, as rows."""
    centre, pull = _rows([(job.centre, job.pull) for job in jobs], device)
    direction, align = _rows([(job.direction, job.align) for job in jobs], device)
    return Pulls(centre, pull, direction, align)


def _rows(
    pairs: Sequence[tuple[np.ndarray | None, float]], device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor]:
    strengths = np.array([[0.0 if vector is None else strength] for vector, strength in pairs], np.float32)
    some = next((vector for vector, _ in pairs if vector is not None), None)
    if some is None or not strengths.any():
        return None, torch.from_numpy(strengths).to(device)
    rows = [np.zeros_like(some) if vector is None else vector for vector, _ in pairs]
    return torch.from_numpy(np.stack(rows)).to(device), torch.from_numpy(strengths).to(device)

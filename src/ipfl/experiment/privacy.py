"""Counting what differentially private training costs each participant, round by round.

Steps are counted where they are asked for, so any method's are; what a seal of the ledger says is what counts, so a
resumed run goes on from there, and epsilon never falls. Whoever would go beyond its epsilon trains and trades no more.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ipfl.config import PrivacyConfig
from ipfl.engines import Engine, Progress
from ipfl.learning.private import epsilon_spent, sampling_rate
from ipfl.types import Job, MissingReply, Reply, TrainJob

SPENT = "its privacy budget is spent: one more round would take it beyond epsilon_max"


class Budgets:
    """An engine that counts the private steps of each participant, and answers for those who may take no more."""

    def __init__(
        self, engine: Engine, privacy: PrivacyConfig, steps: int, batch_size: int, before: Mapping[int, int]
    ):
        """`steps` of a job that says nothing else; `before`: what each participant has taken in all rounds before."""
        self.engine, self._privacy, self._steps = engine, privacy, steps
        self.num_examples, self.keeps_alone = engine.num_examples, engine.keeps_alone
        self._rates = [sampling_rate(int(count), batch_size) for count in self.num_examples]
        self.taken = {index: before.get(index, 0) for index in range(len(self._rates))}

    def initial(self) -> tuple[np.ndarray, np.ndarray]:
        """As the engine's own."""
        return self.engine.initial()

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """The engine's replies; training that would cost more than is allowed is not done.

        Whoever was asked has spent it, even if no answer came; whoever could not be asked has not.
        """
        coming: Counter[int] = Counter()
        allowed = [self._allows(job, coming) for job in jobs]
        asked = [job for job, may in zip(jobs, allowed, strict=True) if may]
        replies = self.engine.run(asked, progress)
        for job, reply in zip(asked, replies, strict=True):
            if not (isinstance(reply, MissingReply) and not reply.asked):
                self.taken[job.participant] += self._private_steps(job)
        rest = iter(replies)
        return [
            next(rest) if may else MissingReply(job.participant, SPENT, asked=False)
            for job, may in zip(jobs, allowed, strict=True)
        ]

    def _allows(self, job: Job, coming: "Counter[int]") -> bool:
        """Whether a job's steps are not too many, with those that are coming; adds them if so."""
        index, steps, limit = job.participant, self._private_steps(job), self._privacy.epsilon_max
        if steps > 0 and limit is not None:
            more = self.taken[index] + coming[index] + steps
            if epsilon_spent(self._privacy, self._rates[index], more) > limit:
                return False
        coming[index] += steps
        return True

    def _private_steps(self, job: Job) -> int:
        if not isinstance(job, TrainJob) or not job.published:
            return 0
        return self._steps if job.steps is None else job.steps

    def statement(self, ids: Sequence[str]) -> dict[str, Any]:
        """What the round's seal says of privacy."""
        privacy = self._privacy
        return {
            "noise_multiplier": privacy.noise_multiplier,
            "max_grad_norm": privacy.max_grad_norm,
            "delta": privacy.delta,
            "accountant": privacy.accountant,
            "participants": {
                name: {
                    "steps": self.taken[index],
                    "sampling_rate": self._rates[index],
                    "epsilon": epsilon_spent(privacy, self._rates[index], self.taken[index]),
                }
                for index, name in enumerate(ids)
            },
        }


def steps_before(terms: Mapping[str, Any] | None, ids: Sequence[str]) -> dict[int, int]:
    """Private steps of each participant until a round was sealed, by the seal's terms; none before the first."""
    told = (terms or {}).get("privacy", {}).get("participants", {})
    return {index: int(told.get(name, {}).get("steps", 0)) for index, name in enumerate(ids)}

"""Leaving and coming back: a participant that the market costs more than it brings may withdraw.

A withdrawn participant is sent no jobs and trades with nobody; it goes on training its own model by itself. Methods
know nothing of this: to them it is somebody who did not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int64

from ipfl.config import WithdrawalConfig
from ipfl.engines import Engine, Progress
from ipfl.seeding import generator
from ipfl.types import Job, MissingReply, Reply, State, TrainJob, TrainReply

FOR_GOOD = np.iinfo(np.int64).max
WITHDRAWN = "withdrawn: the market cost it more than it brought"
LEFT = "it has left: its account is closed"
NOT_YET = "it has not joined yet"
ROUNDING = 1e-9


def nobody_away(m: int) -> Int64[np.ndarray, "m"]:
    """Everybody is there."""
    return np.zeros(m, dtype=np.int64)


def withdrawals(
    config: WithdrawalConfig,
    seed: int,
    round_index: int,
    utilities: Float[np.ndarray, "m"],
    away_until: Int64[np.ndarray, "m"],
) -> Int64[np.ndarray, "m"]:
    """Who is away after a round: those who were, unless they are due back, and those whose utility was below zero.

    Args:
      utilities: of the round just done.
      away_until: the round in which each comes back; 0 for those who are there.

    >>> strict = WithdrawalConfig(when="strict", rejoin_after=2)
    >>> withdrawals(strict, 0, 5, np.array([1.0, -1.0, 0.0]), np.array([0, 0, 6])).tolist()
    [0, 8, 0]
    """
    after: Int64[np.ndarray, "m"] = np.where(away_until > round_index + 1, away_until, 0)
    if config.when == "never":
        return after
    scale = max(1.0, float(np.abs(utilities).max(initial=0.0)))
    for index in np.flatnonzero((utilities < -ROUNDING * scale) & (after == 0)):
        random = generator(seed, round_index, int(index), "withdrawal")
        if config.when == "strict" or random.random() < config.probability:
            after[index] = round_index + 1 + config.rejoin_after if config.rejoin_after else FOR_GOOD
    return after


class WithoutThoseAway:
    """An engine that answers for those who are away, without asking them; `reasons` says why each is."""

    def __init__(self, engine: Engine, reasons: Mapping[int, str]):
        self.engine, self.reasons = engine, reasons
        self.num_examples, self.keeps_alone = engine.num_examples, engine.keeps_alone

    def initial(self) -> tuple[np.ndarray, np.ndarray]:
        """As the engine's own."""
        return self.engine.initial()

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """The engine's replies for those who are there."""
        asked = [job for job in jobs if job.participant not in self.reasons]
        replies = iter(self.engine.run(asked, progress))
        return [
            MissingReply(job.participant, self.reasons[job.participant])
            if job.participant in self.reasons
            else next(replies)
            for job in jobs
        ]


def train_alone(engine: Engine, state: State, round_index: int, away: Sequence[int]) -> State:
    """Local training of those away from the models they hold, in a round that the others have done."""
    jobs: list[Job] = [
        TrainJob(index, round_index, state.params[index], state.buffers[index]) for index in away
    ]
    if not jobs:
        return state
    params, buffers = state.params.copy(), state.buffers.copy()
    for reply in engine.run(jobs):
        if (
            isinstance(reply, TrainReply)
            and np.isfinite(reply.params).all()
            and np.isfinite(reply.buffers).all()
        ):
            params[reply.participant], buffers[reply.participant] = reply.params, reply.buffers
    return replace(state, params=params, buffers=buffers)

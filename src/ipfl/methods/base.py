"""What a method is, and the steps that methods share.

A method's round is a generator: it yields jobs, is sent the replies, and returns the next state and the
record of the round. It does no I/O and draws no random numbers but through `seeding.generator`.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32

from ipfl.conduct import find_conduct
from ipfl.config import MarketConfig
from ipfl.errors import ReplyError
from ipfl.market.rules import resolve_rule
from ipfl.seeding import generator
from ipfl.types import Bids, Job, MissingReply, Participant, Reply, RoundRecord, State, TrainJob, TrainReply

Round = Generator[list[Job], Sequence[Reply], tuple[State, RoundRecord]]


@dataclass(frozen=True, eq=False)
class Federation:
    """What a method knows: who takes part, the common start, and the rules of the market."""

    participants: tuple[Participant, ...]
    theta_0: Float32[np.ndarray, "p"]
    buffers_0: Float32[np.ndarray, "b"]
    market: MarketConfig
    seed: int

    @property
    def m(self) -> int:
        """The number of participants."""
        return len(self.participants)

    @property
    def rule(self) -> tuple[str, str]:
        """The market's (allocation, payment)."""
        if self.market.allocation is not None and self.market.payment is not None:
            return self.market.allocation, self.market.payment
        return resolve_rule(self.market.rule or DEFAULT_RULE)

    def bids(self) -> Bids:
        """What every participant reports: here, the truth."""
        return Bids(
            num_examples=np.array([p.num_examples for p in self.participants], dtype=np.int64),
            valuation=np.array([p.valuation for p in self.participants], dtype=np.float64),
            export_cost=np.array([p.export_cost for p in self.participants], dtype=np.float64),
            participant_ids=tuple(p.participant_id for p in self.participants),
        )


DEFAULT_RULE = "truthful"


@runtime_checkable
class Method(Protocol):
    """How participants train and collaborate."""

    def init(self) -> State:
        """The state before round 0."""
        ...

    def round(self, state: State) -> Round:
        """One round: `replies = yield jobs`, and at the end the next state and the round's record."""
        ...


@dataclass(frozen=True, eq=False)
class Trained:
    """What came back from local training, with absent participants' models as they were before."""

    params: Float32[np.ndarray, "m p"]
    buffers: Float32[np.ndarray, "m b"]
    loss: Float[np.ndarray, "m"]
    present: Bool[np.ndarray, "m"]
    refusals: dict[int, str]


def initial_state(federation: Federation) -> State:
    """Everybody at theta_0."""
    return State(
        round_index=0,
        params=np.tile(federation.theta_0, (federation.m, 1)),
        buffers=np.tile(federation.buffers_0, (federation.m, 1)),
    )


def train_jobs(
    state: State,
    centres: Float32[np.ndarray, "m p"] | None = None,
    has_centre: Bool[np.ndarray, "m"] | None = None,
    pull: float = 0.0,
) -> list[Job]:
    """One training job per participant, from its own model, pulled to its centre where it has one."""
    return [
        TrainJob(
            participant=index,
            round_index=state.round_index,
            params=state.params[index],
            buffers=state.buffers[index],
            centre=centres[index]
            if centres is not None and has_centre is not None and has_centre[index]
            else None,
            pull=pull,
        )
        for index in range(len(state.params))
    ]


def receive(state: State, replies: Sequence[Reply]) -> Trained:
    """Collect training replies, in any order; one that is missing or cannot be used leaves its participant out.

    The refused participant keeps the model it had, sells nothing and is billed nothing.

    Raises:
      ReplyError: a reply from nobody here, or a second one from the same participant: the engine's fault.
    """
    params, buffers = state.params.copy(), state.buffers.copy()
    loss = np.full(len(params), np.nan)
    present = np.zeros(len(params), dtype=bool)
    refusals = dict.fromkeys(range(len(params)), "no reply")
    answered: set[int] = set()
    for reply in replies:
        index = reply.participant
        if index not in refusals or index in answered:
            what = "a second reply" if index in answered else "a reply"
            raise ReplyError(
                f"round {state.round_index}: {what} from participant {index}, expected one from each job"
            )
        answered.add(index)
        problem = _problem(state, reply)
        if problem is not None:
            refusals[index] = problem
        elif isinstance(reply, TrainReply):
            params[index], buffers[index] = reply.params, reply.buffers
            loss[index], present[index] = reply.loss, True
    return Trained(
        params, buffers, loss, present, {i: refusals[i] for i in np.flatnonzero(~present).tolist()}
    )


def _problem(state: State, reply: Reply) -> str | None:
    """Why a training reply cannot be used, in plain words."""
    if isinstance(reply, MissingReply):
        return reply.reason
    if not isinstance(reply, TrainReply):
        return "its reply is no trained model"
    for values, wanted in ((reply.params, state.params), (reply.buffers, state.buffers)):
        if values.shape != wanted.shape[1:]:
            return f"its model has {values.size} numbers, expected {wanted.shape[1]}"
        if not np.isfinite(values).all():
            return "its update holds NaN or infinities"
    return None


def publish(
    federation: Federation, updates: Float32[np.ndarray, "m p"], round_index: int
) -> Float32[np.ndarray, "m p"]:
    """The updates that others see: an attacker corrupts its own, everybody else publishes the truth."""
    published = updates.copy()
    for index, participant in enumerate(federation.participants):
        if not participant.honest:
            random = generator(federation.seed, round_index, index, "conduct")
            conduct = find_conduct(participant.conduct, participant.participant_id)
            published[index] = conduct(updates[index], random)
    return published

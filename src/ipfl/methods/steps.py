"""The steps that methods share: sending out training, taking in replies, publishing updates, billing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.sparse import csr_array

from ipfl.conduct import FREE_RIDE, find_conduct
from ipfl.errors import ReplyError
from ipfl.market.distance import cosine_distances, pair_distances
from ipfl.methods.base import Federation
from ipfl.methods.clearing import bill_graph
from ipfl.seeding import generator
from ipfl.types import Job, MissingReply, Reply, RoundRecord, State, TrainJob, TrainReply
from ipfl.types.market import Graph, Matrix

Models = Float32[np.ndarray, "m p"]
COLUMN_CHUNK = 4096
"""Columns that are in float64 at once."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What came back from local training, with absent participants' models as they were before."""

    params: Models
    buffers: Float32[np.ndarray, "m b"]
    loss: Float[np.ndarray, "m"]
    present: Bool[np.ndarray, "m"]
    refusals: Mapping[int, str]


def train_jobs(
    federation: Federation,
    state: State,
    start: Models | None = None,
    buffers: Float32[np.ndarray, "m b"] | None = None,
    centres: Models | None = None,
    has_centre: Bool[np.ndarray, "m"] | None = None,
    pull: float = 0.0,
    directions: Models | None = None,
    align: float = 0.0,
    published: bool = True,
) -> list[Job]:
    """One training job per participant.

    Args:
      federation: who takes part; free riders are sent their model but take no step.
      state: of the method.
      start: where training starts, instead of everybody's own model; `buffers` with it.
      centres: what training is pulled to, for those who have a centre (all, unless `has_centre` says).
      pull: pull/2 * ||theta - centre||^2 is added to the loss.
      directions: with align, -align * cos(theta, direction) is added to the loss.
    """
    start = state.params if start is None else start
    buffers = state.buffers if buffers is None else buffers
    pulled = np.full(federation.m, centres is not None) if has_centre is None else has_centre
    return [
        TrainJob(
            participant=index,
            round_index=state.round_index,
            params=start[index],
            buffers=buffers[index],
            centre=centres[index] if centres is not None and pulled[index] else None,
            pull=pull,
            direction=directions[index] if directions is not None else None,
            align=align,
            steps=0 if participant.conduct == FREE_RIDE else None,
            published=published,
        )
        for index, participant in enumerate(federation.participants)
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
    federation: Federation, trained: Trained, updates: Models, round_index: int
) -> tuple[Models, Trained]:
    """The updates that others see: an attacker corrupts its own, everybody else publishes the truth.

    Whoever publishes numbers that are not finite is refused: the second result leaves it out. Where nobody attacks
    what is published is `updates`, the same array.
    """
    attackers = [
        index
        for index, participant in enumerate(federation.participants)
        if not participant.honest and trained.present[index]
    ]
    if not attackers:
        return updates, trained
    published = updates.copy()
    refusals = dict(trained.refusals)
    for index in attackers:
        participant = federation.participants[index]
        random = generator(federation.seed, round_index, index, "conduct")
        conduct = find_conduct(participant.conduct, participant.participant_id)
        published[index] = conduct(updates, index, random)
        if not np.isfinite(published[index]).all():
            refusals[index] = "its published update holds NaN or infinities"
            published[index] = 0.0
    if len(refusals) == len(trained.refusals):
        return published, trained
    present = trained.present.copy()
    present[list(refusals)] = False
    return published, replace(trained, present=present, refusals=refusals)


def weights_of(federation: Federation, present: Bool[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """Shares of the present participants by the number of examples they report; zero for the absent."""
    counts = np.where(present, federation.bids.num_examples, 0).astype(np.float64)
    shares: np.ndarray = counts / max(counts.sum(), 1.0)
    return shares


def mixed(
    weights: Float[np.ndarray, "rows m"], models: Float32[np.ndarray, "m p"]
) -> Float32[np.ndarray, "rows p"]:
    """Weighted sums of models, added up in float64 and rounded once."""
    result = np.empty((len(weights), models.shape[1]), dtype=np.float32)
    for start in range(0, models.shape[1], COLUMN_CHUNK):
        columns = slice(start, start + COLUMN_CHUNK)
        result[:, columns] = weights @ models[:, columns].astype(np.float64)
    return result


def everybody(present: Bool[np.ndarray, "m"]) -> Bool[np.ndarray, "m m"]:
    """The graph in which all who are present use one another's models."""
    graph: np.ndarray = np.outer(present, present)
    np.fill_diagonal(graph, False)
    return graph


def bill(
    federation: Federation,
    state: State,
    trained: Trained,
    published: Models,
    used: Graph,
    sent: Graph | None = None,
) -> RoundRecord:
    """The record of a round of a method without a market: gains and export costs of the graph it used.

    Args:
      published: updates from theta_0, as others saw them; distances are between these, where the market has
        candidates those of the edges used alone.
      used: [buyer, seller], whose model each used.
      sent: whose model each was sent, if more than that.
    """
    distance: Matrix
    if federation.market.candidates:
        used, sent = csr_array(used), None if sent is None else csr_array(sent)
        distance = pair_distances(published, used)
    else:
        distance = cosine_distances(published)
    outcome, distance = bill_graph(
        federation.truth, distance, trained.present, federation.market.lam, used, sent
    )
    return RoundRecord(
        round_index=state.round_index,
        present=trained.present,
        train_loss=trained.loss,
        bids=federation.bids,
        distance=distance,
        outcome=outcome,
        refusals=trained.refusals,
    )

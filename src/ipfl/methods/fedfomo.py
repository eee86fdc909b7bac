"""FedFomo: every participant weighs a few others' models by what they do on its own held examples.

Zhang et al., "Personalized Federated Learning with First Order Model Optimization", ICLR 2021, arXiv 2012.08565,
equations 3 to 5: w_in ~ max(0, (L_i(theta_i^{t-1}) - L_i(theta_n)) / ||theta_n - theta_i^{t-1}||), normalised, and
theta_i^t = theta_i^{t-1} + sum_n w_in (theta_n - theta_i^{t-1}), with the participant's own new model among the n.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.checks import refuse
from ipfl.methods.steps import Models, Trained, bill, publish, receive, train_jobs
from ipfl.seeding import generator
from ipfl.types import EvaluateJob, EvaluateReply, Job, State


@dataclass(frozen=True)
class FedFomo:
    """`num_models` M: how many others' models each is sent; `explore`: how often one is drawn blindly.

    Models are judged on the participant's own validation examples; on its training examples where it keeps none.
    """

    federation: Federation
    num_models: int = 6
    explore: float = 0.3

    def __post_init__(self) -> None:
        others = self.federation.m - 1
        if not 1 <= self.num_models <= max(1, others):
            refuse(
                self,
                f"num_models = {self.num_models}, but each of {self.federation.m} participants has {others} others; "
                f"set methods.fedfomo.num_models to 1 to {max(1, others)}",
            )
        if not 0 <= self.explore <= 1:
            refuse(self, f"explore = {self.explore:g}, expected a share between 0 and 1")

    def init(self) -> State:
        """Everybody at theta_0, no affinity to anybody."""
        m, start = self.federation.m, initial_state(self.federation)
        return initial_state(
            self.federation, start=start.params, start_buffers=start.buffers, affinity=np.zeros((m, m))
        )

    def round(self, state: State) -> Round:
        """Train, try M others' models, and start the next round from the weighted mix."""
        federation = self.federation
        start, start_buffers = state.arrays["start"], state.arrays["start_buffers"]
        trained = receive(state, (yield train_jobs(federation, state, start, start_buffers)))
        updates = trained.params - federation.theta_0
        published, trained = publish(federation, trained, updates, state.round_index)
        seen = federation.theta_0 + published
        sent = self.candidates(state.round_index, trained.present, state.arrays["affinity"])
        replies = yield self.trials(start, start_buffers, trained, seen, sent)
        weights = np.zeros((federation.m, federation.m))
        for reply in replies:
            if isinstance(reply, EvaluateReply):
                i = reply.participant
                rows = np.concatenate([[i], np.flatnonzero(sent[i])])
                models = np.concatenate([trained.params[[i]], seen[rows[1:]]])
                weights[i, rows] = first_order_weights(reply.loss[:, 0], start[i], models)
        unmoved = weights.sum(axis=1) == 0  # nothing is better than the model before: keep what was trained
        weights[unmoved, unmoved] = 1.0
        others = weights * (1.0 - np.eye(federation.m))
        own = np.diagonal(weights)[:, None]
        new = (own * trained.params + others @ seen.astype(np.float64)).astype(np.float32)
        new_buffers = (own * trained.buffers + others @ trained.buffers.astype(np.float64)).astype(np.float32)
        here = trained.present[:, None]
        record = bill(federation, state, trained, published, others > 0, sent)
        arrays = {
            "start": np.where(here, new, start),
            "start_buffers": np.where(here, new_buffers, start_buffers),
            "affinity": state.arrays["affinity"] + others,
        }
        return State(state.round_index + 1, trained.params, trained.buffers, arrays), record

    def candidates(
        self, round_index: int, present: Bool[np.ndarray, "m"], affinity: Float[np.ndarray, "m m"]
    ) -> Bool[np.ndarray, "m m"]:
        """Whose models each is sent: those that served it best so far, or, now and then, any."""
        sent = np.zeros_like(affinity, dtype=bool)
        for i in np.flatnonzero(present):
            others = np.flatnonzero(present & (np.arange(len(present)) != i))
            random = generator(self.federation.seed, round_index, int(i), "selection")
            blind = random.random(len(others)) < self.explore
            liking = np.where(blind, np.inf, affinity[i, others])
            order = np.lexsort((random.random(len(others)), -liking))
            sent[i, others[order[: self.num_models]]] = True
        return sent

    def trials(
        self,
        start: Models,
        start_buffers: Float32[np.ndarray, "m b"],
        trained: Trained,
        seen: Models,
        sent: Bool[np.ndarray, "m m"],
    ) -> list[Job]:
        """For everybody present: evaluate the model it started from, its own new one, and those it was sent."""
        split = "validation" if self.federation.own_validation else "train"
        jobs: list[Job] = []
        for i in np.flatnonzero(trained.present).tolist():
            rows = np.flatnonzero(sent[i])
            models = np.concatenate([start[[i]], trained.params[[i]], seen[rows]])
            buffers = np.concatenate([start_buffers[[i]], trained.buffers[[i]], trained.buffers[rows]])
            jobs.append(EvaluateJob(i, models, buffers, (split,)))
        return jobs


def first_order_weights(
    loss: Float[np.ndarray, "k1"], start: Float32[np.ndarray, "p"], models: Float32[np.ndarray, "k p"]
) -> Float[np.ndarray, "k"]:
    """Weights of k models, summing to 1; all zero where none is better than the start.

    Args:
      loss: of the start, then of the models; a model with a loss that is not finite gets no weight.

    >>> first_order_weights(
    ...     np.array([3.0, 2.0, 1.0, 4.0]), np.zeros(1, np.float32), np.array([[1.0], [-4.0], [1.0]], np.float32)
    ... ).round(6).tolist()
    [0.666667, 0.333333, 0.0]
    """
    moved = np.linalg.norm(models.astype(np.float64) - start, axis=1)
    better = np.where(np.isfinite(loss[1:]), loss[0] - loss[1:], 0.0)
    raw = np.where(moved > 0, np.maximum(better, 0.0) / np.where(moved > 0, moved, 1.0), 0.0)
    total = raw.sum()
    weights: np.ndarray = raw / total if total > 0 else raw
    return weights

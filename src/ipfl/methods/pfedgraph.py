"""pFedGraph: a collaboration graph learnt from similarities, and local training kept in the mix's direction.

Ye et al., "Personalized Federated Learning with Inferred Collaboration Graphs", ICML 2023. For each participant
the coordinator solves min_w alpha * ||w - p||^2 + sum_j w_j d_ij over the simplex, p_j = N_j / N and
d_ij = -cos(v_i, v_j), and sends sum_j w_ij theta_j. Local training starts from that mix, with
-lam * cos(theta, mix) added to the loss: the term *raises* the similarity to the mix.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ipfl.market.distance import cosine_distances
from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.checks import at_least
from ipfl.methods.steps import bill, mixed, publish, receive, train_jobs, weights_of
from ipfl.types import State


@dataclass(frozen=True)
class PFedGraph:
    """`alpha` > 0: weight of the shares of examples against similarity; `lam` >= 0: weight of alignment."""

    federation: Federation
    alpha: float = 0.8
    lam: float = 0.01

    def __post_init__(self) -> None:
        at_least(self, "alpha", 0, above=True)
        at_least(self, "lam", 0)

    def init(self) -> State:
        """Everybody at theta_0, nothing mixed yet."""
        start = initial_state(self.federation)
        return initial_state(self.federation, start=start.params, start_buffers=start.buffers)

    def round(self, state: State) -> Round:
        """Train from the mix and along it, then infer the graph and mix anew."""
        federation = self.federation
        start, start_buffers = state.arrays["start"], state.arrays["start_buffers"]
        align = self.lam if state.round_index > 0 else 0.0  # theta_0 is nobody's mix
        jobs = train_jobs(federation, state, start, start_buffers, directions=start, align=align)
        trained = receive(state, (yield jobs))
        updates = trained.params - federation.theta_0
        published, trained = publish(federation, trained, updates, state.round_index)
        weights = self.graph(1.0 - cosine_distances(published), trained.present)
        seen = federation.theta_0 + published
        here = trained.present[:, None]
        record = bill(federation, state, trained, published, weights > 0)
        arrays = {
            "start": np.where(here, mixed(weights, seen), start),
            "start_buffers": np.where(here, mixed(weights, trained.buffers), start_buffers),
        }
        return State(state.round_index + 1, trained.params, trained.buffers, arrays), record

    def graph(
        self, similarity: Float[np.ndarray, "m m"], present: Bool[np.ndarray, "m"]
    ) -> Float[np.ndarray, "m m"]:
        """w_i, rows summing to 1 over the present; rows of the absent are zero.

        The problem is the projection of p - d_i / (2 alpha) on the simplex.
        """
        weights = np.zeros_like(similarity)
        here = np.flatnonzero(present)
        shares = weights_of(self.federation, present)[here]
        for i in here:
            weights[i, here] = onto_simplex(shares + similarity[i, here] / (2 * self.alpha))
        return weights


def onto_simplex(point: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k"]:
    """The nearest point with entries >= 0 that sum to 1 (Held, Wolfe and Crowder 1974).

    >>> onto_simplex(np.array([0.9, 0.5, -1.0])).round(6).tolist()
    [0.7, 0.3, 0.0]
    """
    descending = np.sort(point)[::-1]
    excess = (np.cumsum(descending) - 1.0) / np.arange(1, len(point) + 1)
    kept = np.count_nonzero(descending > excess)
    nearest: np.ndarray = np.maximum(point - excess[kept - 1], 0.0)
    return nearest

"""CFL: FedAvg in clusters, which split where their members pull in different directions.

Sattler et al., "Clustered Federated Learning: Model-Agnostic Distributed Multitask Optimization Under Privacy
Constraints", TNNLS 2021, arXiv 1910.01991, algorithms 1 and 2. A cluster splits when its mean update is short
(the common objective is near a stationary point) and some member's is long (its own is not).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from ipfl.market.distance import cosine_distances
from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.checks import at_least, refuse
from ipfl.methods.steps import bill, everybody, mixed, publish, receive, train_jobs, weights_of
from ipfl.types import State


@dataclass(frozen=True)
class CFL:
    """Split where ||mean update|| < `eps1` and the longest update > `eps2`.

    A participant's own model is the one it trained from its cluster's, as in the experiments of arXiv 2505.02462.
    """

    federation: Federation
    eps1: float = 2.0
    eps2: float = 2.5

    def __post_init__(self) -> None:
        at_least(self, "eps1", 0)
        at_least(self, "eps2", 0)
        if self.federation.m < 3:
            refuse(
                self,
                f"{self.federation.m} participant(s) cannot be split into clusters; it needs at least 3",
            )

    def init(self) -> State:
        """One cluster, at theta_0."""
        start = initial_state(self.federation)
        cluster = np.zeros(self.federation.m, dtype=np.int64)
        return initial_state(
            self.federation, cluster=cluster, start=start.params, start_buffers=start.buffers
        )

    def round(self, state: State) -> Round:
        """Train from the cluster's model, average within clusters, split those that disagree."""
        federation = self.federation
        start, start_buffers = state.arrays["start"].copy(), state.arrays["start_buffers"].copy()
        cluster = state.arrays["cluster"].copy()
        before = start.copy()
        trained = receive(state, (yield train_jobs(federation, state, start, start_buffers)))
        published, trained = publish(federation, trained, trained.params - start, state.round_index)
        same = cluster[:, None] == cluster[None, :]
        for label in np.unique(cluster):
            members = cluster == label
            here = members & trained.present
            if not here.any():
                continue
            shares = weights_of(federation, here)[None]
            step = mixed(shares, published)[0]
            start[members] += step
            start_buffers[members] = mixed(shares, trained.buffers)[0]
            if self._disagree(published[here], step):
                other = np.flatnonzero(here)[bipartition(cosine_distances(published[here])) == 1]
                cluster[other] = cluster.max() + 1
        seen = before + published - federation.theta_0
        record = bill(federation, state, trained, seen, everybody(trained.present) & same)
        arrays = {"cluster": cluster, "start": start, "start_buffers": start_buffers}
        return State(state.round_index + 1, trained.params, trained.buffers, arrays), record

    def _disagree(self, updates: np.ndarray, mean: np.ndarray) -> bool:
        longest = float(np.linalg.norm(updates.astype(np.float64), axis=1).max())
        short = float(np.linalg.norm(mean.astype(np.float64))) < self.eps1
        return len(updates) > 2 and short and longest > self.eps2


def bipartition(distance: Float[np.ndarray, "k k"]) -> Int64[np.ndarray, "k"]:
    """Two groups, 0 and 1 (0 holds the first member), whose greatest similarity across is smallest.

    The greatest similarity across is the smallest distance across; cutting a single-linkage tree at its top
    makes that as large as it can be, so this solves the paper's problem exactly.

    >>> bipartition(np.array([[0.0, 0.1, 1.5], [0.1, 0.0, 1.4], [1.5, 1.4, 0.0]])).tolist()
    [0, 0, 1]
    """
    tree = linkage(squareform(distance, checks=False), method="single")
    labels = fcluster(tree, 2, criterion="maxclust")
    group: Int64[np.ndarray, "k"] = (labels != labels[0]).astype(np.int64)
    return group

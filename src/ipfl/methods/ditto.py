"""Ditto: a common model by FedAvg, and everybody's own model held near it.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021, arXiv 2012.04221,
algorithm 1: beside its part in the common model w, a participant minimises F_k(v) + lam/2 * ||v - w^t||^2.
"""

from dataclasses import dataclass, replace

import numpy as np

from ipfl.methods.base import Federation, Round
from ipfl.methods.checks import at_least
from ipfl.methods.fedavg import common_round, common_start
from ipfl.methods.steps import receive, train_jobs
from ipfl.types import State


@dataclass(frozen=True)
class Ditto:
    """`lam` >= 0 holds own models near the common one; it is not the market's lam."""

    federation: Federation
    lam: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, "lam", 0)

    def init(self) -> State:
        """The common model and everybody's own at theta_0."""
        return common_start(self.federation)

    def round(self, state: State) -> Round:
        """Train the common model, then everybody's own near the common one as it was."""
        federation = self.federation
        common, record = yield from common_round(federation, state, pull=0.0)
        centres = np.tile(state.arrays["model"], (federation.m, 1))
        own = receive(state, (yield train_jobs(federation, state, centres=centres, pull=self.lam)))
        here = (own.present & record.present)[:, None]
        params = np.where(here, own.params, state.params)
        buffers = np.where(here, own.buffers, state.buffers)
        loss = np.where(own.present, own.loss, record.train_loss)
        return State(common.round_index, params, buffers, common.arrays), replace(record, train_loss=loss)

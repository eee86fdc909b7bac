"""Local training only: everybody alone. The yardstick of individual rationality."""

from dataclasses import dataclass

import numpy as np

from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.steps import bill, receive, train_jobs
from ipfl.types import State


@dataclass(frozen=True)
class Local:
    """No market: nobody buys, sells or pays."""

    federation: Federation

    def init(self) -> State:
        """Everybody at theta_0."""
        return initial_state(self.federation)

    def round(self, state: State) -> Round:
        """Train, and trade nothing."""
        trained = receive(state, (yield train_jobs(self.federation, state, published=False)))
        updates = trained.params - self.federation.theta_0
        nobody = np.zeros((self.federation.m, self.federation.m), dtype=bool)
        record = bill(self.federation, state, trained, updates, nobody)
        return State(state.round_index + 1, trained.params, trained.buffers), record

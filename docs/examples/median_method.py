"""A method: everybody takes the coordinate-wise median of all models (Yin et al., ICML 2018)."""

from dataclasses import dataclass

import numpy as np

from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.steps import bill, everybody, publish, receive, train_jobs
from ipfl.plugins import method
from ipfl.types import State


@method("median")
@dataclass(frozen=True)
class Median:
    """`keep` in [0, 1]: how much of its own model a participant keeps when it takes the median."""

    federation: Federation
    keep: float = 0.0

    def init(self) -> State:
        """Everybody starts the first round at theta_0."""
        start = initial_state(self.federation)
        return initial_state(self.federation, start=start.params)

    def round(self, state: State) -> Round:
        """Train from what was mixed, publish, and mix the median with one's own."""
        federation = self.federation
        trained = receive(state, (yield train_jobs(federation, state, state.arrays["start"])))
        updates = trained.params - federation.theta_0
        published, trained = publish(federation, trained, updates, state.round_index)
        start = state.arrays["start"].copy()
        here = trained.present
        if here.any():
            median = federation.theta_0 + np.median(published[here], axis=0)
            start[here] = self.keep * trained.params[here] + (1 - self.keep) * median
        record = bill(federation, state, trained, published, everybody(here))
        return State(state.round_index + 1, trained.params, trained.buffers, {"start": start}), record

"""Local training only: everybody alone. The yardstick of individual rationality."""

import numpy as np

from ipfl.market.distance import cosine_distances
from ipfl.methods.base import Federation, Round, initial_state, receive, train_jobs
from ipfl.methods.clearing import clear_present
from ipfl.types import Bids, RoundRecord, State


class Local:
    """No market: nobody buys, sells or pays."""

    def __init__(self, federation: Federation):
        self.federation = federation

    def init(self) -> State:
        """Everybody at theta_0."""
        return initial_state(self.federation)

    def round(self, state: State) -> Round:
        """Train, and trade nothing."""
        trained = receive(state, (yield train_jobs(state)))
        bids = self.federation.bids()
        idle = Bids(bids.num_examples, np.zeros_like(bids.valuation), bids.export_cost)
        distance = cosine_distances(trained.params - self.federation.theta_0)
        outcome, distance = clear_present(idle, distance, trained.present, 0.0, *self.federation.rule)
        record = RoundRecord(
            round_index=state.round_index,
            present=trained.present,
            train_loss=trained.loss,
            bids=bids,
            distance=distance,
            outcome=outcome,
            refusals=trained.refusals,
        )
        return State(state.round_index + 1, trained.params, trained.buffers), record

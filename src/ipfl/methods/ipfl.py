"""iPFL: graph-based personalised federated learning with an incentive mechanism.

"Incentivizing Inclusive Contributions in Model Sharing Markets", arXiv 2505.02462, Nature Communications
16:7923 (2025). Every participant trains its own model; after training the market decides who buys whose
update and what is paid; what was bought pulls the buyer's next local training through a proxy.
"""

from time import perf_counter

import numpy as np

from ipfl.learning import proxies
from ipfl.market.distance import cosine_distances
from ipfl.methods.base import Federation, Round, initial_state, publish, receive, train_jobs
from ipfl.methods.clearing import clear_present
from ipfl.types import RoundRecord, State


class Ipfl:
    """The method of the paper, under any pair of market rules."""

    def __init__(self, federation: Federation):
        self.federation = federation

    def init(self) -> State:
        """Everybody at theta_0; no proxies yet, so no pull in round 0."""
        start = initial_state(self.federation)
        m = self.federation.m
        arrays = {"proxies": np.zeros_like(start.params), "has_proxy": np.zeros(m, dtype=bool)}
        return State(start.round_index, start.params, start.buffers, arrays)

    def round(self, state: State) -> Round:
        """Train with the pull, measure distances, clear the market, move the proxies."""
        federation, market = self.federation, self.federation.market
        pull = market.lam / market.eta
        replies = yield train_jobs(state, state.arrays["proxies"], state.arrays["has_proxy"], pull)
        trained = receive(state, replies)

        started = perf_counter()
        updates = trained.params - federation.theta_0
        published = publish(federation, updates, state.round_index)
        distance = cosine_distances(published)
        bids = federation.bids()
        outcome, distance = clear_present(bids, distance, trained.present, market.lam, *federation.rule)
        edge_weights = np.where(
            outcome.allocation, bids.num_examples[None, :] / bids.num_examples[:, None], 0.0
        )
        centres = proxies(trained.params, updates, published, edge_weights, market.eta)
        seconds = perf_counter() - started

        record = RoundRecord(
            round_index=state.round_index,
            present=trained.present,
            train_loss=trained.loss,
            bids=bids,
            distance=distance,
            outcome=outcome,
            market_seconds=seconds,
            refusals=trained.refusals,
        )
        arrays = {"proxies": centres, "has_proxy": trained.present | state.arrays["has_proxy"]}
        return State(state.round_index + 1, trained.params, trained.buffers, arrays), record

"""iPFL: graph-based personalised federated learning with an incentive mechanism.

"Incentivizing Inclusive Contributions in Model Sharing Markets", arXiv 2505.02462, Nature Communications
16:7923 (2025). Every participant trains its own model; after training the market decides who buys whose
update and what is paid; what was bought pulls the buyer's next local training through a proxy.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ipfl.learning import proxies
from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.checks import refuse
from ipfl.methods.clearing import clear_present
from ipfl.methods.distances import edge_weights, market_distances
from ipfl.methods.eligibility import held_back, judge_trials, on_offer, trial_jobs, tries
from ipfl.methods.steps import COLUMN_CHUNK, Models, publish, receive, train_jobs
from ipfl.types import RoundRecord, State
from ipfl.types.market import SparseMatrix

USES = ("proxy", "average")


@dataclass(frozen=True)
class Ipfl:
    """The method of the paper, under any pair of market rules; lam and eta are the market's.

    `use` says what a buyer does with what it bought. "proxy" (the paper): its own model goes on training, pulled
    to the proxy z_i. "average": the next round starts from the mean of its own and the bought models, by
    numbers of examples, without a pull.
    """

    federation: Federation
    use: str = "proxy"

    def __post_init__(self) -> None:
        if self.use not in USES:
            refuse(self, f"use = {self.use!r}, expected {' or '.join(map(repr, USES))}")

    def init(self) -> State:
        """Everybody at theta_0; nothing bought yet, so no pull in round 0."""
        start = initial_state(self.federation)
        if self.use == "average":
            return initial_state(self.federation, start=start.params)
        none = np.zeros(self.federation.m, dtype=bool)
        return initial_state(self.federation, proxies=np.zeros_like(start.params), has_proxy=none)

    def round(self, state: State) -> Round:
        """Train, measure distances, try models, clear the market, and make use of what was bought."""
        federation, market = self.federation, self.federation.market
        if self.use == "average":
            jobs = train_jobs(federation, state, state.arrays["start"])
        else:
            centres, has_proxy = state.arrays["proxies"], state.arrays["has_proxy"]
            jobs = train_jobs(
                federation, state, centres=centres, has_centre=has_proxy, pull=market.lam / market.eta
            )
        trained = receive(state, (yield jobs))
        del jobs

        started = perf_counter()
        updates = trained.params - federation.theta_0
        published, trained = publish(federation, trained, updates, state.round_index)
        bids = federation.bids
        distance = market_distances(federation, published, trained.present)
        tried_by = tries(federation.market, federation.truth.num_examples)
        ineligible: dict[tuple[int, int], str] = {}
        if copied := held_back(federation, trained, distance):
            distance, ineligible = on_offer(distance, copied.offered), copied.reasons
        if jobs := trial_jobs(federation, trained, published, distance, tried_by):
            trying = perf_counter()
            found = judge_trials(federation, trained, updates, published, distance, tried_by, (yield jobs))
            started += perf_counter() - trying  # the engine's time is not the market's
            distance, ineligible = on_offer(distance, found.offered), ineligible | found.reasons
        present = trained.present
        outcome, distance = clear_present(
            bids, federation.truth, distance, present, market.lam, *federation.rule
        )
        edges = outcome.edges()
        weights = edge_weights(edges.buyers, edges.sellers, bids.num_examples)
        if self.use == "average":
            start = averages(trained.params, federation.theta_0, published, weights)
            start[~present] = state.arrays["start"][~present]
            arrays = {"start": start}
        else:
            centres = proxies(trained.params, updates, published, weights, market.eta)
            arrays = {"proxies": centres, "has_proxy": present | state.arrays["has_proxy"]}
        record = RoundRecord(
            round_index=state.round_index,
            present=present,
            train_loss=trained.loss,
            bids=bids,
            distance=distance,
            outcome=outcome,
            market_seconds=perf_counter() - started,
            refusals=trained.refusals,
            ineligible=ineligible,
        )
        return State(state.round_index + 1, trained.params, trained.buffers, arrays), record


def averages(params: Models, theta_0: np.ndarray, published: Models, weights: SparseMatrix) -> Models:
    """The mean of each one's own model, with weight 1, and of those it bought, summed in float64."""
    shares: Any = weights
    whole = 1.0 + shares.sum(axis=1)
    result = np.empty_like(params)
    for begin in range(0, params.shape[1], COLUMN_CHUNK):
        columns = slice(begin, begin + COLUMN_CHUNK)
        seen = (theta_0[columns] + published[:, columns]).astype(np.float64)
        result[:, columns] = (params[:, columns] + shares @ seen) / whole[:, None]
    return result

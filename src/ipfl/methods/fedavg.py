"""FedAvg: one model for all, the mean of everybody's locally trained ones.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv
1602.05629, algorithm 1, with every participant in every round.
"""

from dataclasses import dataclass

import numpy as np

from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.steps import bill, everybody, mixed, publish, receive, train_jobs, weights_of
from ipfl.types import State


@dataclass(frozen=True)
class FedAvg:
    """w = sum_j N_j/N w_j; whoever takes part holds the common model at the end of a round."""

    federation: Federation

    def init(self) -> State:
        """The common model is theta_0."""
        return common_start(self.federation)

    def round(self, state: State) -> Round:
        """Everybody trains the common model on its own data; their mean is the next one."""
        return (yield from common_round(self.federation, state, pull=0.0))


def common_start(federation: Federation) -> State:
    """The state of a method with one model for all."""
    return initial_state(federation, model=federation.theta_0, model_buffers=federation.buffers_0)


def common_round(federation: Federation, state: State, pull: float) -> Round:
    """Train from the common model, pulled to it by pull/2 * ||theta - w||^2, and average."""
    model, buffers = state.arrays["model"], state.arrays["model_buffers"]
    start, start_buffers = np.tile(model, (federation.m, 1)), np.tile(buffers, (federation.m, 1))
    centres = start if pull > 0 else None
    jobs = train_jobs(federation, state, start, start_buffers, centres, pull=pull)
    trained = receive(state, (yield jobs))
    published, trained = publish(federation, trained, trained.params - start, state.round_index)
    if trained.present.any():
        shares = weights_of(federation, trained.present)
        model = model + mixed(shares[None], published)[0]
        buffers = mixed(shares[None], trained.buffers)[0]
    seen = start + published - federation.theta_0
    record = bill(federation, state, trained, seen, everybody(trained.present))
    here = trained.present[:, None]
    params = np.where(here, model[None], state.params)
    arrays = {"model": model, "model_buffers": buffers}
    return State(state.round_index + 1, params, np.where(here, buffers[None], state.buffers), arrays), record

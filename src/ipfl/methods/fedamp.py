"""FedAMP: similar participants' models attract one another.

Huang et al., "Personalized Cross-Silo Federated Learning on Non-IID Data", AAAI 2021, arXiv 2007.03797, algorithm 1
with A(x) = 1 - exp(-x/sigma): u_i = (1 - alpha sum_j A'(|w_i-w_j|^2)) w_i + alpha sum_j A'(|w_i-w_j|^2) w_j, and the
local loss is F_i(w) + lam/(2 alpha) * ||w - u_i||^2.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ipfl.methods.base import Federation, Round, initial_state
from ipfl.methods.checks import at_least, refuse
from ipfl.methods.steps import Models, bill, everybody, mixed, publish, receive, train_jobs
from ipfl.types import State


@dataclass(frozen=True)
class FedAMP:
    """`sigma` > 0: squared distance at which attraction fades; `alpha` > 0: step of the message passing.

    alpha = 0 stands for sigma / m, the largest with which nobody's own weight can fall below 1/m.
    """

    federation: Federation
    lam: float = 0.01
    sigma: float = 10.0
    alpha: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, "lam", 0)
        at_least(self, "sigma", 0, above=True)
        at_least(self, "alpha", 0)
        bound = self.sigma / max(1, self.federation.m - 1)
        if self.alpha > bound:
            refuse(
                self,
                f"alpha = {self.alpha:g} can make a participant's own weight negative; at most {bound:g}",
            )

    @property
    def step(self) -> float:
        """The step in force."""
        return self.alpha or self.sigma / self.federation.m

    def init(self) -> State:
        """Everybody at theta_0, nobody attracted yet."""
        start = initial_state(self.federation)
        none = np.zeros(self.federation.m, dtype=bool)
        return initial_state(self.federation, centres=np.zeros_like(start.params), has_centre=none)

    def round(self, state: State) -> Round:
        """Train near u_i, then pass messages for the next round."""
        federation = self.federation
        centres, has_centre = state.arrays["centres"], state.arrays["has_centre"]
        jobs = train_jobs(
            federation, state, centres=centres, has_centre=has_centre, pull=self.lam / self.step
        )
        trained = receive(state, (yield jobs))
        updates = trained.params - federation.theta_0
        published, trained = publish(federation, trained, updates, state.round_index)
        weights = self.attraction(trained.params, federation.theta_0 + published, trained.present)
        own = (1.0 - weights.sum(axis=1, keepdims=True)) * trained.params
        new = (own + mixed(weights, federation.theta_0 + published)).astype(np.float32)
        here = trained.present[:, None]
        record = bill(federation, state, trained, published, (weights > 0) & everybody(trained.present))
        arrays = {"centres": np.where(here, new, centres), "has_centre": has_centre | trained.present}
        return State(state.round_index + 1, trained.params, trained.buffers, arrays), record

    def attraction(
        self, params: Models, seen: Models, present: Bool[np.ndarray, "m"]
    ) -> Float[np.ndarray, "m m"]:
        """alpha * A'(|w_i - w_j|^2) = alpha/sigma * exp(-|w_i - w_j|^2 / sigma) for present i != j."""
        own, others = params.astype(np.float64), seen.astype(np.float64)
        squares = np.stack([np.square(others - model).sum(axis=1) for model in own])
        weights = self.step / self.sigma * np.exp(-squares / self.sigma)
        result: np.ndarray = np.where(everybody(present), weights, 0.0)
        return result

"""FedProx: FedAvg whose local training is held near the common model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv 1812.06127, algorithm 2: the local
loss is F_k(w) + mu/2 * ||w - w^t||^2.
"""

from dataclasses import dataclass

from ipfl.methods.base import Federation, Round
from ipfl.methods.checks import at_least
from ipfl.methods.fedavg import common_round, common_start
from ipfl.types import State


@dataclass(frozen=True)
class FedProx:
    """`mu` >= 0 is the weight of the proximal term; 0 is FedAvg."""

    federation: Federation
    mu: float = 0.01

    def __post_init__(self) -> None:
        at_least(self, "mu", 0)

    def init(self) -> State:
        """The common model is theta_0."""
        return common_start(self.federation)

    def round(self, state: State) -> Round:
        """A round of FedAvg with the pull mu."""
        return (yield from common_round(self.federation, state, pull=self.mu))

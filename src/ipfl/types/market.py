"""Bids and outcomes: the records that enter and leave a market."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Vector = Float[np.ndarray, "m"]
Matrix = Float[np.ndarray, "m m"]


@dataclass(frozen=True, eq=False)
class Bids:
    """What each of m participants reports."""

    num_examples: Int[np.ndarray, "m"]
    valuation: Vector
    export_cost: Vector


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one clearing of the market decided; every matrix is indexed [buyer, seller]."""

    allocation: Bool[np.ndarray, "m m"]
    payments: Matrix
    gains: Vector
    costs: Vector
    frictions: Vector
    utilities: Vector
    surpluses: Vector
    welfare: float
    objective: float
    subsidy: float

"""What buyers pay and sellers receive, given the graph."""

import numpy as np
from jaxtyping import Bool, Float

from ipfl.market.problems import Problems


def marginal_payments(problems: Problems, allocation: Bool[np.ndarray, "b m"]) -> Float[np.ndarray, "b m"]:
    """The paper's payments: p_ij = v_i(S) - v_i(S minus j), v_i(S) = G_i(S) - sum of e_ij over S.

    Law: c_j <= p_ij wherever j adds at least its price, and their sum is at most v_i(S) by concavity. Not
    truthful: see docs/market.md.
    """
    payments = np.zeros(allocation.shape)
    rows, sellers = np.nonzero(allocation)
    sizes = problems.sizes[sellers]
    total = problems.own + problems.imported(allocation)
    payments[rows, sellers] = (
        problems.gains_from(rows, total[rows] - sizes, sizes) - problems.frictions[rows, sellers]
    )
    return payments

"""Proxies: where the models a participant bought pull its own (paper, proxy of the local objective)."""

import numpy as np
from jaxtyping import Float, Float32
from scipy import sparse


def proxies(
    params: Float32[np.ndarray, "m p"],
    updates: Float32[np.ndarray, "m p"],
    published: Float32[np.ndarray, "m p"],
    edge_weights: Float[np.ndarray, "m m"],
    eta: float,
) -> Float32[np.ndarray, "m p"]:
    """z_i = theta_i + eta * grad_{v_i} sum_j w_ij cos(v_i, v_j).

    grad_{v_i} cos(v_i, v_j) = v_j / (|v_i| |v_j|) - cos(v_i, v_j) v_i / |v_i|^2, so all proxies are one
    (sparse) matrix product. Laws: w = 0 gives z = theta; the pull is orthogonal to v_i; a zero update neither
    pulls nor is pulled.

    Args:
      params: theta, the participants' own models.
      updates: v = theta - theta_0, their own true updates.
      published: the updates others see; equal to `updates` where a participant is honest.
      edge_weights: w, [buyer, seller]; 0 where nothing was bought.
      eta: step towards the bought models.
    """
    own_norm = np.sqrt(np.einsum("ij,ij->i", updates, updates, dtype=np.float64))
    sold_norm = np.sqrt(np.einsum("ij,ij->i", published, published, dtype=np.float64))
    result = params.copy()
    weights = np.where(np.outer(own_norm, sold_norm) > 0, edge_weights, 0.0)
    buyers = np.flatnonzero(weights.any(axis=1))
    if buyers.size == 0:
        return result
    sellers = np.flatnonzero(weights.any(axis=0))
    scale = weights[np.ix_(buyers, sellers)] / np.outer(
        own_norm[buyers], np.where(sold_norm > 0, sold_norm, 1.0)[sellers]
    )
    towards = sparse.csr_array(scale) @ published[sellers].astype(np.float64)
    own = updates[buyers].astype(np.float64)
    along = np.einsum("ij,ij->i", towards, own) / own_norm[buyers] ** 2
    result[buyers] = params[buyers] + eta * (towards - along[:, None] * own)
    return result

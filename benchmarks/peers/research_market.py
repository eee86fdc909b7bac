"""The market of arXiv 2505.02462 as research code does it: pair by pair, over dictionaries of tensors.

Distances flatten both models of every pair, both halves; thresholds are one root finder per pair; the greedy graph and
the marginal payments are Python loops; proxies come from autograd over all pairs, those not bought from included.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import fsolve

Model = dict[str, torch.Tensor]
START = 3.0
"""Multiples of a seller's number of examples at which the root finder starts."""


def flat(model: Model) -> torch.Tensor:
    return torch.cat([value.reshape(-1) for value in model.values()])


def distances(models: Sequence[Model], initial: Model) -> torch.Tensor:
    """1 - cos of the updates, for every ordered pair."""
    found = torch.zeros(len(models), len(models))
    for i, one in enumerate(models):
        for j, other in enumerate(models):
            if i != j:
                update, another = flat(one) - flat(initial), flat(other) - flat(initial)
                found[i, j] = 1 - torch.dot(update, another) / (update.norm() * another.norm())
    return found


def threshold(valuation: float, size: float, price: float) -> float:
    """Up to how many examples this seller is worth its price."""
    if price <= 0:
        return math.inf

    def excess(x: np.ndarray) -> np.ndarray:
        if x <= size:
            return np.zeros(1)
        return np.sqrt(valuation / (x - size)) - np.sqrt(valuation / x) - price

    return float(fsolve(excess, START * size)[0])


def greedy_graph(
    distance: torch.Tensor, sizes: Sequence[int], valuation: float, export_cost: float, lam: float
) -> list[list[int]]:
    """Whom each buys from: the largest thresholds first, up to the first that does not fit."""
    graph = []
    for buyer, own in enumerate(sizes):
        thresholds = {}
        for seller, size in enumerate(sizes):
            if seller != buyer:
                price = export_cost + lam * distance[buyer, seller].item() * size / own
                thresholds[seller] = threshold(valuation, size, price)
        chosen, total = [], own
        for seller in sorted(thresholds, key=lambda j: -thresholds[j]):
            if total + sizes[seller] >= thresholds[seller]:
                break
            chosen.append(seller)
            total += sizes[seller]
        graph.append(chosen)
    return graph


def marginal_payments(
    distance: torch.Tensor, graph: Sequence[Sequence[int]], sizes: Sequence[int], valuation: float, lam: float
) -> np.ndarray:
    """What each buyer pays each seller: the gain that would be lost without it, less the friction."""
    payments = np.zeros((len(sizes), len(sizes)))
    for buyer, chosen in enumerate(graph):
        for seller in chosen:
            total = sizes[buyer] + sum(sizes[j] for j in chosen)
            gain = math.sqrt(valuation / (total - sizes[seller])) - math.sqrt(valuation / total)
            friction = lam * distance[buyer, seller].item() * sizes[seller] / sizes[buyer]
            payments[buyer, seller] = gain - friction
    return payments


def proxies(
    models: Sequence[Model], initial: Model, graph: Sequence[Sequence[int]], sizes: Sequence[int], eta: float
) -> list[torch.Tensor]:
    """theta_i + eta * grad of sum_j w_ij cos(v_i, v_j), by autograd."""
    found = []
    for buyer, own in enumerate(models):
        leaf = {name: value.detach().clone().requires_grad_(True) for name, value in own.items()}
        total = torch.zeros(())
        for seller, other in enumerate(models):
            weight = sizes[seller] / sizes[buyer] if seller in graph[buyer] else 0.0
            if seller != buyer:
                update, bought = flat(leaf) - flat(initial), flat(other) - flat(initial)
                total = total + weight * torch.dot(update, bought) / (update.norm() * bought.norm())
        total.backward()
        gradient = torch.cat([value.grad.reshape(-1) for value in leaf.values()])
        found.append(flat(own) + eta * gradient)
    return found


def quietly() -> None:
    """The root finder's complaints are part of the method, not of the measurement."""
    warnings.filterwarnings("ignore", module="scipy")
    warnings.filterwarnings("ignore", category=RuntimeWarning)

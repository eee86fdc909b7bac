"""Parts of equal size whose label shares differ: kinds `cluster` (equal sizes), `dirichlet` and `iid`.

Published code often deals examples first and tries again when somebody got too few, appending to what was
dealt before, so that one example stands in two parts, or in a part twice. Here shares are drawn first, then
turned into whole numbers that the stock of each class can serve, and examples are dealt once.
"""

import numpy as np
from jaxtyping import Float64, Int64

from ipfl.config import PartitionConfig
from ipfl.data.apportion import quotas, ration, size_served
from ipfl.errors import DataError

TRIES = 100
"""Draws of all shares, of which the one that leaves the fewest examples over is taken."""


def equal_piles(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    needed: int,
    config: PartitionConfig,
    rng: np.random.Generator,
) -> list[Int64[np.ndarray, "size"]]:
    """One pile of positions per participant, all of one size; what the shares drawn leave over is unused.

    Only `iid` with train_examples = "all" leaves nothing over: then sizes differ by one at most.

    Args:
      labels: class of each example, from 0 and without gaps.
      num_participants: m >= 1.
      needed: examples that everybody should get; over-demanded classes are rationed for it.
      config: the kind and its parameters.
      rng: where every draw comes from.
    """
    if config.kind == "iid":
        return _iid_piles(labels, num_participants, config.train_examples == "all", rng)
    stock = np.bincount(labels)
    return deal(labels, quotas(_best_shares(stock, num_participants, needed, config, rng), stock), rng)


def draw_shares(
    num_participants: int, num_classes: int, config: PartitionConfig, rng: np.random.Generator
) -> Float64[np.ndarray, "m classes"]:
    """Label shares of each participant, rows summing to 1 (kinds `cluster` and `dirichlet`).

    >>> shares = draw_shares(6, 4, PartitionConfig(clusters=2, alpha_within=1e6), np.random.default_rng(0))
    >>> shares.sum(axis=1).round(6).tolist(), bool(np.abs(shares[0] - shares[2]).max() < 0.01)
    ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], True)
    """
    if config.kind == "dirichlet":
        return dirichlet(np.full((num_participants, num_classes), config.alpha), rng)
    cluster = dirichlet(np.full((config.clusters, num_classes), config.alpha_between), rng)
    return dirichlet(config.alpha_within * cluster[np.arange(num_participants) % config.clusters], rng)


def dirichlet(
    alpha: Float64[np.ndarray, "rows classes"], rng: np.random.Generator
) -> Float64[np.ndarray, "rows classes"]:
    """One Dirichlet draw per row, also where alpha is so small that gamma draws underflow.

    A gamma variable of shape a is one of shape a + 1 times U^(1/a); in logarithms nothing is lost.

    >>> dirichlet(np.full((2, 3), 1e-9), np.random.default_rng(0)).max(axis=1).tolist()
    [1.0, 1.0]
    """
    alpha = np.maximum(alpha, 1e-100)  # a cluster's share may have been rounded to 0
    logs = np.log(rng.standard_gamma(alpha + 1.0)) - rng.standard_exponential(alpha.shape) / alpha
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    result: Float64[np.ndarray, "rows classes"] = shares / shares.sum(axis=1, keepdims=True)
    return result


def deal(
    labels: Int64[np.ndarray, "n"], counts: Int64[np.ndarray, "m classes"], rng: np.random.Generator
) -> list[Int64[np.ndarray, "size"]]:
    """Deal random examples of every class, none twice: counts[i, c] of class c to participant i.

    >>> deal(np.array([1, 0]), np.array([[1, 0], [0, 1]]), np.random.default_rng(0))
    [array([1]), array([0])]
    """
    piles: list[list[Int64[np.ndarray, "..."]]] = [[] for _ in counts]
    for label in range(counts.shape[1]):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(counts[:, label])
        for pile, end, count in zip(piles, ends, counts[:, label], strict=True):
            pile.append(shuffled[end - count : end])
    return [np.sort(np.concatenate(pile)) for pile in piles]


def _best_shares(
    stock: Int64[np.ndarray, "classes"],
    num_participants: int,
    needed: int,
    config: PartitionConfig,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "m classes"]:
    draws = [draw_shares(num_participants, len(stock), config, rng) for _ in range(TRIES)]
    best = max(draws, key=lambda shares: size_served(shares, stock))
    if size_served(best, stock) < needed <= stock.sum() / num_participants:
        return ration(best, stock, needed)
    return best


def _iid_piles(
    labels: Int64[np.ndarray, "n"], num_participants: int, whole: bool, rng: np.random.Generator
) -> list[Int64[np.ndarray, "size"]]:
    size = len(labels) // num_participants
    for _ in range(TRIES):
        order = rng.permutation(len(labels))
        order = order if whole else order[: size * num_participants]
        piles = np.array_split(order, num_participants)
        if size < 2 or all(len(np.unique(labels[pile])) > 1 for pile in piles):
            return [np.sort(pile) for pile in piles]
    raise DataError(
        f"in each of {TRIES} random partitions some participant had one class only: "
        "lower participants.count, or choose data whose classes are less unequal"
    )

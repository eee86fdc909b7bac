"""Sharing one labelled data set out among participants whose label shares differ.

`cluster` is the paper's setting (arXiv 2505.02462, experiments): label shares of each cluster are drawn
from Dirichlet(alpha_between), those of its members from Dirichlet(alpha_within * the cluster's shares);
participant i belongs to cluster i % clusters. `dirichlet` draws every participant's shares by itself; `iid`
gives random parts of the data.

Published code often deals examples first and tries again when somebody got too few, appending to what was
dealt before, so that one example stands in two parts, or in a part twice. Here shares are drawn first, then
turned into whole numbers that the stock of each class can serve, and examples are dealt once.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ipfl.config import PartitionConfig
from ipfl.data.apportion import apportion, quotas, ration, size_served
from ipfl.errors import DataError

TRIES = 100
"""Draws of all shares, of which the one that leaves the fewest examples over is taken."""
TEST_EXAMPLES_MIN = 10
"""Every participant keeps at least so many examples for testing."""


class Part(NamedTuple):
    """What one participant is given: positions in the common data set, no two alike, ascending."""

    train: Int64[np.ndarray, "train"]
    test: Int64[np.ndarray, "test"]


def partition(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    config: PartitionConfig,
    rng: np.random.Generator,
) -> tuple[Part, ...]:
    """Share the examples behind `labels` out among participants.

    Laws: no example is used twice; all participants get the same number of examples; each trains on a
    number drawn uniformly from config.train_examples, of two classes at least and in the proportions of its
    part, and tests on the rest, at least 10; the same generator state gives the same parts. Examples stay
    unused where the label shares drawn do not add up to the stock. Where they would leave too few for
    everybody, over-demanded classes are rationed (see `apportion.ration`).

    Args:
      labels: class of each example, from 0.
      num_participants: m >= 1.
      config: the kind of partition and its parameters.
      rng: where every draw comes from.
    Returns:
      m parts.
    Raises:
      DataError: fewer than 2 classes, or too few examples for so many participants; says what to change.

    >>> labels = np.arange(400) % 5
    >>> parts = partition(labels, 4, PartitionConfig(clusters=2), np.random.default_rng(0))
    >>> used = np.concatenate([np.concatenate(part) for part in parts])
    >>> len(parts), len(used) == len(set(used.tolist())), all(len(part.test) >= 10 for part in parts)
    (4, True, True)
    """
    low, high = config.train_examples
    if low < 2:
        raise DataError(
            f"partition.train_examples = [{low}, {high}]: training on 2 classes needs at least 2 examples; "
            "raise the lower number"
        )
    classes, compact = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"the data to be shared out has {len(classes)} class(es): choose data with at least 2"
        )
    needed = high + TEST_EXAMPLES_MIN
    if config.kind == "iid":
        piles = _equal_parts(labels, num_participants, rng)
    else:
        stock = np.bincount(compact)
        piles = deal(compact, quotas(_best_shares(stock, num_participants, needed, config, rng), stock), rng)
    if len(piles[0]) < needed:
        raise DataError(_too_few(len(labels), num_participants, len(piles[0]), config))
    return tuple(_train_and_test(labels, pile, int(rng.integers(low, high + 1)), rng) for pile in piles)


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


def _equal_parts(
    labels: Int64[np.ndarray, "n"], num_participants: int, rng: np.random.Generator
) -> list[Int64[np.ndarray, "size"]]:
    size = len(labels) // num_participants
    for _ in range(TRIES):
        parts = rng.permutation(len(labels))[: size * num_participants].reshape(num_participants, size)
        if size < 2 or all(len(np.unique(labels[part])) > 1 for part in parts):
            return [np.sort(part) for part in parts]
    raise DataError(
        f"in each of {TRIES} random partitions some participant had one class only: "
        "lower participants.count, or choose data whose classes are less unequal"
    )


def _train_and_test(
    labels: Int64[np.ndarray, "n"], pile: Int64[np.ndarray, "size"], num_train: int, rng: np.random.Generator
) -> Part:
    """Training examples in the proportions of the pile, of two classes at least; the rest is for testing."""
    classes, counts = np.unique(labels[pile], return_counts=True)
    train_counts = apportion(num_train, counts.astype(np.float64))
    if np.count_nonzero(train_counts) < 2:
        first, second = np.argsort(-counts, kind="stable")[:2]
        train_counts[first] -= 1
        train_counts[second] += 1
    chosen = [
        rng.permutation(pile[labels[pile] == label])[:count]
        for label, count in zip(classes, train_counts, strict=True)
    ]
    train = np.sort(np.concatenate(chosen))
    return Part(train, np.setdiff1d(pile, train, assume_unique=True))


def _too_few(num_examples: int, num_participants: int, size: int, config: PartitionConfig) -> str:
    low, high = config.train_examples
    return (
        f"{num_examples} examples are too few for {num_participants} participants: each would get {size}, "
        f"but partition.train_examples = [{low}, {high}] and {TEST_EXAMPLES_MIN} for testing need "
        f"{high + TEST_EXAMPLES_MIN}; "
        "lower participants.count or partition.train_examples"
    )

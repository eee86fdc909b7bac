"""Sharing one labelled data set out among participants whose label shares differ.

`cluster` is the paper's setting (arXiv 2505.02462, experiments): label shares of each cluster are drawn from
Dirichlet(alpha_between), those of its members from Dirichlet(alpha_within * the cluster's shares); participant i
belongs to cluster i % clusters. `dirichlet` draws every participant's shares by itself, `iid` gives random parts.

Published code often deals examples first and tries again when somebody got too few, appending to what was dealt
before, so that one example stands in two parts. Here shares are drawn first, then whole numbers that the stock
of each class can serve, and examples are dealt once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ipfl.config import PartitionConfig
from ipfl.errors import DataError

TRIES = 100
"""Draws of shares among which the one that the data can serve best is taken."""
TEST_EXAMPLES_MIN = 10
"""Every participant keeps at least so many examples for testing."""


class Part(NamedTuple):
    """What one participant is given: positions in the common data set, no two alike."""

    train: Int64[np.ndarray, "train"]
    test: Int64[np.ndarray, "test"]


def partition(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    config: PartitionConfig,
    rng: np.random.Generator,
) -> tuple[Part, ...]:
    """Share the examples behind `labels` out among participants.

    Laws: no example is used twice; all participants get the same number of examples; each trains on a number
    drawn uniformly from config.train_examples, of at least two classes, and tests on the rest, at least 10;
    the same generator state gives the same parts. Some examples may stay unused, where label shares do not
    add up to the stock.

    Args:
      labels: class of each example, from 0.
      num_participants: m >= 1.
      config: the kind of partition and its parameters.
      rng: where every draw comes from.
    Returns:
      m parts.
    Raises:
      DataError: the data is too small for so many participants; the message says what to change.

    >>> parts = partition(np.arange(300) % 5, 4, PartitionConfig(clusters=2), np.random.default_rng(0))
    >>> len(parts), len(np.unique(np.concatenate([index for part in parts for index in part]))) <= 300
    (4, True)
    >>> all(25 <= len(part.train) <= 50 and len(part.test) >= 10 for part in parts)
    True
    """
    low, high = config.train_examples
    if low < 2:
        raise DataError(
            f"partition.train_examples = [{low}, {high}]: two classes need at least 2 examples each; raise it"
        )
    if len(np.unique(labels)) < 2:
        raise DataError("the data set to be shared out has fewer than 2 classes: choose data with at least 2")
    needed = high + TEST_EXAMPLES_MIN
    if config.kind == "iid":
        shares_of_data = _iid(labels, num_participants, needed, rng)
    else:
        stock = np.bincount(labels)
        draws = [draw_shares(num_participants, len(stock), config, rng) for _ in range(TRIES)]
        counts = quotas(max(draws, key=lambda shares: _fractional_size(shares, stock)), stock)
        if counts[0].sum() < needed:
            raise DataError(_too_few(len(labels), num_participants, int(counts[0].sum()), config))
        shares_of_data = deal(labels, counts, rng)
    return tuple(_split(labels, indices, int(rng.integers(low, high + 1)), rng) for indices in shares_of_data)


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

    A gamma variable of shape a is that of shape a + 1 times U^(1/a); logarithms keep it above 0.

    >>> dirichlet(np.full((2, 3), 1e-9), np.random.default_rng(0)).max(axis=1).tolist()
    [1.0, 1.0]
    """
    alpha = np.maximum(alpha, 1e-100)  # a cluster's share may round to 0
    logs = np.log(rng.standard_gamma(alpha + 1.0)) - rng.standard_exponential(alpha.shape) / alpha
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    result: Float64[np.ndarray, "rows classes"] = shares / shares.sum(axis=1, keepdims=True)
    return result


def quotas(
    shares: Float64[np.ndarray, "m classes"], stock: Int64[np.ndarray, "classes"]
) -> Int64[np.ndarray, "m classes"]:
    """Whole examples per participant and class: as many as the stock of every class can serve.

    Laws: rows have equal sums s; columns stay within the stock; each count is within one example of s * share,
    except that a participant of one class gives one example of it up for its next likeliest class.

    >>> quotas(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([6, 6])).tolist()
    [[4, 2], [2, 4]]
    """
    size = int(_fractional_size(shares, stock))
    while size > 0:
        counts = np.stack([apportion(size, row) for row in shares])
        if (counts.sum(axis=0) <= stock).all():
            return counts
        size -= 1
    return np.zeros(shares.shape, dtype=np.int64)


def apportion(total: int, shares: Float64[np.ndarray, "classes"]) -> Int64[np.ndarray, "classes"]:
    """Split `total` examples by shares (largest remainders first), over two classes at least if total >= 2.

    >>> apportion(10, np.array([0.55, 0.35, 0.1])).tolist(), apportion(10, np.array([0.0, 1.0])).tolist()
    ([6, 3, 1], [1, 9])
    """
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    remainders = np.argsort(counts - exact, kind="stable")
    counts[remainders[: total - counts.sum()]] += 1
    if total >= 2 and np.count_nonzero(counts) < 2:
        first, second = np.argsort(-shares, kind="stable")[:2]
        counts[first] -= 1
        counts[second] += 1
    return counts


def deal(
    labels: Int64[np.ndarray, "n"], counts: Int64[np.ndarray, "m classes"], rng: np.random.Generator
) -> list[Int64[np.ndarray, "size"]]:
    """Deal random examples of every class, each example once, according to `counts`; sorted positions.

    >>> [indices.tolist() for indices in deal(np.array([0, 1]), np.array([[1, 0], [0, 1]]), np.random.default_rng(0))]
    [[0], [1]]
    """
    piles: list[list[Int64[np.ndarray, "..."]]] = [[] for _ in counts]
    for label in range(counts.shape[1]):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(counts[:, label])
        for pile, end, count in zip(piles, ends, counts[:, label], strict=True):
            pile.append(shuffled[end - count : end])
    return [np.sort(np.concatenate(pile)) for pile in piles]


def _fractional_size(shares: Float64[np.ndarray, "m classes"], stock: Int64[np.ndarray, "classes"]) -> float:
    """The most examples that every participant could get if examples could be cut."""
    demand = shares.sum(axis=0)
    wanted = demand > 1e-12 * len(shares)
    return float(min((stock[wanted] / demand[wanted]).min(), stock.sum() / len(shares)))


def _iid(
    labels: Int64[np.ndarray, "n"], num_participants: int, needed: int, rng: np.random.Generator
) -> list[Int64[np.ndarray, "size"]]:
    size = len(labels) // num_participants
    if size < needed:
        raise DataError(_too_few(len(labels), num_participants, size, None))
    for _ in range(TRIES):
        shuffled = rng.permutation(len(labels))[: size * num_participants].reshape(num_participants, size)
        if all(len(np.unique(labels[row])) >= 2 for row in shuffled):
            return [np.sort(row) for row in shuffled]
    raise DataError(
        f"in {TRIES} random partitions some participant always had one class only: "
        "lower participants.count, or choose data whose classes are less unequal"
    )


def _split(
    labels: Int64[np.ndarray, "n"],
    indices: Int64[np.ndarray, "size"],
    num_train: int,
    rng: np.random.Generator,
) -> Part:
    """Training examples in proportion to the classes of the part; the rest is for testing."""
    classes, counts = np.unique(labels[indices], return_counts=True)
    train_counts = apportion(num_train, counts.astype(np.float64))
    chosen = [
        rng.permutation(indices[labels[indices] == label])[:count]
        for label, count in zip(classes, train_counts, strict=True)
    ]
    train = np.sort(np.concatenate(chosen))
    return Part(train, np.setdiff1d(indices, train, assume_unique=True))


def _too_few(num_examples: int, num_participants: int, size: int, config: PartitionConfig | None) -> str:
    remedies: Sequence[str] = ["lower participants.count", "lower partition.train_examples"]
    if config is not None:
        remedies = [
            *remedies,
            f"raise {'partition.alpha_between' if config.kind == 'cluster' else 'partition.alpha'}",
        ]
    return (
        f"{num_examples} examples cannot be shared out among {num_participants} participants: each would get at most "
        f"{size}, too few to train on partition.train_examples and keep {TEST_EXAMPLES_MIN} for testing; "
        f"{', or '.join(remedies)}"
    )

"""Sharing one labelled data set out among participants: who gets which examples (docs/partitions.md).

Kinds with parts of equal size are in `shares`, kinds whose sizes differ in `dealing`. `cluster` is both: the
paper's setting (arXiv 2505.02462, experiments) has drawn sizes. Participant i belongs to cluster i % clusters.

A kind is a function `(labels, num_participants, config, rng, groups) -> piles` in `KINDS`: one array of positions per
participant. What it returns is checked, so one of your own (see `ipfl.plugins`) cannot give an example twice.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ipfl.config import PartitionConfig
from ipfl.data.apportion import apportion
from ipfl.data.dealing import unequal_piles
from ipfl.data.shares import equal_piles
from ipfl.errors import ConfigError, DataError

Positions = Int64[np.ndarray, "..."]
Deal = Callable[
    [Int64[np.ndarray, "n"], int, PartitionConfig, np.random.Generator, Int64[np.ndarray, "n"] | None],
    Sequence[Positions],
]
"""One kind of partition: labels, number of participants, configuration, random numbers, groups; gives piles."""

TEST_EXAMPLES_MIN = 10
"""Where tests come from a participant's own part, it keeps at least so many for them."""


class Part(NamedTuple):
    """What one participant is given: positions in the common data set, no two alike, ascending."""

    train: Int64[np.ndarray, "train"]
    test: Int64[np.ndarray, "test"]


def partition(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    config: PartitionConfig,
    rng: np.random.Generator,
    groups: Int64[np.ndarray, "n"] | None = None,
) -> tuple[Part, ...]:
    """Share the examples behind `labels` out among participants.

    Laws: no example is used twice; everybody trains on two classes at least; the same generator state gives the
    same parts; the number of draws is bounded. With train_examples = [low, high], each trains on a number drawn
    uniformly between these (or as many as its part allows), in the proportions of its part, and tests on the
    rest, at least 10. With "all" it trains on its whole part, at least config.min_examples, and `test` is empty.

    `cluster` with equal sizes, `dirichlet` and `iid` give everybody the same number of examples; some stay unused
    where the label shares drawn do not add up to the stock, and where they would leave too few for everybody,
    over-demanded classes are rationed (see `apportion.ration`). What the other kinds use: `unequal_piles`.

    Args:
      labels: class of each example, from 0.
      num_participants: m >= 1.
      config: the kind of partition and its parameters.
      rng: where every draw comes from.
      groups: writer, role or domain of each example, for the kinds `natural` and `domain`.
    Returns:
      m parts.
    Raises:
      DataError: fewer than 2 classes, too few examples for so many participants, or no groups; says what to
        change.

    >>> labels = np.arange(400) % 5
    >>> parts = partition(labels, 4, PartitionConfig(clusters=2), np.random.default_rng(0))
    >>> used = np.concatenate([np.concatenate(part) for part in parts])
    >>> len(parts), len(used) == len(set(used.tolist())), all(len(part.test) >= 10 for part in parts)
    (4, True, True)
    >>> whole = PartitionConfig(kind="niid", train_examples="all")
    >>> sum(len(part.train) for part in partition(labels, 4, whole, np.random.default_rng(0)))
    400
    """
    deal = find_kind(config.kind)
    low, high = _training_range(config)
    num_classes = len(np.unique(labels))
    if num_classes < 2:
        raise DataError(f"the data to be shared out has {num_classes} class(es): choose data with at least 2")
    piles = [np.sort(pile) for pile in deal(labels, num_participants, config, rng, groups)]
    _check_piles(piles, labels, num_participants, config)
    if config.train_examples == "all":
        return tuple(Part(pile, np.empty(0, dtype=np.int64)) for pile in piles)
    return tuple(_train_and_test(labels, pile, low, high, rng) for pile in piles)


def find_kind(name: str) -> Deal:
    """The kind of partition of that name.

    >>> find_kind("nid")
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: unknown partition.kind 'nid'; did you mean 'niid'?
    """
    if name in KINDS:
        return KINDS[name]
    near = difflib.get_close_matches(name, KINDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known kinds: {', '.join(KINDS)}"
    raise ConfigError(f"unknown partition.kind {name!r}; {hint}")


def least_size(config: PartitionConfig) -> int:
    """The smallest part that serves a participant: for training, and for tests of its own where they come from it.

    >>> least_size(PartitionConfig()), least_size(PartitionConfig(train_examples="all"))
    (35, 10)
    """
    if config.train_examples == "all":
        return config.min_examples
    return config.train_examples[0] + TEST_EXAMPLES_MIN


def has_equal_sizes(config: PartitionConfig) -> bool:
    """Whether all participants get parts of one size."""
    return config.kind in ("dirichlet", "iid") or (config.kind == "cluster" and config.sizes == "equal")


def _built_in(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    config: PartitionConfig,
    rng: np.random.Generator,
    groups: Int64[np.ndarray, "n"] | None,
) -> Sequence[Positions]:
    """All kinds that come with the package."""
    compact = np.unique(labels, return_inverse=True)[1]
    if not has_equal_sizes(config):
        return unequal_piles(compact, num_participants, least_size(config), config, rng, groups)
    # all parts are of one size, so each must do for the largest number to train on
    high = config.train_examples[1] if config.train_examples != "all" else 0
    needed = high + TEST_EXAMPLES_MIN if high else config.min_examples
    piles = equal_piles(compact, num_participants, needed, config, rng)
    if len(piles[-1]) < needed:  # the smallest, where they differ by one
        raise DataError(_too_few(len(labels), num_participants, len(piles[-1]), needed, config))
    return piles


KINDS: dict[str, Deal] = dict.fromkeys(
    ("cluster", "niid", "skew", "dirichlet", "quantity", "iid", "natural", "domain"), _built_in
)


def _check_piles(
    piles: Sequence[Positions], labels: Int64[np.ndarray, "n"], num_participants: int, config: PartitionConfig
) -> None:
    """Raise unless there is one pile for each, of enough examples and classes, and no example is in two."""
    used = np.concatenate(piles) if piles else np.empty(0, dtype=np.int64)
    problem = None
    if len(piles) != num_participants:
        problem = f"{len(piles)} parts for {num_participants} participants"
    elif used.dtype != np.int64 or (len(used) and not 0 <= used.min() <= used.max() < len(labels)):
        problem = f"positions that are none of 0 to {len(labels) - 1} (int64)"
    elif len(np.unique(used)) < len(used):
        problem = "an example twice"
    else:
        for index, pile in enumerate(piles):
            if len(pile) < least_size(config) or len(np.unique(labels[pile])) < 2:
                least = least_size(config)
                problem = (
                    f"participant {index} a part of {len(pile)} examples: fewer than {least}, or of one class"
                )
    if problem:
        raise DataError(f"partition.kind = {config.kind!r} gives {problem}: mend it, or choose another kind")


def _training_range(config: PartitionConfig) -> tuple[int, int]:
    """The two counts of train_examples; those of "all" are never looked at."""
    if config.train_examples == "all":
        return 0, 0
    low, high = config.train_examples
    if low < 2:
        raise DataError(
            f"partition.train_examples = [{low}, {high}]: training on 2 classes needs at least 2 examples; "
            "raise the lower number"
        )
    return low, high


def _train_and_test(
    labels: Int64[np.ndarray, "n"],
    pile: Int64[np.ndarray, "size"],
    low: int,
    high: int,
    rng: np.random.Generator,
) -> Part:
    """Training examples in the proportions of the pile, of two classes at least; the rest is for testing."""
    num_train = int(rng.integers(low, min(high, len(pile) - TEST_EXAMPLES_MIN) + 1))
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


def _too_few(
    num_examples: int, num_participants: int, size: int, needed: int, config: PartitionConfig
) -> str:
    start = f"{num_examples} examples are too few for {num_participants} participants: each would get {size}, but "
    if config.train_examples == "all":
        return f"{start}partition.min_examples = {needed}; lower participants.count or partition.min_examples"
    low, high = config.train_examples
    return (
        f"{start}partition.train_examples = [{low}, {high}] and {TEST_EXAMPLES_MIN} for testing need {needed}; "
        "lower participants.count or partition.train_examples"
    )

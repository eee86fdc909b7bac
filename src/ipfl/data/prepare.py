"""What happens to one participant's examples, with nothing known about anybody else's."""

import numpy as np
from jaxtyping import Float32, Float64, Int64

CONSTANT = 1e-12
"""A feature whose standard deviation is below this part of its largest value counts as constant."""
DEVIATIONS_MAX = 1e6


def standardise(
    train: Float64[np.ndarray, "n features"], test: Float64[np.ndarray, "k features"]
) -> tuple[Float32[np.ndarray, "n features"], Float32[np.ndarray, "k features"]]:
    """Each feature minus its mean, by its standard deviation, both taken over the training rows alone.

    Laws: a training feature has mean 0 and standard deviation 1, and does not change when it is shifted or
    scaled beforehand; a feature that is constant in training becomes 0 in both splits; all results are finite
    (values more than a million deviations away are cut there).

    Args:
      train: finite features, any units.
      test: the same features of the rows kept for testing.

    >>> train, test = standardise(np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([[4.0, 8.0]]))
    >>> train.tolist(), test.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0]])
    """
    largest = np.abs(train).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)  # so that squares neither overflow nor vanish
    scaled = train / unit
    mean, deviation = scaled.mean(axis=0), scaled.std(axis=0)
    constant = deviation <= CONSTANT
    divisor = np.where(constant, 1.0, deviation)

    def apply(rows: Float64[np.ndarray, "rows features"]) -> Float32[np.ndarray, "rows features"]:
        with np.errstate(over="ignore"):  # a test value may exceed what a float64 of training units holds
            values = np.clip((rows / unit - mean) / divisor, -DEVIATIONS_MAX, DEVIATIONS_MAX)
        return np.where(constant, 0.0, values).astype(np.float32)

    return apply(train), apply(test)


def stratified_split(
    labels: Int64[np.ndarray, "n"], test_fraction: float, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "train"], Int64[np.ndarray, "test"]]:
    """Rows for training and rows for testing, classes in the same proportions as far as numbers allow.

    Laws: every row is in exactly one of the two; both are non-empty; about test_fraction of the rows test;
    a class of two rows or more keeps one for training; training has two classes if n >= 3 and the rows do.

    Args:
      labels: class of each row; n >= 2.
      test_fraction: in (0, 1).
      rng: decides which rows.

    >>> train, test = stratified_split(np.array([0, 0, 0, 0, 1, 1]), 0.5, np.random.default_rng(0))
    >>> np.bincount(np.array([0, 0, 0, 0, 1, 1])[test]).tolist()
    [2, 1]
    """
    classes, counts = np.unique(labels, return_counts=True)
    most = counts - 1
    if most.sum() == 0:  # every class once: one row of some class can only be tested
        test = rng.permutation(len(labels))[:1]
        return np.setdiff1d(np.arange(len(labels)), test), test
    total = int(np.clip(round(test_fraction * len(labels)), 1, most.sum()))
    exact = total * most / most.sum()
    test_counts = np.floor(exact).astype(np.int64)
    test_counts[np.argsort(test_counts - exact, kind="stable")[: total - test_counts.sum()]] += 1
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(classes, test_counts, strict=True)
    ]
    test = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), test), test

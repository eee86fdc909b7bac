"""The real data sets that come inside scikit-learn: nothing is downloaded."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64


class Source(NamedTuple):
    """A labelled data set before anybody owns any of it; labels count from 0 into class_names.

    `groups` says to whom each example belongs by nature (its writer, its role, its domain: a position in
    `group_names`), where the data set says so. `test` is its published test part, with the same classes.
    """

    x: Float32[np.ndarray, "n ..."]
    y: Int64[np.ndarray, "n"]
    class_names: tuple[str, ...]
    groups: Int64[np.ndarray, "n"] | None = None
    group_names: tuple[str, ...] = ()
    test: "Source | None" = None


def digits() -> Source:
    """1,797 handwritten digits (UCI optical recognition, test part): 1 x 8 x 8 in [-1, 1], 10 classes.

    x = (pixel / 16 - 0.5) / 0.5, pixels count from 0 to 16.

    >>> source = digits()
    >>> source.x.shape, float(source.x.min()), float(source.x.max()), len(source.class_names)
    ((1797, 1, 8, 8), -1.0, 1.0, 10)
    """
    from sklearn.datasets import load_digits  # takes a second: only when asked for

    bunch = load_digits()
    x = (bunch.images[:, None] / 16.0 - 0.5) / 0.5
    return Source(
        x.astype(np.float32), bunch.target.astype(np.int64), tuple(str(digit) for digit in range(10))
    )


def breast_cancer() -> Source:
    """569 tumours (UCI breast cancer Wisconsin, diagnostic): 30 raw features, 2 classes.

    >>> source = breast_cancer()
    >>> source.x.shape, source.class_names, np.bincount(source.y).tolist()
    ((569, 30), ('malignant', 'benign'), [212, 357])
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return Source(
        bunch.data.astype(np.float32),
        bunch.target.astype(np.int64),
        tuple(str(name) for name in bunch.target_names),
    )

"""What every participant's models are judged on, and how much each example counts.

Two protocols are read from three splits. `held_out`: the participant's "validation" examples choose the round, its
"test" examples report on it. `paper` (arXiv 2505.02462, experiments): one "common" test set for all, weighted so
that classes count as in the participant's own training examples.

Where participants have no test examples of their own, all three are the common set: every other example of each
class is for validation, the others for testing, weighted alike. Then one pass over it serves all three.
"""

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ipfl.data.tasks import ParticipantData, Split, Task
from ipfl.seeding import generator

SPLITS = ("validation", "test", "common")
TRIAL, TRIAL_EXAMPLES = "trial", 128
"""The split on which a buyer tries others' models, and how many of its own training examples it takes at most."""
Examples = TypeVar("Examples", bound=Sized)


@dataclass(frozen=True, eq=False)
class Exam(Generic[Examples]):
    """Examples, and the weight of each in the splits that they belong to; None: all count alike.

    Weights are >= 0 and sum to 1.
    """

    examples: Examples
    weights: Mapping[str, Float64[np.ndarray, "n"] | None]


def exams(task: Task, common_examples_max: int, seed: int) -> tuple[tuple[Exam[Split], ...], ...]:
    """Every participant's exams: each split it can be judged on stands in one of them.

    Args:
      task: whose participants.
      common_examples_max: where the common test set is larger, so many of it are drawn; 0: no such split for
        those who have test examples of their own.
      seed: of the run.
    """
    whole = task.common or _together(task)
    common = _drawn(whole, common_examples_max, seed)
    return tuple(_exams(participant, common, whole) for participant in task.participants)


def trial_rows(num_examples: int, seed: int, participant: int) -> Int64[np.ndarray, "n"]:
    """Which of its training examples a participant tries others' models on: the same in every round."""
    random = generator(seed, -1, participant, "selection")
    return np.sort(random.permutation(num_examples)[:TRIAL_EXAMPLES])


def guessing(participant: ParticipantData, seed: int, index: int) -> tuple[float, int]:
    """How often guessing by its own label frequencies is right on a participant's trial examples; and their number."""
    y = participant.train.y[trial_rows(len(participant.train), seed, index)]
    shares = np.bincount(y) / len(y)
    return float((shares**2).sum()), len(y)


def _exams(participant: ParticipantData, common: Split | None, whole: Split) -> tuple[Exam[Split], ...]:
    shares = np.bincount(participant.train.y)
    if participant.test is None:
        examples = common or whole
        later = _second_of_each_pair(examples.y)
        parts = {"validation": ~later, "test": later, "common": np.ones(len(later), dtype=bool)}
        if common is None:
            del parts["common"]
        return (Exam(examples, _weights(shares, examples.y, parts)),)
    own = [Exam(participant.test, {"test": None})]
    if participant.validation is not None:
        own.append(Exam(participant.validation, {"validation": None}))
    if common is not None:
        weights = _weights(shares, common.y, {"common": np.ones(len(common), dtype=bool)})
        own.append(Exam(common, weights))
    return tuple(own)


def _weights(
    shares: Int64[np.ndarray, "classes"],
    labels: Int64[np.ndarray, "n"],
    parts: Mapping[str, Bool[np.ndarray, "n"]],
) -> dict[str, Float64[np.ndarray, "n"] | None]:
    """Per part, weights with which classes count as in `shares`; a part with none of those classes is left out."""
    known = np.zeros(max(int(labels.max()) + 1, len(shares)))
    known[: len(shares)] = shares
    weights: dict[str, Float64[np.ndarray, "n"] | None] = {}
    for name, chosen in parts.items():
        counts = np.bincount(labels[chosen], minlength=len(known))
        per_example = np.where(counts > 0, known / np.maximum(counts, 1), 0.0)
        raw = np.where(chosen, per_example[labels], 0.0)
        if raw.sum() > 0:
            weights[name] = raw / raw.sum()
    return weights


def _second_of_each_pair(labels: Int64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Of the examples of every class, every other one, beginning with the second.

    >>> _second_of_each_pair(np.array([0, 1, 0, 0, 1])).tolist()
    [False, False, True, False, True]
    """
    later = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        later[np.flatnonzero(labels == label)[1::2]] = True
    return later


def _together(task: Task) -> Split:
    tests = [participant.test for participant in task.participants if participant.test is not None]
    return Split(np.concatenate([split.x for split in tests]), np.concatenate([split.y for split in tests]))


def _drawn(split: Split, count: int, seed: int) -> Split | None:
    if count == 0:
        return None
    if len(split) <= count:
        return split
    rows = np.sort(generator(seed, -1, -1, "split").permutation(len(split))[:count])
    return Split(split.x[rows], split.y[rows])

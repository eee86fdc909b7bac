"""What a task is: every participant's own examples, already split, and the shape of the problem."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from ipfl.config import PARTICIPANT_ID_PATTERN
from ipfl.errors import DataError

NUM_PARTICIPANTS_MIN = 2
"""A market needs a buyer and a seller."""


@dataclass(frozen=True, eq=False)
class Split:
    """n examples: inputs of any shape, and class labels from 0. Checked by the participant built from it."""

    x: Float32[np.ndarray, "n ..."]
    y: Int64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class ParticipantData:
    """One participant's own examples. Nobody else ever sees them.

    `train` is what it learns from. `validation` (may be None) chooses its best round, `test` reports on it; no
    test of its own (None) means that it is judged on the task's common test set.

    Raises:
      DataError: an id with forbidden characters, an empty split, inputs that are not finite float32, labels
        that are not int64, or not one per input; the message names participant and field.

    >>> split = Split(np.zeros((2, 3), np.float32), np.array([0, 1]))
    >>> ParticipantData("a b", split, split)
    Traceback (most recent call last):
    ...
    ipfl.errors.DataError: participant id 'a b' must be 1 to 64 of A-Z a-z 0-9 . _ - and not only dots
    """

    participant_id: str
    train: Split
    test: Split | None
    validation: Split | None = None

    def __post_init__(self) -> None:
        check_participant_id(self.participant_id, f"participant id {self.participant_id!r}")
        for field, split in self.splits().items():
            problem = _split_problem(split)
            if problem:
                raise DataError(f"participant {self.participant_id!r}, {field}.{problem}")

    def splits(self) -> dict[str, Split]:
        """The splits it has, by name."""
        named = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: split for name, split in named.items() if split is not None}


@dataclass(frozen=True, eq=False)
class Task:
    """A learning problem shared out among participants: same input shape, same classes.

    `common` is a test set for all, of which every participant's own share of classes decides what counts for it;
    None means the participants' test splits together.

    Raises:
      DataError: fewer than 2 participants or classes, an id that stands twice, inputs of another shape than
        `input_shape`, a label that is none of the classes; the message names the participant.

    >>> split = Split(np.zeros((2, 3), np.float32), np.array([0, 1]))
    >>> pair = tuple(ParticipantData(name, split, split) for name in "ab")
    >>> Task("toy", pair, input_shape=(3,), class_names=("no", "yes")).fingerprint()[:8]
    'b6904e06'
    """

    name: str
    participants: tuple[ParticipantData, ...]
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    common: Split | None = None

    def __post_init__(self) -> None:
        if len(self.participants) < NUM_PARTICIPANTS_MIN:
            raise DataError(
                f"task {self.name!r} has {len(self.participants)} participant(s): "
                f"a market needs at least {NUM_PARTICIPANTS_MIN}, add another one"
            )
        if len(self.class_names) < 2 or len(set(self.class_names)) < len(self.class_names):
            raise DataError(
                f"task {self.name!r}: class_names = {self.class_names} must be at least 2 different names"
            )
        seen: set[str] = set()
        for participant in self.participants:
            if participant.participant_id in seen:
                raise DataError(
                    f"participant id {participant.participant_id!r} stands twice: ids must differ"
                )
            seen.add(participant.participant_id)
            who = f"participant {participant.participant_id!r}"
            if participant.test is None and self.common is None:
                raise DataError(
                    f"{who} has no test examples, and the task no common test set: give one of them"
                )
            self._check_splits(who, participant.splits())
        if self.common is not None:
            problem = _split_problem(self.common)
            if problem:
                raise DataError(f"task {self.name!r}, common.{problem}")
            self._check_splits(f"task {self.name!r}", {"common": self.common})

    def _check_splits(self, who: str, splits: dict[str, Split]) -> None:
        for field, split in splits.items():
            where = f"{who}, {field}"
            if split.x.shape[1:] != self.input_shape:
                raise DataError(
                    f"{where}.x: examples have shape {split.x.shape[1:]}, expected {self.input_shape} "
                    "as for every participant of the task"
                )
            if split.y.min() < 0 or split.y.max() >= len(self.class_names):
                wrong = int(split.y.min()) if split.y.min() < 0 else int(split.y.max())
                raise DataError(
                    f"{where}.y: label {wrong} is no class; expected 0 to {len(self.class_names) - 1}, "
                    f"one for each of the {len(self.class_names)} class names"
                )

    def fingerprint(self) -> str:
        """SHA-256 of all examples, to notice that data changed between a run and its resumption."""
        digest = hashlib.sha256()
        for participant in self.participants:
            digest.update(participant.participant_id.encode())
            for split in participant.splits().values():
                _add(digest, split)
        if self.common is not None:
            _add(digest, self.common)
        return digest.hexdigest()


def _add(digest: Any, split: Split) -> None:
    digest.update(str(split.x.shape).encode())
    digest.update(np.ascontiguousarray(split.x))
    digest.update(np.ascontiguousarray(split.y))


def check_participant_id(participant_id: str, what: str) -> None:
    """Raise `DataError` unless the id is safe as a file name and a cell; `what` begins the message.

    >>> check_participant_id("hospital-1", "file hospital-1.csv")
    """
    if not re.fullmatch(PARTICIPANT_ID_PATTERN, participant_id) or not participant_id.strip("."):
        raise DataError(f"{what} must be 1 to 64 of A-Z a-z 0-9 . _ - and not only dots")


def _split_problem(split: Split) -> str | None:
    """What is wrong with a split, beginning with the field; None when it is sound."""
    if split.x.dtype != np.float32:
        return f"x: expected float32 inputs, got {split.x.dtype}; convert with x.astype(numpy.float32)"
    if split.y.dtype != np.int64 or split.y.ndim != 1:
        return (
            f"y: expected int64 labels of shape (n,), got {split.y.dtype} {split.y.shape}; give class indices"
        )
    if len(split.x) != len(split.y):
        return f"y: {len(split.y)} labels for {len(split.x)} inputs; give one label per input"
    if len(split.y) == 0:
        return "x: no examples; give it some, or leave the participant out"
    if not np.isfinite(split.x).all():
        row = int(np.flatnonzero(~np.isfinite(split.x.reshape(len(split.x), -1)).all(axis=1))[0])
        return f"x: example {row} (counted from 0) holds NaN or infinity; fill or drop such values"
    return None

"""Records of a task check themselves."""

import numpy as np
import pytest

from ipfl.data import ParticipantData, Split, Task
from ipfl.errors import DataError


def split(x=None, y=None):
    return Split(np.zeros((2, 3), np.float32) if x is None else x, np.array([0, 1]) if y is None else y)


def unchecked(x, y):
    """A split as somebody without shape checking could build it."""
    broken = object.__new__(Split)
    object.__setattr__(broken, "x", x)
    object.__setattr__(broken, "y", y)
    return broken


def participant(participant_id="a", **splits):
    return ParticipantData(participant_id, splits.get("train", split()), splits.get("test", split()))


def task(*participants, input_shape=(3,), class_names=("no", "yes")):
    return Task("toy", participants, input_shape, class_names)


def test_length_is_the_number_of_examples():
    assert len(split()) == 2


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "x" * 65, "a\n"])
def test_unsafe_ids_are_refused(name):
    with pytest.raises(DataError, match="must be 1 to 64 of A-Z a-z 0-9"):
        participant(name)


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "x" * 64])
def test_safe_ids_are_taken(name):
    assert participant(name).participant_id == name


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 1]), "train.x: expected float32 inputs, got float64"),
        (np.zeros((2, 3), np.float32), np.array([0.0, 1.0]), "train.y: expected int64 labels"),
        (np.zeros((2, 3), np.float32), np.array([[0], [1]]), "train.y: expected int64 labels"),
        (np.zeros((2, 3), np.float32), np.array([0]), "train.y: 1 labels for 2 inputs"),
        (np.zeros((0, 3), np.float32), np.zeros(0, np.int64), "train.x: no examples"),
        (
            np.array([[0.0], [np.nan]], np.float32),
            np.array([0, 1]),
            "train.x: example 1 .* holds NaN or infinity",
        ),
    ],
)
def test_unusable_splits_are_refused_naming_participant_and_field(x, y, message):
    with pytest.raises(DataError, match=f"participant 'a', {message}"):
        participant(train=unchecked(x, y))


def test_test_split_is_checked_too():
    with pytest.raises(DataError, match=r"participant 'a', test\.x: no examples"):
        participant(test=split(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: task(), "needs at least 2, add another one"),
        (lambda: task(participant()), "1 participant"),
        (lambda: task(participant(), participant()), "id 'a' stands twice"),
        (lambda: task(participant(), participant("b"), class_names=("one",)), "at least 2 different names"),
        (lambda: task(participant(), participant("b"), class_names=("x", "x")), "at least 2 different names"),
        (
            lambda: task(participant(), participant("b"), input_shape=(4,)),
            "participant 'a', train.x.*expected \\(4,\\)",
        ),
        (
            lambda: task(participant(), participant("b", test=split(y=np.array([0, 2])))),
            "participant 'b', test.y: label 2 is no class; expected 0 to 1",
        ),
        (
            lambda: task(participant(), participant("b", train=split(y=np.array([0, -1])))),
            "label -1 is no class",
        ),
    ],
)
def test_tasks_that_no_market_can_use_are_refused(build, message):
    with pytest.raises(DataError, match=message):
        build()


def test_fingerprint_sees_every_value_and_id():
    base = task(participant(), participant("b")).fingerprint()
    assert base == task(participant(), participant("b")).fingerprint()
    assert base != task(participant(), participant("c")).fingerprint()
    assert base != task(participant(), participant("b", test=split(y=np.array([1, 1])))).fingerprint()
    assert (
        base
        != task(participant(), participant("b", train=split(x=np.ones((2, 3), np.float32)))).fingerprint()
    )

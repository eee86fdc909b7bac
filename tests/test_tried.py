"""A law that is tried a number of times is; it is tried in full among the slow tests."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tried import tried

HOW = settings(deadline=None, database=None)


def test_a_law_is_tried_as_often_as_asked() -> None:
    seen = []

    @tried(st.integers(0, 10**9), times=7, in_full=70, how=HOW)
    def law(name: str, number: int) -> None:
        seen.append((name, number))

    law(examples=7, name="a")
    assert [name for name, _ in seen] == ["a"] * 7
    law(examples=70, name="b")
    assert [name for name, _ in seen].count("b") == 70
    (parameters,) = [mark for mark in vars(law)["pytestmark"] if mark.name == "parametrize"]
    few, full = parameters.args[1]
    assert (few.values, few.marks) == ((7,), ())
    assert (full.values, [mark.name for mark in full.marks]) == ((70,), ["slow"])


def test_a_law_that_does_not_hold_fails() -> None:
    @tried(st.integers(0, 9), times=50, in_full=50, how=HOW)
    def law(number: int) -> None:
        assert number < 5

    with pytest.raises(AssertionError):
        law(examples=50)

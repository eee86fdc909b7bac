"""What the checking of types in the whole suite stands on: functions inside functions are checked, at every call."""

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped

from typechecker import check


def halver(unit: type) -> Callable[..., object]:
    @jaxtyped(typechecker=check)
    def halve(amount: unit, factors: Float[np.ndarray, "n"], more: Float[np.ndarray, "n"]) -> float:  # type: ignore
        return "half" if amount == 0 else amount / 2

    return halve


def test_a_function_inside_another_is_checked_each_time_it_is_made() -> None:
    two, three = np.ones(2), np.ones(3)
    for _ in range(2):
        halve = halver(int)
        assert halve(4, two, two) == 2
        with pytest.raises(TypeCheckError, match="amount"):
            halve("four", two, two)
        with pytest.raises(TypeCheckError, match="more"):
            halve(4, two, three)
        with pytest.raises(TypeCheckError, match="return value"):
            halve(0, two, two)


def test_it_is_checked_by_its_own_annotations() -> None:
    two = np.ones(2)
    assert halver(int)(4, two, two) == 2
    with pytest.raises(TypeCheckError, match="amount"):
        halver(str)(4, two, two)


def test_an_int_is_welcome_where_a_float_is() -> None:
    @jaxtyped(typechecker=check)
    def same(amount: float) -> float:
        return amount

    assert same(3) == 3

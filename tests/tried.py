"""Laws that `make test` tries a number of times and `make test-slow` many more."""

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy


def tried(
    *strategies: SearchStrategy[Any], times: int, in_full: int, how: settings
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`given(*strategies)` as two tests: of so many examples, and in full among the slow ones.

    Args:
      strategies: of the law's last arguments; those before them are pytest's.
      times, in_full: the examples of either test.
      how: the other settings of both.
    """

    def decorate(law: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize(
            "examples",
            [pytest.param(times, id="tried"), pytest.param(in_full, id="in-full", marks=pytest.mark.slow)],
        )
        def test(examples: int, **others: Any) -> None:
            settings(how, max_examples=examples)(given(*strategies)(law))(**others)

        names = [*signature(law).parameters][: -len(strategies)]
        arguments = [Parameter(name, Parameter.KEYWORD_ONLY) for name in ("examples", *names)]
        vars(test)["__signature__"] = Signature(arguments)
        test.__name__, test.__qualname__, test.__doc__ = law.__name__, law.__qualname__, law.__doc__
        test.__module__ = law.__module__
        return test

    return decorate

import io

import numpy as np
import pytest
from rich.console import Console

from ipfl.cli import layout


@pytest.mark.parametrize(
    ("amounts", "places"), [([0.0], 3), ([], 3), ([18.1, -2], 2), ([0.388], 4), ([1234.0], 0), ([1e-12], 9)]
)
def test_a_column_of_amounts_shows_about_four_digits(amounts: list[float], places: int) -> None:
    assert layout.decimals(amounts) == places


def test_amounts_and_figures_of_every_size() -> None:
    assert layout.amount(float("nan"), 2).plain == "–"
    assert layout.amount(-0.001, 2).plain == "0.00"
    assert (layout.amount(-1.5, 2).plain, layout.amount(-1.5, 2).style) == ("-1.50", "red")
    assert [layout.figure(value) for value in (90000.0, 0.25, float("nan"), 1e300)] == [
        "90,000",
        "0.25",
        "–",
        "1e+300",
    ]
    assert [layout.short(value) for value in (12345.6, 0.0835921)] == ["12,346", "0.08359"]


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "✗"), ("ascii", "x"), ("no-such-code", "x")])
def test_a_mark_is_one_that_the_terminal_can_show(
    encoding: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(Console, "encoding", property(lambda self: encoding))
    layout.sentence(console, "It failed.", False)
    assert console.file.getvalue().strip() == f"{mark} It failed."


def test_what_is_no_number_is_null_in_json() -> None:
    content = {"a": np.array([1.0, np.nan]), "b": (float("inf"), 2), "c": "x", "d": None}
    assert layout.plain(content) == {"a": [1.0, None], "b": [None, 2], "c": "x", "d": None}

"""How the market commands print: tables that fit the terminal, amounts, sentences with a mark, plain JSON."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDE = 100
NAME_WIDTH = 12
"""Names keep at least so many letters, at the cost of decimals."""
ROWS_SHOWN = 200
"""More rows than this are for --json or --out."""
_MARKS = {True: ("✓", "+", "green"), False: ("✗", "x", "bold red"), None: ("·", "-", "bold")}


def table(names: Sequence[str], left: Sequence[str], *, footer: bool = False) -> Table:
    """An empty table: the columns in `left` hold text, the others figures, which are never cut."""
    empty = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        show_footer=footer,
    )
    for name in names:
        text = name in left
        empty.add_column(
            name,
            justify="left" if text else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if text else len(name),
        )
    return empty


def show(console: Console, title: str, note: str, content: Table) -> None:
    """Print a table under its title, then what it leaves out, and an empty line."""
    left_out, content.caption = content.caption, None
    console.print(Text.assemble((title, "bold"), (f"  {note}" if note else "", "dim")))
    console.print(content)
    if left_out is not None:
        console.print(Text(str(left_out), "dim"))
    console.print()


def widest(console: Console, build: Callable[[bool, int], Table]) -> Table:
    """The fullest table that fits the terminal: `build` is told whether to be wide, and decimals to leave out."""
    for wide, fewer in ((True, 0), (True, 1), (False, 0), (False, 1), (False, 2)):
        if wide and console.width < WIDE:
            continue
        built = build(wide, fewer)
        if _width(console, built) <= console.width:
            return built
    return build(False, 3)


def _width(console: Console, content: Table) -> int:
    """What a table needs if texts may be cut to NAME_WIDTH, and figures may not."""
    texts = [column for column in content.columns if column.justify == "left"]
    for column in texts:
        column.max_width = NAME_WIDTH
    needed = Measurement.get(console, console.options.update_width(10_000), content).maximum
    for column in texts:
        column.max_width = None
    return needed


def decimals(amounts: Any, fewer: int = 0) -> int:
    """Decimals that keep a column of amounts to about four digits, or so many fewer."""
    values = np.abs(np.asarray(amounts, dtype=np.float64)).ravel()
    largest = float(values[np.isfinite(values)].max(initial=0.0))
    if largest == 0:
        return 3
    return max(0, min(9, 3 - math.floor(math.log10(largest)) - fewer))


def amount(value: float, places: int) -> Text:
    """An amount of money: below zero red, zero faint, absent a dash."""
    if math.isnan(value):
        return Text("–", "dim")
    shown = f"{value:,.{places}f}"
    if float(shown.replace(",", "")) == 0:
        return Text(shown.lstrip("-"), "dim")
    return Text(shown, "red" if value < 0 else "")


def figure(value: float) -> str:
    """A number of any size: whole ones with thousands apart, others to six digits."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e12 else f"{value:.6g}"


def short(value: float) -> str:
    """A number of any size in few characters: four digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def sentence(console: Console, text: str, passed: bool | None = None) -> None:
    """One sentence, marked by more than colour."""
    mark, plain, style = _MARKS[passed]
    try:
        mark.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        mark = plain
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_row(Text(mark, style), Text(text))
    console.print(line)


def counted(number: int, what: str) -> str:
    """So many of something, in the plural but for one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def started(text: str) -> str:
    """A sentence with a capital, unless it begins with the name of a file."""
    first = text.partition(" ")[0]
    return text if "/" in first or "." in first else f"{text[:1].upper()}{text[1:]}"


def more(target: Table, left_out: int, where: str) -> None:
    """Have `show` say under a table how many rows it leaves out."""
    if left_out > 0:
        target.caption = f"and {left_out:,} more: see {where}"


def print_json(content: Any) -> None:
    """JSON with null where there is no number."""
    click.echo(json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False))


def plain(value: Any) -> Any:
    """The same in lists, strings and numbers; NaN becomes None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value

"""Results as rows, and rows as CSV, Markdown, LaTeX (booktabs) and a table in the terminal.

A CSV holds plain numbers, accuracy as a share of 1, every digit; what people read is in percent with "±".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ipfl.comparison.statistics import (
    QUANTITIES,
    Estimate,
    Figures,
    best_method,
    by_seed,
    estimates,
    paired,
)
from ipfl.comparison.study import Results
from ipfl.run_folder import csv_lines, write_text

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Row = dict[str, Any]
Form = Literal["text", "count", "share", "percent", "points", "amount", "seconds"]

CSV_COLUMNS = (
    "method",
    "seeds",
    "accuracy",
    "accuracy_ci",
    "accuracy_held_out",
    "utility",
    "utility_ci",
    "better_off",
    "worst_off",
    "seconds",
)
"""The columns of comparison.csv."""


@dataclass(frozen=True)
class Column:
    """A column that people read: where its value stands in a row, its heading, its form.

    `interval` names the key of its half-width, `short` is the heading where there is little room.
    """

    key: str
    heading: str
    form: Form
    interval: str | None = None
    short: str | None = None


METHOD_COLUMNS = (
    Column("method", "method", "text"),
    Column("seeds", "seeds", "count"),
    Column("accuracy", "accuracy (paper)", "percent", "accuracy_ci", "accuracy"),
    Column("accuracy_alone", "alone (paper)", "percent", short="alone"),
    Column("accuracy_held_out", "accuracy (held out)", "percent", "accuracy_held_out_ci", "held out"),
    Column("accuracy_held_out_alone", "alone (held out)", "percent", short="alone h.o."),
    Column("utility", "utility", "amount", "utility_ci"),
    Column("better_off", "better off", "share"),
    Column("worst_off", "worst off", "points"),
    Column("spread", "spread", "points"),
    Column("against_best", "to the best", "points", "against_best_ci"),
    Column("seconds", "seconds", "seconds"),
)
ALONE = ("accuracy_alone", "accuracy_held_out_alone")
LEGEND = (
    "Means over seeds; ± is half of a 95 % Student-t interval. Paper: best round on the common test set, weighted by "
    "each participant's labels. Held out: a participant's own test split, in the round best on its validation split. "
    "Utility: sum over rounds, mean over honest participants. Better off, worst off, spread: held-out accuracy of "
    "honest buyers, the first two against training alone, in points. To the best: accuracy (paper) less that of the "
    "best method, on the same seeds."
)


def method_rows(methods: dict[str, list[Figures]]) -> list[Row]:
    """One row per method, in the order given; see `METHOD_COLUMNS` for what people see of it."""
    best = best_method(methods, QUANTITIES["accuracy"])
    reference = by_seed(methods[best], QUANTITIES["accuracy"]) if best is not None else {}
    rows = []
    for method, runs in methods.items():
        row: Row = {"method": method, "seeds": len(runs)}
        for name, value in estimates(runs).items():
            row |= pair(name, value)
        against = None if method == best else paired(by_seed(runs, QUANTITIES["accuracy"]), reference)
        rows.append(row | pair("against_best", against))
    return rows


def variant_rows(results: Results, heading: str) -> list[Row]:
    """One row per variant and method; the variant stands under `heading`."""
    return [
        {heading: variant} | row
        for variant, methods in results.groups.items()
        for row in method_rows(methods)
    ]


def run_rows(results: Results) -> list[Row]:
    """One row per run, all figures: what the means are made of."""
    return [
        {"variant": run.variant, "method": run.method, "seed": run.seed}
        | {name: quantity(run) for name, quantity in QUANTITIES.items()}
        for run in results.runs
    ]


RUN_COLUMNS = ("variant", "method", "seed", *QUANTITIES)


def write_tables(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    title: str,
    legend: str = LEGEND,
) -> None:
    """Write NAME.md and NAME.tex, each whole or not at all."""
    write_text(folder / f"{name}.md", markdown(rows, columns, title, legend))
    write_text(folder / f"{name}.tex", latex(rows, columns, title, legend))


def csv_text(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Plain numbers; what is not known is empty."""
    chosen = [{key: row.get(key) for key in columns} for row in rows]
    return "\n".join([",".join(columns), *csv_lines(chosen, columns)]) + "\n"


def markdown(rows: Sequence[Row], columns: Sequence[Column], title: str, legend: str = LEGEND) -> str:
    """A table for a README or an issue."""
    shown = used(rows, columns)
    lines = [[_escape_markdown(text) for text in line] for line in cells(rows, shown)]
    head = [_escape_markdown(column.heading) for column in shown]
    rule = ["---" if column.form == "text" else "---:" for column in shown]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
    return f"# {_escape_markdown(title)}\n\n{body}\n\n{_escape_markdown(legend)}\n"


def latex(rows: Sequence[Row], columns: Sequence[Column], title: str, legend: str = LEGEND) -> str:
    """A table for a paper: \\usepackage{booktabs}, then \\input this file."""
    shown = used(rows, columns)
    alignment = "".join("l" if column.form == "text" else "r" for column in shown)
    head = " & ".join(_escape_latex(column.heading) for column in shown)
    body = "\n".join(
        f"    {' & '.join(_escape_latex(text) for text in line)} \\\\" for line in cells(rows, shown)
    )
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{_escape_latex(title)}. {_escape_latex(legend)}}}\n"
        f"  \\begin{{tabular}}{{{alignment}}}\n    \\toprule\n    {head} \\\\\n    \\midrule\n{body}\n"
        "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
    )


def terminal(rows: Sequence[Row], columns: Sequence[Column], title: str, width: int) -> "RichTable":
    """A table that fits the terminal: columns that say least go first, then intervals, then letters of names."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown, left_out = fitting(rows, used(rows, columns), width)
    table = Table(
        title=Text(title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        caption=Text(f"left out here: {', '.join(left_out)}", "dim") if left_out else None,
        caption_justify="left",
    )
    for column in shown:
        text = column.form == "text"
        table.add_column(
            _heading(column),
            justify="left" if text else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=min(8, len(_heading(column))) if text else None,
        )
    for line in cells(rows, shown):
        table.add_row(*(Text(text, "red" if text.startswith("−") else "") for text in line))
    return table


DROPPED_FIRST = ("accuracy_held_out_alone", "accuracy_alone", "spread", "against_best", "seconds", "seeds")


def fitting(rows: Sequence[Row], columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit so many letters, and what has to be left out for it, in words."""
    shown, left_out = list(columns), []
    surpluses = [column.key for column in columns if column.key.endswith("_surplus")]
    for keys in (surpluses, *([key] for key in DROPPED_FIRST)):
        found = [column for column in shown if column.key in keys]
        if found and _width(rows, shown) > width:
            shown = [column for column in shown if column not in found]
            left_out += [column.heading for column in found] if keys is not surpluses else ["surplus"]
    if _width(rows, shown) > width:
        shown = [replace(column, interval=None) for column in shown]
        left_out.append("intervals")
    return shown, left_out


def used(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """The columns that any row has something in; those of training alone only where no row is of it."""
    lone = any(row.get("method") == "local" for row in rows)
    return [
        column
        for column in columns
        if column.form == "text"
        or (any(row.get(column.key) is not None for row in rows) and not (lone and column.key in ALONE))
    ]


def cells(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """What people read, cell by cell."""
    places = [_places(rows, column) for column in columns]
    return [
        [shown(row, column, digits) for column, digits in zip(columns, places, strict=True)] for row in rows
    ]


def shown(row: Row, column: Column, places: int) -> str:
    """One cell for people.

    >>> accuracy = Column("a", "accuracy", "percent", "a_ci")
    >>> shown({"a": 0.9687, "a_ci": 0.0041}, accuracy, 1), shown({"a": None}, accuracy, 1)
    ('96.9 ± 0.4 %', '–')
    >>> shown({"d": -0.0123}, Column("d", "worst off", "points"), 1)
    '−1.2'
    """
    value = row.get(column.key)
    if value is None:
        return "–"
    if column.form == "text":
        return str(value)
    half = row.get(column.interval) if column.interval else None
    scale = 100 if column.form in ("percent", "share", "points") else 1
    unit = " %" if column.form in ("percent", "share") else ""
    interval = "" if half is None else f" ± {number(scale * half, places)}"
    return number(scale * value, places) + interval + unit


def number(value: float, places: int) -> str:
    """A number for people, with a minus sign; huge ones in powers of ten.

    >>> number(-1234.56, 1), number(-0.001, 2), number(-7999999980.6, 1)
    ('−1,234.6', '0.00', '−8.00e9')
    """
    if abs(value) >= 1e7:
        mantissa, power = f"{abs(value):.2e}".split("e")
        text = f"{mantissa}e{int(power)}"
    else:
        text = f"{abs(value):,.{places}f}"
    return f"−{text}" if value < 0 and any(digit in "123456789" for digit in text) else text


def pair(name: str, value: Estimate | None) -> Row:
    """A mean and the half-width of its interval as two entries of a row."""
    if value is None:
        return {name: None, f"{name}_ci": None}
    return {name: value.mean, f"{name}_ci": value.half_width}


def _places(rows: Sequence[Row], column: Column) -> int:
    """Decimals of a column: those of amounts keep the largest to about four digits."""
    fixed = {"text": 0, "count": 0, "share": 0, "percent": 1, "points": 1, "seconds": 1}
    if column.form != "amount":
        return fixed[column.form]
    largest = max((abs(row[column.key]) for row in rows if row.get(column.key) is not None), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 1 else 3


def _heading(column: Column) -> str:
    return column.short or column.heading


def _width(rows: Sequence[Row], columns: Sequence[Column]) -> int:
    lines = [[_heading(column) for column in columns], *cells(rows, columns)]
    return sum(max(len(line[place]) for line in lines) + 2 for place in range(len(columns)))


_MARKDOWN = str.maketrans(
    {"|": "\\|", "\\": "\\\\", "`": "\\`", "*": "\\*", "_": "\\_", "<": "&lt;", "\n": " "}
)
_LATEX = str.maketrans(
    {
        "\\": "\\textbackslash{}",
        "{": "\\{",
        "}": "\\}",
        "$": "\\$",
        "&": "\\&",
        "#": "\\#",
        "_": "\\_",
        "%": "\\%",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "±": "$\\pm$",
        "−": "$-$",
        "–": "--",
        "×": "$\\times$",
        "\n": " ",
    }
)


def _escape_markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


def _escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is.

    >>> _escape_latex("own_data: 96.9 ± 0.4 %")
    'own\\\\_data: 96.9 $\\\\pm$ 0.4 \\\\%'
    """
    return text.translate(_LATEX)

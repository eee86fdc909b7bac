"""The same rows as CSV, Markdown, LaTeX and in the terminal: comparison.csv as promised, and each well formed."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import grids
from ipfl.comparison.outputs import comparison_rows, comparison_table, write_comparison
from ipfl.comparison.tables import (
    METHOD_COLUMNS,
    Column,
    csv_text,
    latex,
    markdown,
    method_rows,
    shown,
    terminal,
    used,
)

HEADER = "method,seeds,accuracy,accuracy_ci,accuracy_held_out,utility,utility_ci,better_off,worst_off,seconds"
NAME = Column("name", "name", "text")


def test_comparison_csv_is_the_contract(results):
    write_comparison(results, "ipfl compare")
    text = (results.folder / "comparison.csv").read_text()
    assert text.splitlines()[0] == HEADER
    ipfl, local = csv.DictReader(io.StringIO(text))
    assert (ipfl["method"], ipfl["seeds"], local["method"]) == ("ipfl", "3", "local")
    wanted = {
        "accuracy": 0.71,
        "accuracy_held_out": 0.61,
        "utility": 3.0,
        "better_off": 0.5,
        "worst_off": -0.1,
        "seconds": 3.0,
    }
    assert {key: float(ipfl[key]) for key in wanted} == pytest.approx(wanted)
    assert float(ipfl["utility_ci"]) == pytest.approx(4.302652729696142 / 3**0.5)
    assert float(ipfl["accuracy_ci"]) == pytest.approx(0.01 * 4.302652729696142 / 3**0.5)
    assert {path.name for path in results.folder.iterdir()} >= {"comparison.md", "comparison.tex", "runs.csv"}
    runs = list(csv.DictReader(io.StringIO((results.folder / "runs.csv").read_text())))
    assert [(row["method"], row["seed"]) for row in runs[:2]] == [("ipfl", "0"), ("local", "0")]


def test_one_seed_has_no_interval(tmp_path):
    results = grids.make_results(tmp_path, grids.make_grid(seeds=(4,)))
    rows = list(csv.DictReader(io.StringIO(csv_text(comparison_rows(results), HEADER.split(",")))))
    assert {row["accuracy_ci"] + row["utility_ci"] for row in rows} == {""}
    assert "±" not in markdown(comparison_rows(results), METHOD_COLUMNS, "t", "")


def test_what_is_not_known_is_empty_or_a_dash(tmp_path):
    results = grids.make_results(tmp_path, protocols=False)
    text = csv_text(comparison_rows(results), HEADER.split(","))
    assert text.splitlines()[1].startswith("ipfl,3,,,,3.0,")
    assert "accuracy (paper)" not in [
        column.heading for column in used(comparison_rows(results), METHOD_COLUMNS)
    ]


def test_differences_to_the_best_are_paired(results):
    best, other = comparison_rows(results)
    assert best["against_best"] is None
    assert other["against_best"] == pytest.approx(-0.05)
    assert other["against_best_ci"] == pytest.approx(0.0, abs=1e-12)
    assert other["accuracy_ci"] > 0.02


def test_rows_stand_in_the_order_asked_for(tmp_path):
    results = grids.make_results(tmp_path, grids.make_grid(methods=("local", "ipfl")))
    assert [row["method"] for row in comparison_rows(results)] == ["local", "ipfl"]


def test_alone_is_a_column_only_where_it_is_no_row(results):
    methods = results.groups["digits"]
    lone = [column.key for column in used(method_rows({"ipfl": methods["ipfl"]}), METHOD_COLUMNS)]
    assert "accuracy_alone" in lone
    assert "accuracy_alone" not in [column.key for column in used(method_rows(methods), METHOD_COLUMNS)]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.text())
def test_markdown_keeps_its_columns_whatever_is_in_them(names, title):
    text = markdown(
        [{"name": name, "value": 1.0} for name in names], (NAME, Column("value", "v|w", "amount")), title, ""
    )
    table = [line for line in text.split("\n") if line.startswith("|")]
    assert len(table) == 2 + len(names)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table} == {3}


SPECIAL = re.compile(r"(?<!\\)[&%$#_{}~^]")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_latex_keeps_its_columns_whatever_is_in_them(names):
    text = latex(
        [{"name": name, "value": -1.0} for name in names], (NAME, Column("value", "v", "amount")), "t", "l"
    )
    body = text.split("\\midrule\n")[1].split("    \\bottomrule")[0]
    lines = body.split("\\\\\n")[:-1]
    assert len(lines) == len(names)
    for line in lines:
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        plain = re.sub(r"\\text[a-z]+\{\}|\$\\?[a-z-]+\$", "", line)
        assert SPECIAL.findall(plain) == ["&"]


def test_latex_is_a_whole_booktabs_table(results):
    text = latex(comparison_rows(results), METHOD_COLUMNS, "50 % of a_b & c", "l")
    for begin, end in (("\\begin{table}", "\\end{table}"), ("\\begin{tabular}", "\\end{tabular}")):
        assert text.count(begin) == text.count(end) == 1
    assert [text.count(rule) for rule in ("\\toprule", "\\midrule", "\\bottomrule")] == [1, 1, 1]
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert "\\caption{50 \\% of a\\_b \\& c. l}" in text
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text).group(1)
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.count(" & ") + 1 for line in rows} == {len(columns)}
    assert "$\\pm$" in text
    assert "$-$" in text
    assert text.isascii()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_terminal_table_fits_and_cuts_no_figure(results, width):
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(results, width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert "…" not in console.file.getvalue()
    assert ("left out here" in console.file.getvalue()) == (width < 160)


def test_surpluses_are_left_out_together():
    row = {"lie": "2 × the cost"} | {f"{rule}{end}": 1.5 for rule in "abcd" for end in ("", "_surplus")}
    columns = [Column("lie", "reports", "text")]
    columns += [
        Column(f"{rule}{end}", f"{rule}{end}", "amount") for end in ("", "_surplus") for rule in "abcd"
    ]
    console = Console(width=60, file=io.StringIO())
    console.print(terminal([row], columns, "t", 60))
    assert console.file.getvalue().count("1.50") == 4
    assert "left out here: surplus" in console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "form", "places", "text"),
    [
        (0.5, "share", 0, "50 %"), (-0.00001, "points", 1, "0.0"), (3, "count", 0, "3"), (12.34, "seconds", 1, "12.3"),
        (-8e9, "amount", 1, "−8.00e9"), (1234.5, "amount", 1, "1,234.5"), ("x", "text", 0, "x"),
    ],
)  # fmt: skip
def test_cells(value, form, places, text):
    assert shown({"key": value}, Column("key", "k", form), places) == text

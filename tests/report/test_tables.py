"""Tables in the terminal and as JSON."""

import io
import json

import pytest
from rich.console import Console

from ipfl.report import render_tables, to_json
from ipfl.report.summary import num_decimals
from ipfl.report.tables import participants_table
from ipfl.run_folder import load_run


def printed(run, width, encoding="utf-8"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict" if encoding == "utf-8" else "replace")
    render_tables(run, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_and_name_everyone(finished_run, width):
    text = printed(load_run(finished_run), width)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    rows = [line for line in lines if line.startswith("clinic-")]
    assert len({line.split()[0] for line in rows[:12]}) == 12
    assert "\x1b" not in text
    assert "…" not in text


def test_amounts_in_the_hundreds_are_not_cut_at_80_columns():
    amounts = {key: 12_345.678 if key == "gain" else 987.654 for key in ("gain", "cost", "paid", "received")}
    row = {"id": "participant-00", "kind": "attacker", "num_examples": 47, "utility": -987.654} | amounts
    console = Console(file=io.StringIO(), width=80)
    for scale in (1, 0.01):
        rows = [row | {key: row[key] * scale for key in (*amounts, "utility")}]
        console.print(
            participants_table([one | {"accuracy": 0.9, "accuracy_alone": 0.8} for one in rows], wide=False)
        )
    last = [
        line.split() for line in console.file.getvalue().splitlines() if line.startswith("participant-00")
    ]
    assert [line[-1] for line in last] == ["-988", "-9.9"]


def test_verdict_is_printed_last(finished_run):
    lines = printed(load_run(finished_run), 120).strip().splitlines()
    assert lines[-5:] == [
        "· The run finished: 6 rounds, " + lines[-5].split(", ")[-1],
        *lines[-4:-3],
        "✓ No honest participant fell below zero utility in any round.",
        *lines[-2:-1],
        "✓ The attacker sold nothing.",
    ]


def test_numbers_are_those_of_the_summary(finished_run):
    run = load_run(finished_run)
    text = printed(run, 120)
    for row in run.summary["participants"]:
        line = next(line for line in text.splitlines() if line.startswith(row["id"]))
        decimals = num_decimals(
            [one[key] for one in run.summary["participants"] for key in ("gain", "utility", "paid")]
        )
        assert f"{row['accuracy']:.1%}" in line
        assert line.split()[-1] == f"{row['utility']:.{decimals}f}"


def test_plain_ascii_terminals_get_plain_marks(finished_run):
    text = printed(load_run(finished_run), 80, encoding="ascii")
    assert "+ No honest participant" in text


def test_long_ids_are_cut_at_80_columns_only(make_run, tmp_path):
    run = load_run(
        make_run(tmp_path / "run", rounds=1, prefix="a-hospital-with-a-very-long-name-in-the-north-")
    )
    assert max(len(line) for line in printed(run, 80).splitlines()) <= 80


def test_a_run_without_rounds_prints(make_run, tmp_path):
    assert "0 of 3 rounds" in printed(load_run(make_run(tmp_path / "run", rounds=0, planned=3)), 80)


def test_json_is_complete_and_plain(finished_run):
    run = load_run(finished_run)
    content = json.loads(json.dumps(to_json(run), allow_nan=False))
    assert [row["id"] for row in content["participants"]] == run.participant_ids
    assert content["verdict"]["balanced"] is True
    assert len(content["verdict"]["sentences"]) == 5
    last = [edge["payment"] for edge in run.edges if edge["round_index"] == 5]
    assert [trade["payment"] for trade in content["trades"]] == last


@pytest.mark.parametrize(("largest", "expected"), [(0, 3), (9.9, 3), (10, 2), (1000, 1), (10_000, 0)])
def test_decimals_keep_about_five_digits(largest, expected):
    assert num_decimals([0.0, -largest]) == expected

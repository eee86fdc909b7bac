"""`ipfl compare` and `ipfl reproduce`: what they run, print and leave behind, and how every bad input ends."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe

import pytest

from ipfl.cli.main import entry
from ipfl.comparison import pool
from ipfl.comparison.grid import Grid, Variant, claim
from ipfl.comparison.pool import Progress
from ipfl.comparison.worker import attempt
from ipfl.run_folder import load_run

COLUMNS = (
    "method,seeds,accuracy,accuracy_ci,accuracy_held_out,utility,utility_ci,better_off,worst_off,seconds"
)
QUICK = [
    "--set", "rounds=4", "--set", "training.steps=2", "--set", "market.rule=paper", "--set", "engine.block=1",
    "--workers", "1",
]  # fmt: skip


def rows_of(path):
    """A comparison.csv without its seconds."""
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


class Here(pool._Worker):
    """A worker of the pool without a process of its own: what it is given is done at once."""

    def __init__(self, cell):
        self.pipe, self._end = Pipe()
        self.give(cell)

    def give(self, cell):
        self.cell = cell
        self._end.send(attempt(cell.config.to_toml(), cell.folder, self._tell))

    def _tell(self, rounds):
        self._end.send(("round", rounds))

    def end(self):
        self.pipe.close()
        self._end.close()


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(pool, "_Worker", Here)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two methods on two seeds, run once by the real command; look at it, do not touch it."""
    out = tmp_path_factory.mktemp("compare") / "out"
    arguments = ["compare", "hospitals", "--methods", "ipfl,local", "--seeds", "0-1", *QUICK]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_Worker", Here)
        patch.setattr(sys, "argv", ["ipfl", *arguments, "--out", str(out), "--quiet"])
        entry()
    return out, arguments


def test_it_leaves_a_table_a_page_and_every_run(compared):
    out, _ = compared
    assert (out / "comparison.csv").read_text().splitlines()[0] == COLUMNS
    ipfl, local = rows_of(out / "comparison.csv")
    assert (ipfl["method"], ipfl["seeds"], local["method"], local["better_off"]) == (
        "ipfl",
        "2",
        "local",
        "0.0",
    )
    runs = [load_run(out / "runs" / "hospitals" / "ipfl" / f"seed-{seed}") for seed in (0, 1)]
    accuracies = [run.summary["protocols"]["paper"]["mean_accuracy"] for run in runs]
    assert [run.config.seed for run in runs] == [0, 1]
    if None not in accuracies:
        assert float(ipfl["accuracy"]) == pytest.approx(sum(accuracies) / 2)
    utilities = [run.summary["mean_utility"] for run in runs]
    assert float(ipfl["utility"]) == pytest.approx(sum(utilities) / 2)
    assert {path.name for path in out.iterdir()} == {
        "comparison.csv", "comparison.md", "comparison.tex", "comparison.html", "comparison.json",
        "finished.json", "runs.csv", "runs",
    }  # fmt: skip


@pytest.mark.usefixtures("here")
def test_the_same_command_keeps_what_is_there_and_more_may_be_asked_for(ipfl_command, compared, tmp_path):
    out, arguments = compared
    before = (out / "comparison.csv").read_bytes()
    first = (out / "runs/hospitals/ipfl/seed-0/summary.json").stat().st_mtime_ns
    done = ipfl_command(*arguments, "--out", out)
    assert done.code == 0
    assert done.err.splitlines()[0] == f"4 runs into {out}"
    assert [line.rpartition(": ")[2].split(";")[0] for line in done.err.splitlines()[1:]] == ["kept"] * 4
    assert "hospitals: 2 methods, 2 seeds" in done.out
    assert done.out.splitlines()[-1] == f"Page    {out / 'comparison.html'}"
    assert (out / "comparison.csv").read_bytes() == before
    assert (out / "runs/hospitals/ipfl/seed-0/summary.json").stat().st_mtime_ns == first
    less = [*arguments[:3], "local", "--seeds", "1", *QUICK]
    done = ipfl_command(*less, "--out", out, "--json")
    assert [row["method"] for row in json.loads(done.out)["methods"]] == ["local"]
    ipfl_command(*arguments, "--out", out, "--quiet")
    assert (out / "comparison.csv").read_bytes() == before


@pytest.mark.usefixtures("here")
def test_a_failed_run_costs_itself_alone(ipfl_command, tmp_path):
    settings = tuple(setting for setting in QUICK[:-2] if setting != "--set")
    claim(
        Grid("compare", "hospitals", settings, (Variant("hospitals"),), ("local",), (0, 1)),
        tmp_path / "out",
        False,
    )
    mine = tmp_path / "out" / "runs" / "hospitals" / "local" / "seed-1" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("three years")
    arguments = ["--methods", "local", "--seeds", "0-1", *QUICK, "--out", "out", "--json"]
    done = ipfl_command("compare", "hospitals", *arguments)
    assert done.code == 1
    assert "failed: hospitals, local, seed 1: --force replaces run folders only" in done.err
    assert "1 of 2 runs failed; the same command tries them again" in done.err
    content = json.loads(done.out)
    assert [failed["seed"] for failed in content["failed"]] == [1]
    assert [row["seeds"] for row in content["methods"]] == [1]
    assert mine.read_text() == "three years"


def test_another_comparison_is_refused(ipfl_command, compared):
    out, arguments = compared
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    done = ipfl_command(*arguments, "--set", "rounds=3", "--out", out)
    assert done.code == 2
    assert "holds another comparison" in done.err
    assert "--force" in done.err
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "fedavgg"], "did you mean 'fedavg'"),
        (["--seeds", "x"], "expected seeds and ranges"),
        (["--set", "roundz=3"], "did you mean 'rounds'"),
        (["--workers", "-1"], "--workers"),
        (["nosuch"], "there is no preset or file 'nosuch'"),
        (["hospitals", "--methods", "fedfomo,local", "--set", "participants.count=3"], "method fedfomo: "),
    ],
)
def test_bad_usage_ends_before_anything_is_there(ipfl_command, tmp_path, arguments, message):
    done = ipfl_command("compare", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "comparisons").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig9"], "fig2"),
        (["table2", "--factor", "0.5"], "numbers above 1"),
        (["table2", "--factor", "x"], "numbers above 1"),
        (["table2", "--methods", "local"], "only the method ipfl"),
        (["fig2", "--task", "digitz"], "did you mean 'digits'"),
        (["fig4", "--attacks", "steal", "--seeds", "0"], "unknown conduct 'steal'"),
    ],
)
def test_bad_usage_of_reproduce(ipfl_command, tmp_path, arguments, message):
    done = ipfl_command("reproduce", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "comparisons").exists()


def test_reproduce_without_matplotlib_runs_nothing(ipfl_command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = ipfl_command("reproduce", "fig2")
    assert done.code == 2
    assert "pip install 'ipfl[plot]'" in done.err
    assert not (tmp_path / "comparisons").exists()


@pytest.mark.usefixtures("here")
def test_reproduce_draws_its_figure(ipfl_command, tmp_path):
    small = ["--partition", "cluster", "--methods", "ipfl,local", "--seeds", "0", "--workers", "1"]
    small += ["--set", "rounds=1", "--set", "training.steps=1", "--set", "participants.count=3"]
    small += ["--set", "engine.block=1"]
    done = ipfl_command("reproduce", "fig2", *small)
    assert done.code == 0, done.err
    folder = tmp_path / "comparisons" / "basic-cluster"
    assert "Accuracy of every method on digits" in done.out
    drawn = {f"fig2.{ending}" for ending in ("csv", "md", "tex", "pdf", "png", "html")}
    kept = {"comparison.json", "finished.json", "runs", "runs.csv"}
    assert {path.name for path in folder.iterdir()} == drawn | kept


def test_ctrl_c_says_how_to_go_on(ipfl_command, monkeypatch, tables):
    from ipfl.comparison import study

    def interrupted(cells, workers, watch, kept):
        watch(Progress(cells[0], 2, "run", 1, 4, 2, 8, 3.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_all", interrupted)
    done = ipfl_command(
        "compare", "--data", tables, "--methods", "local,ipfl", "--seeds", "0-1", "--force", "--out", "o"
    )
    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        "interrupted; 1 of 4 runs and every finished round are on disk: go on with "
        f"`ipfl compare --data {tables} --methods local,ipfl --seeds 0-1 --out o`"
    )


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_as_if_nothing_had_been(ipfl_command, here, compared, tmp_path):
    """SIGKILL of the parent once a run is done and another has begun; its children end with it."""
    out, arguments = compared
    start = [sys.executable, "-c", "from ipfl.cli.main import entry; entry()", *arguments, "--out", "cut"]
    quick = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        start, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quick
    )
    runs, deadline = tmp_path / "cut" / "runs" / "hospitals", time.monotonic() + 120

    def wait_until(reached):
        while not reached():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)

    wait_until(lambda: list(runs.glob("*/*")))
    children = children_of(process.pid)  # asked for beforehand: there are a few tenths of a second
    wait_until(lambda: list(runs.glob("*/*/summary.json")) and len(list(runs.glob("*/*/config.toml"))) > 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert children
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(list(runs.glob("*/*/summary.json"))) < 4, "it was done before it was killed"
    again = ipfl_command(*arguments, "--out", "cut")
    assert again.code == 0, again.err
    assert ": kept" in again.err
    assert rows_of(tmp_path / "cut" / "comparison.csv") == rows_of(out / "comparison.csv")


def children_of(pid):
    """Every process whose parent is `pid`."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(child) for child in listed.stdout.split()]


def alive(pid):
    """Whether a process is there and no zombie."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() not in ("", "Z", "Zs")

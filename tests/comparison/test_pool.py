"""The pool: nothing that happens to one run happens to another. Its workers here train nothing."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest

import fakework
import grids
from ipfl.comparison import pool
from ipfl.comparison.pool import run_all


def cells_of(tmp_path, *whats):
    """One run for each thing that shall happen to it."""
    cell = grids.make_grid(methods=("local",), seeds=(0,)).cells(tmp_path)[0]
    return [
        replace(cell, seed=seed, method=what, folder=tmp_path / what / f"seed-{seed}")
        for seed, what in enumerate(whats)
    ]


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(pool, "work", fakework.work)


def test_what_fails_or_dies_costs_nobody_else(tmp_path):
    cells = cells_of(tmp_path, "good", "dies", "good", "fails", "exits", "good", "good")
    told = []
    failures = {failure.cell.method: failure.reason for failure in run_all(cells, 2, told.append)}
    assert set(failures) == {"dies", "fails", "exits"}
    assert failures["fails"] == "no luck"
    assert "killed by SIGKILL; it may have run out of memory" in failures["dies"]
    assert "ended with code 3" in failures["exits"]
    ended = {progress.cell.seed: progress.ended for progress in told if progress.ended}
    assert [ended[seed] for seed in range(7)] == ["run", "failed", "run", "failed", "failed", "run", "run"]


def test_progress_counts_every_round_and_ends_at_all_of_them(tmp_path):
    told = []
    run_all(cells_of(tmp_path, "good", "good", "fails"), 1, told.append)
    assert [progress.runs_done for progress in told if progress.ended] == [1, 2, 3]
    assert all(a.rounds_done <= b.rounds_done for a, b in pairwise(told))
    assert (told[-1].rounds_done, told[-1].rounds_total, told[-1].runs) == (6, 6, 3)


def test_an_interruption_ends_every_process(tmp_path, monkeypatch):
    made = []

    class Seen(pool._Worker):
        def __init__(self, cell):
            super().__init__(cell)
            made.append(self)

    monkeypatch.setattr(pool, "_Worker", Seen)

    def interrupt(progress):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(cells_of(tmp_path, "sleeps", "sleeps"), 2, interrupt)
    assert time.monotonic() - started < 30
    assert len(made) == 2
    assert not any(worker.process.is_alive() for worker in made)


def test_time_left_is_judged_at_each_methods_own_pace(tmp_path, monkeypatch):
    clock = iter([10.0, 12.0, 20.0, 21.0])
    monkeypatch.setattr(pool, "monotonic", lambda: next(clock))
    told = []
    slow, quick = cells_of(tmp_path, "slow", "quick")
    pace = pool._Pace([slow, quick], 1, told.append)
    pace._totals = dict.fromkeys(pace._totals, 10)
    pace.round_done(slow, 1)
    assert told[-1].left_s is None
    pace.round_done(slow, 2)  # 2 s a round
    assert told[-1].left_s == pytest.approx(18 * 2.0)
    pace.round_done(quick, 1)
    pace.round_done(quick, 2)  # 1 s a round
    assert told[-1].left_s == pytest.approx(8 * 2.0 + 8 * 1.0)

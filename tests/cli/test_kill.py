"""kill -9 at ten random moments, `--resume` after each: the same summary.json and rounds.jsonl, times aside."""

import os
import random
import subprocess
import sys
import time

import pytest

import tiny

KILLS = 10
ROUNDS = 80
COMMAND = [sys.executable, "-c", "from ipfl.cli.main import entry; entry()", "run"]


def ipfl_run(folder, *arguments):
    """A process of its own that runs or resumes."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--quiet"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_ten_times_it_ends_as_if_nothing_had_been(tmp_path):
    seed = 0
    tiny.write_tables(tmp_path / "tables", m=6, count=60)
    settings = ["--data", "tables", "--set", f"rounds={ROUNDS}", "--set", "training.steps=60", "--seed", seed]
    whole = ipfl_run(tmp_path, *settings, "--out", "whole")
    assert whole.communicate(timeout=300)[1] == ""
    assert whole.returncode == 0

    chance = random.Random(seed)
    out = tmp_path / "out"
    kills, rounds_seen = 0, set()
    while kills < KILLS:
        begun = (out / "config.toml").exists()
        arguments = ("--resume", "out") if begun else (*settings, "--out", "out", "--force")
        process = ipfl_run(tmp_path, *arguments)
        if kills % 3 == 0:  # at any moment: while it imports, makes its folder, reads its checkpoint, trains
            time.sleep(chance.uniform(0, 5))
        else:  # soon after it wrote a round
            before, deadline = written(out), time.monotonic() + 120
            while written(out) == before and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.3))
        if process.poll() is not None:
            assert process.returncode == 0, process.stderr.read()
            break
        process.kill()
        process.communicate()
        kills += 1
        rounds_seen.add(written(out))
    last = ipfl_run(tmp_path, "--resume", "out")
    assert last.communicate(timeout=300)[1] == ""
    assert last.returncode == 0
    assert kills == KILLS, f"it was done after {kills} kills: give it more rounds"
    assert len(rounds_seen) > KILLS / 3
    assert tiny.contents(out) == tiny.contents(tmp_path / "whole")
    assert (out / "report.html").exists()


def written(out):
    """The size of rounds.jsonl; -1 before there is one."""
    path = out / "rounds.jsonl"
    return path.stat().st_size if path.exists() else -1

"""A run that is killed, wherever and whenever, ends with the ledger, the models and the tables of one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import crashes

EVERY_POINT = ("--pairs", "100")


def figures(*arguments):
    """What the script finds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, crashes.__file__, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(crashes.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--every", "61", "--pairs", "2"), id="some"),
        pytest.param(EVERY_POINT, id="every-point", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_killed_at_a_point_it_comes_to_the_same(arguments):
    found = figures(*arguments)
    assert found["wrong"] == []
    assert found["points"] > 300
    assert found["kinds"] > 15
    assert found["kills"] >= found["trials"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_times_it_comes_to_the_same():
    found = figures("--random", "100", "--rounds", "12")
    assert found["wrong"] == []
    assert found["kills"] >= 100

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from ipfl.bench import processes
from ipfl.cli.bench_output import finish, memory_of, seconds
from ipfl.cli.bench_round import render
from ipfl.cli.main import main

LIMITS = {name: {"1": 40.0, "all": 80.0} for name in ("numpy_gflops", "torch_gflops", "copy_gb_per_s")}
MACHINE = {
    "cpu": "a processor",
    "cores": 2,
    "load_average": 0.5,
    "python": "3.11",
    "numpy": "2.4",
    "torch": None,
}


def test_the_group_names_its_commands() -> None:
    done = CliRunner().invoke(main, ["bench", "--help"])
    assert done.exit_code == 0
    for name in ("market", "round", "memory", "scale", "limits"):
        assert f"  {name} " in done.output


def test_limits_are_printed_as_sentences_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "in_child", lambda *_: LIMITS)
    done = CliRunner().invoke(main, ["bench", "limits"])
    assert done.exit_code == 0, done.output
    assert "Copying memory: 40.0 GB/s on one core, 80.0 on all." in " ".join(done.stdout.split())
    quiet = CliRunner().invoke(main, ["bench", "limits", "--json", "--quiet"])
    assert json.loads(quiet.stdout)["limits"] == LIMITS
    assert quiet.stderr == ""


@pytest.mark.parametrize("width", [80, 140])
def test_a_round_fits_the_terminal_and_says_more_on_a_wide_one(width: int) -> None:
    median = {"total": 1.5, "train": 1.0, "evaluate": 0.25, "market": 0.25, "images_evaluated": 10_000}
    system: dict[str, Any] = {
        "median": median, "start_up_s": 3.0, "warm_up": {"total": 25.5}, "peak_bytes": 2_000_000_000
    }  # fmt: skip
    settings = {"participants": 10, "source": "made-up", "model": "mlp", "steps": 20, "batch_size": 64}
    entry = {
        "name": "cifar",
        "settings": settings,
        "systems": [
            system | {"system": "ipfl", "method": "ipfl"},
            system | {"system": "flower_sim", "method": "fedavg"},
            system
            | {
                "system": "research_loop (one core)",
                "method": "ipfl",
                "median": median | {"images_evaluated": 0},
            },
        ],
    }
    profile = {
        "workload": "cifar",
        "method": "ipfl",
        "seconds": {"training": 1.0},
        "training_shares": {"linear": 1.0},
    }
    target = {"name": "a promise", "value": 1.0, "bound": 2.0, "at_least": True, "met": False}
    console = Console(width=width)
    with console.capture() as capture:
        render(
            {
                "workloads": [entry], "profiles": [profile], "limits": LIMITS, "machine": MACHINE, "rounds": 5,
                "date": "2026-01-01T00:00:00+00:00", "targets": [target],
            },
            console,
        )  # fmt: skip
    shown = capture.get()
    assert max(map(len, shown.splitlines())) <= width
    assert ("25.5" in shown) is (width > 100)
    assert ("10,000" in shown) is (width > 100)
    rows = [line.split() for line in shown.splitlines() if "1.500" in line]
    assert [row[0] for row in rows] == ["ipfl", "ipfl", "fedavg"]  # systems of a method stand together
    assert "a promise: 1, target at least 2." in " ".join(shown.split())


def test_a_missed_target_is_exit_code_1() -> None:
    with pytest.raises(click.exceptions.Exit) as left:
        finish({"targets": [{"met": True}, {"met": False}]}, lambda *_: None, None, False)
    assert left.value.exit_code == 1
    finish({"targets": [{"met": True}]}, lambda *_: None, None, False)


def test_amounts_are_short() -> None:
    assert [seconds(value) for value in (0.01234, 1.23456, 12.345)] == ["0.0123", "1.235", "12.3"]
    assert [memory_of(value) for value in (1_500_000, 2_340_000_000)] == ["2 MB", "2.34 GB"]

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ipfl.bench import federation, memory, scale
from ipfl.cli.main import main
from ipfl.errors import ConfigError

MACHINE = {"cpu": "a processor", "cores": 2, "load_average": 0.0, "python": "3.11"}


def fake_rounds(participants: int, each: float, settings: dict[str, Any]) -> dict[str, Any]:
    parts = dict.fromkeys(("total", "train", "market", "evaluate"), each * participants)
    return {
        "participants": participants, "num_params": 4810, "settings": settings, "median": parts, "trades": 7,
        "seconds_per_participant": each, "data_bytes": 1_000_000_000, "peak_bytes": 2_500_000_000,
    }  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What children were started for; each participant takes 1 ms up to 100, twice as long beyond."""
    calls: list[list[str]] = []

    def child(module: str, arguments: list[str], what: str) -> dict[str, Any]:
        calls.append(arguments)
        given = json.loads(arguments[-1])
        if arguments[0] == "market":
            return {
                "participants": given["m"], "candidates": given["candidates"], "pairs": 9, "median_s": 0.5,
                "trades": 3, "peak_bytes": 10**8,
            }  # fmt: skip
        m = given["participants"]
        return fake_rounds(m, 0.001 if m <= 100 else 0.002, given)

    monkeypatch.setattr(scale, "in_child", child)
    monkeypatch.setattr(memory, "in_child", child)
    monkeypatch.setattr(federation.Settings, "market", lambda settings: None)
    return calls


def test_sizes_are_measured_from_small_to_large(asked: list[list[str]]) -> None:
    done = CliRunner().invoke(
        main, ["bench", "scale", "--sizes", "100,10", "--market-sizes", "1000", "--json"]
    )
    assert done.exit_code == 0, done.output
    settings = [json.loads(arguments[-1]) for arguments in asked]
    assert [entry.get("participants", entry.get("m")) for entry in settings] == [10, 100, 1000]
    assert [entry["candidates"] for entry in settings] == [0, 20, 20]  # ten have no twenty candidates
    result = json.loads(done.stdout)
    assert result["targets"] == []
    assert [entry["participants"] for entry in result["rounds"]] == [10, 100]


def test_growth_is_judged_where_both_sizes_were_measured(asked: list[list[str]]) -> None:
    done = CliRunner().invoke(main, ["bench", "scale", "--sizes", "100,10000", "--market-sizes", "1000"])
    assert done.exit_code == 1  # twice as long is more than 1.5 times
    output = " ".join(done.stdout.split())
    assert "times those at m = 100: 2, target at most 1.5" in output
    assert "10,000" in output
    assert "1.50 GB" in output
    shorter = CliRunner().invoke(
        main, ["bench", "scale", "--sizes", "100,10000", "--market-sizes", "9", "--steps", "1", "--quiet"]
    )
    assert shorter.exit_code == 0
    assert shorter.stderr == ""


@pytest.mark.parametrize(("peak", "met"), [(3.0, True), (3.1, False)])
def test_memory_is_judged_beyond_the_data(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, peak: float, met: bool
) -> None:
    settings = {"model": "simple_cnn"}
    found = fake_rounds(1000, 0.001, settings) | {"peak_bytes": int(peak * 1e9), "num_params": 62_006}
    monkeypatch.setattr(memory, "in_child", lambda *_: found)
    done = CliRunner().invoke(main, ["bench", "memory"])
    assert done.exit_code == (0 if met else 1)
    output = " ".join(done.stdout.split())
    assert "all models together are 248 MB" in output
    assert "two rounds of 1,000 participants" in done.stderr


def test_memory_of_fewer_promises_nothing(asked: list[list[str]]) -> None:
    done = CliRunner().invoke(main, ["bench", "memory", "--participants", "3", "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["targets"], result["beyond_bytes"]) == ([], 1_500_000_000)
    assert json.loads(asked[0][0])["model"] == "simple_cnn"


def test_settings_reach_the_child_as_they_are() -> None:
    settings = memory.memory_settings(5, 1, 3)
    assert memory.parse_settings(json.dumps(vars(settings))) == settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scale", "--sizes", "1"], "size 1 is too small"),
        (["scale", "--market-sizes", "0"], "size 0 is too small"),
        (["scale", "--steps", "0"], "steps = 0, expected at least 0 and 1"),
        (["memory", "--participants", "1"], "participants = 1, expected at least 2"),
        (["memory", "--steps", "0"], "steps = 0, expected at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert CliRunner().invoke(main, ["bench", "scale", "--sizes", "many"]).exit_code == 2


def test_a_sparse_market_offers_every_buyer_a_few_others() -> None:
    distance = scale.sparse_market(50, 5, seed=1)
    assert distance.shape == (50, 50)
    assert distance.diagonal().max() == 0
    counts = np.diff(distance.indptr)
    assert counts.max() <= 5
    assert counts.mean() > 4
    assert (distance.data >= 0.1).all()
    assert scale.sparse_market(3, 5, seed=1).nnz <= 6


def test_a_market_alone_is_cleared() -> None:
    found = scale.measure_market(40, 5, 0)
    assert (found["participants"], len(found["seconds"])) == (40, 5)
    assert found["trades"] > 0
    assert found["median_s"] == np.median(found["seconds"])
    assert found["peak_bytes"] >= found["inputs_bytes"] > 1e6

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ipfl.bench import peers, workloads
from ipfl.bench import round as bench_round
from ipfl.bench.round_targets import round_targets
from ipfl.bench.targets import target
from ipfl.cli.main import main
from ipfl.errors import ConfigError, EngineError

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"
LIMITS = {
    "numpy_gflops": {"1": 50.0, "all": 100.0},
    "torch_gflops": {"1": 50.0, "all": 100.0},
    "copy_gb_per_s": {"1": 10.0, "all": 20.0},
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two steps of three participants on the digits, beside the peers that need nothing more."""
    out = tmp_path_factory.mktemp("round") / "results" / "round.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_round, "in_child", lambda module, arguments, what: LIMITS)
        done = CliRunner().invoke(
            main,
            [
                "bench", "round", "--workloads", "digits-9", "--participants", "3", "--steps", "2",
                "--rounds", "1", "--no-profile", "--peers", "plain_torch",
                "--peers-folder", str(FOLDER), "--out", str(out),
            ],
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "digits-9: round 1 of 1" in done.stderr
    for said in ("plain_torch", "this package", "50.0 GF/s on one core, 100.0 on all"):
        assert said in " ".join(done.stdout.split())
    result: dict[str, Any] = json.loads(out.read_text())
    return result


@pytest.mark.slow
def test_every_system_does_the_same_work(measured: dict[str, Any]) -> None:
    (digits,) = measured["workloads"]
    assert [system["system"] for system in digits["systems"]] == ["ipfl", "fedavg", "plain_torch"]
    evaluated = {"ipfl": 3 * 360, "fedavg": 360, "plain_torch": 360}
    for system in digits["systems"]:
        assert system["median"]["steps"] == 3 * 2
        assert system["median"]["images_evaluated"] == evaluated[system["system"]]
        assert 0 < system["median"]["accuracy"] < 1
        assert len(system["rounds"]) == 1
        assert system["peak_bytes"] > 1e7
    plain = digits["systems"][2]
    assert (plain["median"]["images_trained"], plain["threads"]) == (3 * 2 * 64, 1)


@pytest.mark.slow
def test_figures_come_with_machine_settings_and_seed(measured: dict[str, Any]) -> None:
    assert {"cpu", "cores", "python", "numpy", "torch"} <= measured["machine"].keys()
    settings = measured["workloads"][0]["settings"]
    assert (settings["batch_size"], settings["steps"], settings["seed"]) == (64, 2, 0)
    assert measured["targets"] == []  # a changed workload keeps no promise
    assert measured["limits"] == LIMITS
    assert (measured["rounds"], measured["profiles"]) == (1, [])


def test_parts_and_one_core_are_for_those_who_run_the_method(tmp_path: Path) -> None:
    commands = {name: [sys.executable, f"{name}.py"] for name in peers.PEERS}
    digits, big = workloads.WORKLOADS["digits-9"], workloads.WORKLOADS["market-1000"]
    only_fedavg = bench_round.systems_for(digits, tmp_path, ["fedavg"], commands, 5)
    assert [system.name for system in only_fedavg] == ["fedavg", "plain_torch", "flower_sim", "pfl_sim"]
    threads = {system.name: "--threads" in system.command for system in only_fedavg}
    assert threads == {"fedavg": False, "plain_torch": True, "flower_sim": False, "pfl_sim": True}
    both = bench_round.systems_for(digits, tmp_path, ["ipfl"], commands, 5)
    names = ["ipfl", "research_loop", "ipfl (one core)", "research_loop (one core)"]
    assert [system.name for system in both] == names
    assert [" ".join(system.command).count("--no-evaluation") for system in both] == [0, 0, 1, 1]
    pictures = bench_round.systems_for(workloads.WORKLOADS["cifar"], tmp_path, ["fedavg"], commands, 5)
    assert not any("--threads" in system.command for system in pictures)
    assert [system.name for system in bench_round.systems_for(big, tmp_path, ["ipfl"], commands, 5)] == [
        "ipfl"
    ]
    assert bench_round.systems_for(big, tmp_path, ["fedavg"], commands, 5) == []


def test_a_system_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    broken = bench_round.System("broken", "ipfl", (sys.executable, "-c", "raise SystemExit('no luck')"))
    with pytest.raises(EngineError, match="measuring broken on toys failed: no luck"):
        bench_round.take_turns([broken], "toys", 1)


def test_profiles_are_made_of_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def child(module: str, arguments: list[str], what: str) -> dict[str, Any]:
        asked.append((module, *arguments[1:]))
        shares = {"linear": 0.75, "data": 0.25}
        seconds = {"training": 3.0, "evaluation": 1.0}
        return {
            **LIMITS,
            "workload": "digits-9",
            "method": "ipfl",
            "seconds": seconds,
            "training_shares": shares,
        }

    monkeypatch.setattr(bench_round, "in_child", child)
    monkeypatch.setattr(bench_round, "take_turns", lambda *_: [])
    done = CliRunner().invoke(
        main,
        ["bench", "round", "--workloads", "digits-9,market-200", "--methods", "ipfl", "--participants", "3"],
    )
    assert done.exit_code == 0, done.output
    assert asked == [("ipfl.bench.limits",), ("ipfl.bench.profile", "ipfl")]
    output = " ".join(done.stdout.split())
    assert "training 75.0%" in output
    assert "linear 56.2%" in output


# ---------------------------------------------------------------- targets


def system(name: str, method: str, **median: float) -> dict[str, Any]:
    return {"system": name, "method": method, "median": median, "gram_flops": 3e11}


def test_promises_are_judged_where_they_were_measured() -> None:
    cifar = [
        system("ipfl", "ipfl", total=10.0, train=8.0),
        system("research_loop", "ipfl", total=30.0, train=24.0),
        system("ipfl (one core)", "ipfl", total=16.0, train=16.0),
        system("research_loop (one core)", "ipfl", total=20.0, train=20.0),
        system("fedavg", "fedavg", total=9.0, train=8.0),
        system("plain_torch", "fedavg", total=9.5, train=9.0),
        system("pfl_sim", "fedavg", total=12.0, train=9.0),
    ]
    markets = [
        {"name": "market-200", "systems": [
            system("ipfl", "ipfl", market=0.1), system("research_loop", "ipfl", market=25.0)]},
        {"name": "market-1000", "systems": [system("ipfl", "ipfl", market=6.0, distances=4.0)]},
    ]  # fmt: skip
    found = round_targets([{"name": "cifar", "systems": cifar}, *markets], LIMITS)
    assert [(entry["value"], entry["met"]) for entry in found] == [
        (3.0, True),
        (1.25, False),
        (pytest.approx(9.5 / 9), True),
        (250.0, True),
        (6.0, False),
        (0.75, True),
    ]
    assert "the best of 2 peers (plain_torch)" in found[2]["name"]


def test_no_promise_is_judged_without_what_it_is_compared_with() -> None:
    alone = [system("ipfl", "ipfl", total=1.0, market=1.0), system("fedavg", "fedavg", total=1.0)]
    assert round_targets([{"name": "digits-100", "systems": alone}], LIMITS) == []
    assert round_targets([{"name": "market-200", "systems": alone[:1]}], LIMITS) == []


def test_a_bound_itself_is_met() -> None:
    assert target("x", 2.0, 2.0)["met"]
    assert target("x", 2.0, 2.0, at_least=True)["met"]
    assert not target("x", 2.1, 2.0)["met"]


# ---------------------------------------------------------------- what cannot be measured


def test_peers_are_found_or_it_is_said_what_to_do(tmp_path: Path) -> None:
    found = peers.find_peers(["plain_torch"], FOLDER, None)
    assert found == {"plain_torch": [sys.executable, str(FOLDER / "plain_torch.py")]}
    with pytest.raises(ConfigError, match="unknown peer 'fate'; known: research_loop, plain_torch"):
        peers.find_peers(["fate"], FOLDER, None)
    with pytest.raises(ConfigError, match="say where the peers are with --peers-folder"):
        peers.find_peers(["plain_torch"], tmp_path, None)
    with pytest.raises(ConfigError, match=r"flower_sim needs flwr, and there is no interpreter .*: make one"):
        peers.find_peers(["flower_sim"], FOLDER, tmp_path / "python")
    lacking = tmp_path / "python"
    lacking.write_text("#!/bin/sh\nexit 1\n")
    lacking.chmod(0o755)
    with pytest.raises(ConfigError, match=r"pfl_sim needs pfl, which .* does not have"):
        peers.find_peers(["pfl_sim"], FOLDER, lacking)
    lacking.write_text("#!/bin/sh\nexit 0\n")
    assert peers.find_peers(["pfl_sim"], FOLDER, lacking)["pfl_sim"][0] == str(lacking)


def test_an_interpreter_that_has_the_framework_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "pfl_sim", peers.Peer("pfl_sim", "fedavg", "numpy"))
    assert peers.find_peers(["pfl_sim"], FOLDER, None)["pfl_sim"][0] == sys.executable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workloads", "mnist"], "unknown workload 'mnist'"),
        (["--methods", "ditto"], "unknown method 'ditto'; this measures ipfl and fedavg"),
        (["--rounds", "0"], "rounds = 0, expected at least 1"),
        (["--steps", "0"], "steps = 0, expected at least 1"),
        (["--peers", "fate"], "unknown peer 'fate'"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_measured(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["bench", "round", *arguments])
    assert done.exit_code != 0
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert done.stderr == ""

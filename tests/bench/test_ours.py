import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ipfl.bench import federation, limits, market_step, ours, profile, workloads
from ipfl.bench.federation import Settings
from ipfl.engines import Engine
from ipfl.errors import ConfigError, EngineError
from ipfl.types import EvaluateReply, MissingReply

TINY = dataclasses.replace(workloads.WORKLOADS["digits-9"], participants=3, steps=2)
WORKERS = {"workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ours") / "digits"
    workloads.write(TINY, place)
    return place


@pytest.mark.parametrize(("method", "images"), [("ipfl", 3 * 360), ("fedavg", 360)])
def test_a_round_says_what_it_did(folder: Path, method: str, images: int) -> None:
    found = ours.measure(folder, method, 2, WORKERS, evaluate=True, paced=False)
    median = found["median"]
    assert (median["steps"], median["images_evaluated"]) == (6, images)
    assert 0 < median["accuracy"] <= 1
    assert len(found["rounds"]) == 2
    assert found["num_params"] == 4810
    for entry in (found["warm_up"], *found["rounds"]):
        parts = sum(entry[part] for part in ("train", "evaluate", "market"))
        assert parts == pytest.approx(entry["total"], rel=0.5)
        assert parts <= entry["total"]


def test_training_alone_evaluates_nothing(folder: Path) -> None:
    found = ours.measure(folder, "ipfl", 1, WORKERS, evaluate=False, paced=False)
    assert "images_evaluated" not in found["median"]
    assert "evaluate" not in found["median"]


def test_an_evaluation_that_did_not_come_back_is_an_error() -> None:
    reply = EvaluateReply(0, np.array([[0.5]]), np.array([[0.25]]))
    assert ours.accuracy_of([reply], 10) == 0.25
    with pytest.raises(EngineError, match="1 of 2 evaluations came back"):
        ours.accuracy_of([reply, MissingReply(1, "gone")], 10)


def test_the_timed_engine_is_an_engine(folder: Path) -> None:
    timed = ours.TimedEngine(ours.build_engine(TINY, folder, "ipfl", WORKERS))
    assert isinstance(timed, Engine)
    assert timed.num_examples.tolist() == [160, 160, 160]
    assert timed.run([]) == []
    assert timed.taken() > (0.0, 0.0)
    assert timed.taken() == (0.0, 0.0)


def test_the_market_step_is_measured_in_parts(tmp_path: Path) -> None:
    workload = dataclasses.replace(workloads.WORKLOADS["market-200"], participants=12)
    workloads.write(workload, tmp_path)
    found = market_step.measure(tmp_path, 2, paced=False)
    median = found["median"]
    parts = sum(median[part] for part in ("distances", "graph", "proxies"))
    assert 0 < parts <= 1.5 * median["market"]
    assert found["gram_flops"] == 2 * 12 * 12 * 62_006
    assert median["trades"] > 0


def test_shares_of_a_round_add_up_to_one(folder: Path) -> None:
    found = profile.profile_round(folder, "ipfl")
    assert list(found["seconds"]) == ["training", "evaluation", "distances", "graph", "proxies"]
    shares = found["training_shares"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert {profile.BETWEEN, "linear"} <= shares.keys()
    assert list(profile.profile_round(folder, "fedavg")["seconds"]) == ["training", "evaluation"]


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "linear"),
        ("aten::max_pool2d_with_indices_backward", "pooling"),
        ("aten::index_select", "data"),
        ("aten::_log_softmax_backward_data", "activation and loss"),
        ("aten::threshold_backward", "activation and loss"),
        ("aten::add_", "optimiser"),
        ("aten::to", "copies"),
        ("aten::copy_", "copies"),
        ("aten::view", profile.REST),
        ("aten::detach", profile.REST),
    ],
)
def test_operators_are_told_apart(operator: str, kind: str) -> None:
    assert profile.kind_of(operator) == kind


def test_limits_are_positive_on_one_core_and_on_all() -> None:
    found = limits.limits(side=64, copy_bytes=2**16, tries=1)
    for name in ("numpy_gflops", "torch_gflops", "copy_gb_per_s"):
        assert found[name].keys() == {"1", "all"}
        assert min(found[name].values()) > 0
    assert {"internal_api", "architecture"} <= found["blas"][0].keys()


def test_a_federation_is_trained_judged_and_settled() -> None:
    found = federation.measure_rounds(Settings(3, steps=1, workers=1))
    assert (found["participants"], found["num_params"]) == (3, 4810)
    assert [len(seconds) for seconds in found["seconds"].values()] == [2, 2, 2, 2]
    assert found["seconds_per_participant"] == found["median"]["total"] / 3
    assert found["peak_bytes"] >= found["data_bytes"] > 1e6


def test_participants_of_a_federation_have_images_of_their_own() -> None:
    task = federation.make_task(Settings(3, train_images=4, test_images=2))
    assert [(len(part.train), len(part.test or ())) for part in task.participants] == [(4, 2)] * 3
    first = {part.train.x[0].tobytes() for part in task.participants}
    assert len(first) == 3


def test_a_market_is_asked_only_for_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    market = Settings(3, rule="lean").market()
    assert (market.rule, market.lam, market.eta) == ("lean", 2.0, 5.0)
    monkeypatch.setattr(federation, "MarketConfig", type("Plain", (), {"model_fields": {"lam": 0, "eta": 0}}))
    with pytest.raises(
        ConfigError, match=r"market\.candidates: this version of the market has no such setting"
    ):
        Settings(3, distance="sketch", candidates=2).market()

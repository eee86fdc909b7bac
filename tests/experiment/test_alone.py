"""The yardstick is trained once for runs that differ in method or market only, and changes no result."""

import numpy as np
import pytest

import ipfl
import tiny
from ipfl.engines import InProcessEngine
from ipfl.experiment import alone
from ipfl.types import TrainJob


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(alone, "_kept", alone.OrderedDict())


@pytest.fixture
def trained(monkeypatch):
    """How many participants were trained, round by round of the engine."""
    counts = []
    original = InProcessEngine.run

    def counting(self, jobs, progress=None):
        counts.append(sum(isinstance(job, TrainJob) for job in jobs))
        return original(self, jobs, progress)

    monkeypatch.setattr(InProcessEngine, "run", counting)
    return counts


def config(**changes):
    return tiny.config(**changes)


def test_a_second_method_trains_only_itself_and_the_folder_is_the_same(tmp_path, trained):
    task = tiny.task()
    ipfl.run(config(method="fedavg"), task=task, out=tmp_path / "first")
    first = sum(trained)
    trained.clear()
    with_yardstick = ipfl.run(config(), task=task, out=tmp_path / "second")
    assert (first, sum(trained)) == (2 * 3 * 5, 3 * 5)
    alone._kept.clear()
    by_itself = ipfl.run(config(), task=task, out=tmp_path / "third")
    assert tiny.contents(with_yardstick.path) == tiny.contents(by_itself.path)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"training": {"steps": 4, "batch_size": 8, "lr": 0.05}}, {"model": "cnn"}]
)
def test_what_training_alone_depends_on_is_in_the_key(tmp_path, trained, change):
    task = tiny.task()
    ipfl.run(config(), task=task, out=tmp_path / "first")
    trained.clear()
    if change == {
        "model": "cnn"
    }:  # vectors: no other named model fits, so a module of one's own, which has no key
        import torch

        ipfl.run(config(), task=task, model=lambda: torch.nn.Linear(3, 2), out=tmp_path / "second")
    else:
        ipfl.run(config(**change), task=task, out=tmp_path / "second")
    assert sum(trained) == 2 * 3 * 5


def test_other_data_and_free_riders_are_other_yardsticks(tmp_path, trained):
    ipfl.run(config(), task=tiny.task(), out=tmp_path / "first")
    trained.clear()
    ipfl.run(config(), task=tiny.task(seed=1), out=tmp_path / "second")
    assert sum(trained) == 2 * 3 * 5
    trained.clear()
    rows = tiny.rows()
    rows[-1]["conduct"] = "free_ride"
    ipfl.run(config(participants=rows), task=tiny.task(), out=tmp_path / "third")
    assert sum(trained) == 2 * 3 * 5


def test_more_rounds_go_on_where_the_yardstick_ends(tmp_path, trained):
    task = tiny.task()
    ipfl.run(config(), task=task, out=tmp_path / "first")
    trained.clear()
    ipfl.run(config(rounds=5), task=task, out=tmp_path / "second")
    assert sum(trained) == 5 * 5 + 2 * 5


def test_room_is_made_for_the_latest(tmp_path, monkeypatch, trained):
    task = tiny.task()
    ipfl.run(config(), task=task, out=tmp_path / "first")
    one = sum(map(alone._bytes, alone._kept.values()))
    monkeypatch.setattr(alone, "BYTES_MAX", int(1.5 * one))
    ipfl.run(config(seed=1), task=task, out=tmp_path / "second")
    assert len(alone._kept) == 1
    trained.clear()
    ipfl.run(config(seed=1, method="fedavg"), task=task, out=tmp_path / "third")
    assert sum(trained) == 3 * 5
    monkeypatch.setattr(alone, "BYTES_MAX", one // 2)
    alone._kept.clear()
    run = ipfl.run(config(seed=2), task=task, out=tmp_path / "fourth")
    assert run.finished
    assert not alone._kept
    assert np.isfinite(run.summary["mean_accuracy_alone"])

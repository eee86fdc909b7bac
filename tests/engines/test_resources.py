"""What an engine may use is decided, or refused, before anything is trained."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from ipfl.config import EngineConfig, TrainingConfig
from ipfl.engines import InProcessEngine, resources
from ipfl.engines.model_check import Traits, check_model
from ipfl.engines.resources import available_bytes, decide
from ipfl.errors import ConfigError, EngineError
from ipfl.learning import model_factory
from ipfl.types import TrainJob

SMALL = Traits(
    params=np.zeros(1000, np.float32),
    buffers=np.zeros(0, np.float32),
    draws=False,
    mixes=False,
    recurs=False,
    convolves=False,
    interleave=False,
    example_bytes=500,
)


def decided(traits=SMALL, m=100, batch_size=64, num_examples=1000, **asked):
    return decide(EngineConfig(**asked), traits, m, batch_size, num_examples)


def like(**changes):
    return dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("traits", "block"),
    [
        (SMALL, 32),
        (like(convolves=True), 1),
        (like(recurs=True), 1),
        (like(mixes=True), 1),
        (like(draws=True), 1),
        (like(params=np.zeros(100_001, np.float32)), 1),
    ],
)
def test_the_block_is_chosen_by_the_model(traits, block):
    assert decided(traits).block == block
    assert decided(traits, m=3).block == min(block, 3)


def test_what_is_asked_for_is_had_up_to_the_number_of_participants():
    assert decided(block=7, workers=5) == resources.Resources(torch.device("cpu"), 5, 7)
    assert decided(block=700).block == 100
    assert decided(like(convolves=True), block=4).block == 4
    assert decided(block=1).block == 1


def test_a_block_or_workers_that_cannot_be_had_are_refused():
    with pytest.raises(ConfigError, match=r"^engine.block = 2 cannot be had: .* set engine.block = 1, or 0"):
        decided(like(draws=True), block=2)
    with pytest.raises(
        ConfigError, match=r"^engine.workers = 2 cannot be had: .* set engine.workers = 1, or 0"
    ):
        decided(like(draws=True), workers=2)
    assert decided(like(draws=True)).workers == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_refused(device):
    message = (
        rf'^engine.device = "{device}" cannot be had: torch .* finds no CUDA device here; set .* = "cpu"$'
    )
    with pytest.raises(ConfigError, match=message):
        InProcessEngine(tiny.task(), model_factory("mlp", (3,), 2), TrainingConfig(), 0, device=device)


def test_a_budget_that_is_too_small_names_the_need_and_what_to_lower():
    with pytest.raises(EngineError) as refusal:
        decided(m=100_000, memory_gb=1.0)
    workers = decided().workers
    working = workers * 32 * (3 * 500 * 65 + 3 * 4000)
    assert str(refusal.value) == (
        f"training 100000 participants of 1,000 parameters needs about {3.2 + working / 1e9:.2f} GB, "
        f"{working / 1e6:.1f} MB of it for steps of 32 x {workers} (block x workers) in batches of 64, but the budget "
        "(engine.memory_gb) is 1.00 GB: lower engine.block, engine.workers or training.batch_size, take a smaller "
        "model or fewer participants, or raise engine.memory_gb"
    )
    assert decided(m=100_000, memory_gb=4.0).block == 32


def test_what_is_free_bounds_what_is_used(monkeypatch):
    monkeypatch.setattr(resources, "available_bytes", lambda: 1e6)
    with pytest.raises(EngineError, match=r"what is free on this machine is 1\.0 MB"):
        decided(memory_gb=4.0)
    with pytest.raises(EngineError, match="needs about"):
        InProcessEngine(tiny.task(), lambda: nn.Linear(3, 100_000), TrainingConfig(), 0)


def test_there_is_memory_on_this_machine():
    assert 1e6 < available_bytes() < 1e15


def test_less_is_known_where_there_is_neither_proc_nor_a_control_group(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "Path", lambda name: tmp_path / name.lstrip("/"))
    assert available_bytes() == float("inf")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("3000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("1000\n")
    assert available_bytes() == 2000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert available_bytes() == float("inf")


class LooksAtValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x) if x.sum().item() > 0 else self.layer(-x)


def test_a_model_that_cannot_be_stacked_is_trained_one_after_another_unless_that_was_ruled_out():
    engine = InProcessEngine(tiny.task(), LooksAtValues, TrainingConfig(steps=2), 0)
    assert engine.block == 1
    params, buffers = engine.initial()
    assert len(engine.run([TrainJob(i, 0, params, buffers) for i in range(5)])) == 5
    with pytest.raises(
        ConfigError, match=r"^engine.block = 3 cannot be had: .*; set engine.block = 1$"
    ) as refusal:
        InProcessEngine(tiny.task(), LooksAtValues, TrainingConfig(steps=2), 0, block=3)
    assert "\n" not in str(refusal.value)


def test_running_out_of_memory_says_what_to_lower(monkeypatch):
    engine = InProcessEngine(
        tiny.task(), model_factory("mlp", (3,), 2), TrainingConfig(steps=2), 0, workers=1
    )

    def full(*arguments):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("ipfl.engines.training.train_stack", full)
    monkeypatch.setattr("ipfl.engines.training.train", full)
    params, buffers = engine.initial()
    with pytest.raises(
        EngineError, match=r"^participant a: training in round 0 ran out of memory with engine\.block = 5"
    ):
        engine.run([TrainJob(i, 0, params, buffers) for i in range(5)])


# ---------------------------------------------------------------- what a model turns out to be


class Reshapes(nn.Module):
    """Calls `view` on the images: needs them in the usual order of memory."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 2)

    def forward(self, x):
        return self.layer(x.view(len(x), -1))


def traits_of(factory, shape=(3,), classes=2):
    return check_model(factory, tiny.task() if shape == (3,) else images(shape, classes), 0)


def images(shape, classes):
    from ipfl.data import ParticipantData, Split, Task

    random = np.random.default_rng(0)

    def split(n):
        return Split(random.normal(size=(n, *shape)).astype(np.float32), np.arange(n) % classes)

    people = tuple(ParticipantData(name, split(4), split(2)) for name in "abc")
    return Task("images", people, shape, tuple(map(str, range(classes))))


def test_traits_of_models():
    plain = traits_of(lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)))
    assert not any((plain.draws, plain.mixes, plain.recurs, plain.convolves, plain.interleave))
    assert traits_of(lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))).draws
    assert traits_of(lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))).mixes
    image = traits_of(model_factory("cnn", (3, 8, 8), 2), (3, 8, 8))
    assert (image.convolves, image.interleave, image.mixes) == (True, True, False)
    assert not traits_of(Reshapes, (3, 8, 8)).interleave
    assert not traits_of(model_factory("cnn", (1, 8, 8), 2), (1, 8, 8)).interleave


def test_what_an_example_leaves_in_memory_grows_with_the_model():
    small, large = (
        traits_of(lambda units=units: nn.Sequential(nn.Linear(3, units), nn.ReLU(), nn.Linear(units, 2)))
        for units in (8, 800)
    )
    assert 8 * 4 <= small.example_bytes < large.example_bytes
    assert large.example_bytes >= 800 * 4

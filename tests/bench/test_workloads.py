import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ipfl.bench import workloads
from ipfl.errors import ConfigError
from ipfl.learning import model_factory

TINY_PICTURES = dataclasses.replace(
    workloads.WORKLOADS["cifar"], participants=3, train_images=300, test_images=60, steps=2
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workload") / "cifar"
    workloads.write(TINY_PICTURES, folder)
    return folder


def test_a_workload_is_read_as_it_was_written(pictures: Path) -> None:
    assert workloads.read(pictures) == TINY_PICTURES
    assert json.loads((pictures / "workload.json").read_text())["kind"] == "training"


def test_every_training_image_belongs_to_one_participant(pictures: Path) -> None:
    order, offsets = workloads.read_array(pictures, "order"), workloads.read_array(pictures, "offsets")
    assert sorted(order.tolist()) == list(range(300))
    assert offsets.tolist() == sorted(offsets.tolist())
    assert (offsets[0], offsets[-1], len(offsets)) == (0, 300, 4)


def test_the_task_holds_the_normalised_pixels_of_the_folder(pictures: Path) -> None:
    task = workloads.make_task(TINY_PICTURES, pictures, personal=True)
    rows = workloads.read_array(pictures, "order")[: len(task.participants[0].train)]
    pixels = workloads.read_array(pictures, "images")[rows].astype(np.float64)
    np.testing.assert_allclose(
        task.participants[0].train.x, (pixels / 255 - 128 / 255) / (40 / 255), atol=1e-5
    )
    assert task.common is not None
    assert len(task.common) == 60
    assert all(participant.test is None for participant in task.participants)


def test_a_common_model_is_judged_once_on_every_test_image(pictures: Path) -> None:
    many = dataclasses.replace(TINY_PICTURES, test_images=2000)
    assert workloads.num_judges(TINY_PICTURES) == 1
    assert workloads.num_judges(many) == 2
    task = workloads.make_task(many, pictures, personal=False)
    parts = [participant.test for participant in task.participants[:2]]
    assert task.common is None
    assert sum(len(part) for part in parts if part is not None) == 60


def test_digits_are_full_batches_of_the_1437(tmp_path: Path) -> None:
    workload = dataclasses.replace(workloads.WORKLOADS["digits-9"], participants=3)
    workloads.write(workload, tmp_path)
    offsets, order = workloads.read_array(tmp_path, "offsets"), workloads.read_array(tmp_path, "order")
    assert np.diff(offsets).tolist() == [160, 160, 160]
    assert all(len(set(order[start : start + 160].tolist())) == 160 for start in offsets[:-1])
    images = workloads.read_array(tmp_path, "images")
    assert (images.shape, images.dtype, images.max()) == ((1437, 1, 8, 8), np.uint8, 16)
    assert len(workloads.read_array(tmp_path, "test_labels")) == 360
    assert workloads.read_array(tmp_path, "theta_0").shape == (4810,)
    factory = model_factory(workload.model, workload.shape, workload.classes)
    assert sum(parameter.numel() for parameter in factory().parameters()) == 4810


def test_a_market_has_models_in_clusters(tmp_path: Path) -> None:
    workload = dataclasses.replace(workloads.WORKLOADS["market-200"], participants=12)
    workloads.write(workload, tmp_path)
    updates = workloads.read_array(tmp_path, "params") - workloads.read_array(tmp_path, "theta_0")
    cosines = np.corrcoef(updates)
    assert updates.shape == (12, 62_006)
    assert cosines[0, 10] == pytest.approx(0.8, abs=0.02)  # ten clusters
    assert cosines[0, 1] == pytest.approx(0.0, abs=0.02)


def test_workloads_are_the_same_for_the_same_seed(tmp_path: Path, pictures: Path) -> None:
    workloads.write(TINY_PICTURES, tmp_path / "again")
    workloads.write(workloads.changed(TINY_PICTURES, seed=1), tmp_path / "other")
    for name in ("images", "order", "theta_0"):
        first, again = (workloads.read_array(place, name) for place in (pictures, tmp_path / "again"))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, workloads.read_array(tmp_path / "other", name))


def test_a_workload_can_be_made_smaller() -> None:
    smaller = workloads.changed(workloads.WORKLOADS["cifar"], 3, steps=1, participants=2, train_images=100)
    assert (smaller.steps, smaller.participants, smaller.seed) == (1, 2, 3)
    assert (smaller.train_images, smaller.test_images) == (100, 20)
    assert workloads.changed(workloads.WORKLOADS["digits-9"], train_images=100).train_images == 0
    assert workloads.changed(workloads.WORKLOADS["cifar"]) == workloads.WORKLOADS["cifar"]


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown workload 'mnist'; known: cifar, digits-9"):
        workloads.choose("cifar,mnist")
    with pytest.raises(ConfigError, match="participants = 1, expected at least 2"):
        workloads.changed(workloads.WORKLOADS["cifar"], participants=1)
    with pytest.raises(ConfigError, match="test_images is 0"):
        workloads.write(dataclasses.replace(TINY_PICTURES, test_images=0), tmp_path)
    assert [entry.name for entry in workloads.choose(None)] == list(workloads.WORKLOADS)

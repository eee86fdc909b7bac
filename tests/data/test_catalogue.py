"""The catalogue of tasks: every entry is complete, and its settings are checked."""

import numpy as np
import pytest

import published_files
from ipfl.config import Config, PartitionConfig
from ipfl.data import find_task, load_task, model_of_task
from ipfl.data.catalogue import CATALOGUE, TASKS
from ipfl.data.published.files import Inspection
from ipfl.errors import ConfigError, DataError
from ipfl.learning import MODELS
from ipfl.presets import load_config, preset_names


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def written(root, name):
    if name in published_files.WRITERS:
        published_files.WRITERS[name](root / name)
    return find_task(name)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_task_gives_what_its_entry_says(root, name):
    entry = written(root, name)
    source = entry.source(Config(task=name))
    assert entry.name == name
    assert TASKS[name] == entry.description
    assert entry.model is None or entry.model in MODELS
    assert (entry.groups is None) == (source.groups is None)
    assert len(source.y) == len(source.x)
    assert source.x.dtype == np.float32
    if source.groups is not None:
        assert source.groups.min() == 0
        assert source.groups.max() < len(source.group_names)
    if source.test is not None:
        assert source.test.class_names == source.class_names
        assert source.test.x.shape[1:] == source.x.shape[1:]


@pytest.mark.parametrize("name", sorted(published_files.WRITERS))
def test_every_published_task_can_be_inspected_and_its_absence_is_said(root, name):
    entry = find_task(name)
    inspection = entry.published.inspect(entry.folder())
    assert isinstance(inspection, Inspection)
    assert not inspection.complete
    assert str(root / name) in inspection.lacking[0]
    with pytest.raises(DataError, match=f"task {name}: its files are not in {root / name}; "):
        entry.source(Config(task=name))


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_task_of_every_name_has_a_preset(name):
    by_task = {
        load_config(preset).task: load_config(preset) for preset in preset_names() if preset != "paper"
    }
    config = by_task[name]
    assert config.model == "auto"
    assert config.participants.count == find_task(name).num_participants


def test_models_of_tasks():
    assert model_of_task(Config(task="pacs")) == "resnet20"
    assert model_of_task(Config(task="digits")) is None
    assert model_of_task(Config(task="cifar10", data="folder")) is None
    assert model_of_task(Config(task="of somebody's own")) is None


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            "digits",
            {"side": 8},
            "unknown key 'task_settings.side' of task digits; it has no settings: take it out",
        ),
        ("pacs", {"sides": 8}, "unknown key 'task_settings.sides' of task pacs; did you mean 'side'?"),
        ("pacs", {"x": 8}, "unknown key 'task_settings.x' of task pacs; known keys here: side"),
        ("pacs", {"side": 4}, "task_settings.side = 4: input should be greater than or equal to 8"),
        ("pacs", {"side": "64"}, "task_settings.side = '64': input should be a valid integer"),
        (
            "synthetic",
            {"shape": [1, 0]},
            "task_settings.shape.1 = 0: input should be greater than or equal to 1",
        ),
        ("synthetic", {"shape": []}, "task_settings.shape = []: tuple should have at least 1 item"),
        ("synthetic", {"difficulty": float("nan")}, "task_settings.difficulty = nan: input should be"),
        (
            "synthetic",
            {"shape": [4096, 4096]},
            "task_settings: 67,108,864,000 numbers are more than 2,000,000,000",
        ),
    ],
)
def test_settings_that_a_task_does_not_have_or_take_are_refused(task, settings, message):
    with pytest.raises(ConfigError) as error:
        load_task(Config(task=task, task_settings=settings))
    assert str(error.value).startswith(message)


def test_settings_change_the_data_and_survive_the_configurations_own_text(root):
    config = Config.from_mapping(
        {
            "task": "synthetic",
            "task_settings": {"shape": [2, 5, 4], "classes": 3, "examples": 900, "difficulty": 0.5},
            "participants": {"count": 3},
        }
    )
    task = load_task(config)
    assert (task.input_shape, len(task.class_names)) == ((2, 5, 4), 3)
    again = Config.from_toml(config.to_toml())
    assert again == config
    assert load_task(again).fingerprint() == task.fingerprint()
    assert load_task(config.model_copy(update={"seed": 1})).fingerprint() != task.fingerprint()
    published_files.pacs(root / "pacs")
    small = Config(task="pacs", task_settings={"side": 12}, partition=PartitionConfig(train_examples=(2, 4)))
    assert find_task("pacs").source(small).x.shape[1:] == (3, 12, 12)


def test_a_published_test_part_is_the_common_test_set(root):
    published_files.cifar10_python(root / "cifar10", per_batch=60)
    whole = PartitionConfig(kind="iid", train_examples="all")
    task = load_task(Config(task="cifar10", partition=whole))
    assert sum(len(participant.train) for participant in task.participants) == 300
    assert len(task.common) == 60


@pytest.mark.parametrize(
    ("name", "kind"), [("femnist", "natural"), ("shakespeare", "natural"), ("pacs", "domain")]
)
def test_participants_are_the_datas_own_groups(root, name, kind):
    source = written(root, name).source(Config(task=name))
    config = Config.from_mapping(
        {
            "task": name,
            "participants": {"count": 4},
            "partition": {"kind": kind, "train_examples": "all", "min_examples": 5},
        }
    )
    rows = {row.tobytes(): group for row, group in zip(source.x, source.groups, strict=True)}
    for participant in load_task(config).participants:
        assert len({rows[row.tobytes()] for row in participant.train.x}) == 1

"""From configurations to tasks."""

from importlib.resources import files

import numpy as np
import pytest

from ipfl.config import Config, EvaluationConfig, ParticipantConfig, ParticipantsConfig, PartitionConfig
from ipfl.data import load_task, participant_ids
from ipfl.data.sources import breast_cancer, digits
from ipfl.errors import ConfigError, DataError


def rows(*ids):
    return ParticipantsConfig(
        rows=tuple(ParticipantConfig(id=name, valuation=1.0, export_cost=1.0) for name in ids)
    )


def write_pair(folder, names=("a", "b")):
    for name in names:
        (folder / f"{name}.csv").write_text("x,label\n" + "".join(f"{i},{i % 2}\n" for i in range(10)))
    return str(folder)


def test_digits_shares_real_images_out_without_repeating_one():
    task = load_task(Config())
    source = digits()
    seen = {image.tobytes() for image in source.x}
    given = [image.tobytes() for p in task.participants for part in (p.train, p.test) for image in part.x]
    assert set(given) <= seen
    assert len(given) == len(set(given))
    assert all(25 <= len(participant.train) <= 50 for participant in task.participants)


@pytest.mark.parametrize("seeds", [6, pytest.param(40, id="in-full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["digits", "hospitals"])
def test_presets_are_valid_and_their_tasks_load_for_many_seeds(name, seeds):
    text = (files("ipfl.presets") / f"{name}.toml").read_text(encoding="utf-8")
    config = Config.from_toml(text, name)
    assert config.task == name
    fingerprints = set()
    for seed in range(seeds):
        task = load_task(config.model_copy(update={"seed": seed}))
        assert len(task.participants) == config.participants.count
        fingerprints.add(task.fingerprint())
    assert len(fingerprints) == seeds
    assert load_task(config).fingerprint() == load_task(config).fingerprint()


def test_hospitals_standardise_by_their_own_training_rows():
    config = Config(task="hospitals", partition=PartitionConfig(train_examples=(12, 24)))
    task = load_task(config)
    assert task.class_names == ("malignant", "benign")
    assert len(task.participants) == 6
    for participant in task.participants:
        assert np.allclose(participant.train.x.mean(axis=0), 0, atol=1e-4)
        assert np.allclose(participant.train.x.std(axis=0), 1, atol=1e-4)
    raw = breast_cancer()
    assert raw.x.max() > 1000  # the source itself is raw


def test_participants_can_be_counted_or_named():
    counted = load_task(Config(participants=ParticipantsConfig(count=5, prefix="lab-")))
    assert [p.participant_id for p in counted.participants] == [
        "lab-00",
        "lab-01",
        "lab-02",
        "lab-03",
        "lab-04",
    ]
    named = load_task(Config(participants=rows("x", "y", "z")))
    assert [p.participant_id for p in named.participants] == ["x", "y", "z"]


def test_rows_and_a_count_of_the_same_number_give_the_same_data():
    counted = load_task(Config(participants=ParticipantsConfig(count=3)))
    named = load_task(Config(participants=rows("participant-00", "participant-01", "participant-02")))
    assert counted.fingerprint() == named.fingerprint()


def test_ids_sort_as_they_are_numbered():
    ids = participant_ids(Config(participants=ParticipantsConfig(count=120)), 3)
    assert list(ids) == sorted(ids)
    assert ids[-1] == "participant-119"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(task="digit"), "did you mean 'digits'"),
        (Config(task="zzz"), "known tasks: digits, hospitals, .*; or set data = FOLDER"),
        (Config(task="folder"), "ipfl run --data FOLDER"),
        (Config(participants=ParticipantsConfig(count=1)), r"1 participant\(s\) configured.*at least 2"),
        (Config(participants=ParticipantsConfig(file="p.csv")), "read it into rows"),
        (
            Config(participants=ParticipantsConfig(count=3, rows=rows("x", "y").rows)),
            "participants.count = 3, but 2 participants are described by rows",
        ),
    ],
)
def test_configurations_that_name_no_task_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        load_task(config)


def test_too_many_participants_end_with_what_to_change():
    with pytest.raises(DataError, match=r"lower participants\.count"):
        load_task(Config(participants=ParticipantsConfig(count=200)))


def test_a_folder_takes_precedence_over_the_task(tmp_path):
    config = Config(data=write_pair(tmp_path), evaluation=EvaluationConfig(test_fraction=0.5))
    task = load_task(config)
    assert task.name == "folder"
    assert [len(participant.test) for participant in task.participants] == [4, 4]
    assert [len(participant.validation) for participant in task.participants] == [1, 1]
    assert load_task(config.model_copy(update={"task": task.name})).fingerprint() == task.fingerprint()


def test_settings_of_a_task_do_not_go_with_a_folder(tmp_path):
    with pytest.raises(
        ConfigError, match=r"task_settings belong to a named task, but the data is .*: take them out"
    ):
        load_task(Config(data=write_pair(tmp_path), task_settings={"side": 8}))


def test_a_count_that_contradicts_the_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"participants.count = 3, but .* has 2 files: leave the count out"):
        load_task(Config(data=write_pair(tmp_path), participants=ParticipantsConfig(count=3)))
    assert load_task(Config(data=str(tmp_path), participants=ParticipantsConfig(count=2)))

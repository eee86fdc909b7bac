"""From configurations to tasks of instructions: names, numbers, validation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import instruction_files as files
from ipfl.config import Config, EvaluationConfig, ParticipantConfig, ParticipantsConfig
from ipfl.data.instructions import Instruction, InstructionData, Instructions, InstructionTask
from ipfl.data.instructions.load import load_instructions, with_validation
from ipfl.errors import ConfigError, DataError

SMALL = {"rows_per_participant": 10}


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    files.finance(tmp_path / "finance")
    files.cofinance(tmp_path / "cofinance")
    return tmp_path


def rows(*ids):
    return ParticipantsConfig(
        rows=tuple(ParticipantConfig(id=name, valuation=1.0, export_cost=1.0) for name in ids)
    )


def ids(task):
    return [entry.participant_id for entry in task.participants]


# ---------------------------------------------------------------- validation


@given(
    tests=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    fraction=st.floats(0, 0.999),
    seed=st.integers(0, 99),
)
def test_validation_takes_its_fraction_of_the_tests_and_leaves_one(tests, fraction, seed):
    def split(place, name, count):
        return Instructions(tuple(Instruction(f"{place} {name} {n}", "yes") for n in range(count)))

    participants = tuple(
        InstructionData(f"p{place}", split(place, "train", 3), split(place, "test", count))
        for place, count in enumerate(tests)
    )
    task = with_validation(InstructionTask("made up", participants, ("yes",)), fraction, seed)
    for before, after in zip(participants, task.participants, strict=True):
        kept = after.validation.rows if after.validation else ()
        assert len(kept) == int(fraction * len(before.test))
        assert after.test.rows
        assert after.train == before.train
        assert sorted((*kept, *after.test.rows), key=str) == sorted(before.test.rows, key=str)
        places = [before.test.rows.index(row) for row in after.test.rows]
        assert places == sorted(places)
    again = with_validation(task, 0.9, seed + 1)
    for before, after in zip(task.participants, again.participants, strict=True):
        assert before.validation is None or after == before


def test_the_seed_decides_what_validates():
    none = EvaluationConfig(validation_fraction=0.0)
    task = load_instructions(Config(task="finance", task_settings=SMALL, evaluation=none))
    drawn = [
        [entry.validation for entry in with_validation(task, 0.5, seed).participants] for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_named_tasks_have_validation_and_none_where_the_fraction_is_0():
    task = load_instructions(Config(task="finance", task_settings=SMALL))
    assert [(len(one.train), len(one.validation), len(one.test)) for one in task.participants] == [
        (10, 1, 6)
    ] * 6
    none = Config(task="finance", task_settings=SMALL, evaluation=EvaluationConfig(validation_fraction=0.0))
    assert [(one.validation, len(one.test)) for one in load_instructions(none).participants] == [
        (None, 7)
    ] * 6


# ---------------------------------------------------------------- names and numbers


def test_rows_rename_the_participants_and_change_nothing_else():
    config = Config(task="finance", task_settings=SMALL)
    named = load_instructions(config.model_copy(update={"participants": rows(*"uvwxyz")}))
    task = load_instructions(config)
    assert ids(named) == list("uvwxyz")
    assert [one.splits() for one in named.participants] == [one.splits() for one in task.participants]
    again = load_instructions(config.model_copy(update={"participants": rows(*ids(task))}))
    assert again.fingerprint() == task.fingerprint()


def test_a_count_must_be_right_and_names_nobody():
    config = Config(task="cofinance", task_settings={"code_rows": 5, "news_rows": 5})
    counted = config.model_copy(update={"participants": ParticipantsConfig(count=8, prefix="x-")})
    assert ids(load_instructions(counted)) == ids(load_instructions(config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"participants": ParticipantsConfig(count=5)},
            "5 participants are configured by participants.count, but task finance has 6 with its task_settings: "
            "leave the participants out, or change those settings",
        ),
        ({"participants": rows("a", "b")}, "2 participants are described by rows, but task finance has 6"),
        ({"participants": ParticipantsConfig(file="p.csv")}, "read it into rows before loading a task"),
        ({"task_settings": {"rows_each": 3}}, "unknown key 'task_settings.rows_each' of task finance; "),
        ({"task_settings": {"nwgi": "5-way"}}, "task_settings.nwgi = '5-way': input should be '7-way' or '3-way'"),
        ({"task_settings": {"test_share": 1.0}}, "task_settings.test_share = 1.0: input should be less than 1"),
        ({"task_settings": {"rows_per_participant": 0}}, "task_settings.rows_per_participant = 0: input should be"),
        ({"task": "digits"}, "task digits has no instructions for a language model: take the table [language] out, "),
        ({"task": "finanse"}, "unknown task 'finanse'; did you mean 'finance'?"),
        ({"task": "folder"}, "a folder of your own is named by data = FOLDER"),
    ],
)  # fmt: skip
def test_configurations_that_contradict_the_task(config, message):
    with pytest.raises(ConfigError) as error:
        load_instructions(Config(**{"task": "finance", "task_settings": SMALL} | config))
    assert message in str(error.value)


def test_other_numbers_of_participants_by_task_settings():
    settings = {"rows_per_participant": 5, "participants_per_set": 4}
    task = load_instructions(Config(task="finance", task_settings=settings))
    assert ids(task)[:5] == ["fiqa-0", "fiqa-1", "fiqa-2", "fiqa-3", "tfns-0"]


# ---------------------------------------------------------------- own folders


def test_a_folder_takes_precedence_and_keeps_its_names(root):
    folder = files.own(root / "own")
    config = Config(task="finance", data=str(folder), evaluation=EvaluationConfig(test_fraction=0.5))
    task = load_instructions(config)
    assert (task.name, ids(task), task.class_names) == ("folder", ["a", "b", "c"], ("no", "yes"))
    assert [(len(one.train), len(one.validation), len(one.test)) for one in task.participants] == [
        (10, 2, 8)
    ] * 3
    described = config.model_copy(update={"participants": rows("x", "y", "z")})
    assert ids(load_instructions(described)) == ["a", "b", "c"]


def test_what_a_folder_contradicts(root):
    folder = str(files.own(root / "own"))
    with pytest.raises(ConfigError, match=r"participants.count = 2, but .* has 3 files: leave the count out"):
        load_instructions(Config(data=folder, participants=ParticipantsConfig(count=2)))
    with pytest.raises(ConfigError, match="task_settings belong to a named task, but the data is"):
        load_instructions(Config(data=folder, task_settings=SMALL))
    with pytest.raises(DataError, match="does not exist: give a folder with one"):
        load_instructions(Config(data=str(root / "nowhere")))

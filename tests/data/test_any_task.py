"""One way to load tasks of both kinds."""

import pytest

import instruction_files as files
from ipfl.config import Config, LanguageConfig
from ipfl.data import Task, load_task
from ipfl.data.any_task import is_language, task_of
from ipfl.data.counts import partition_table
from ipfl.data.instructions import InstructionTask
from ipfl.errors import ConfigError, DataError

LANGUAGE = LanguageConfig()


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    files.finance(tmp_path / "finance")
    files.own(tmp_path / "own")
    return tmp_path


def small(**changes):
    return Config(task="finance", task_settings={"rows_per_participant": 10}, **changes)


def test_tasks_of_instructions_are_known_by_name_or_by_the_table(root):
    own = str(root / "own")
    assert [
        is_language(config)
        for config in (
            Config(),
            small(),
            small(language=LANGUAGE),
            Config(language=LANGUAGE),
            Config(data=own),
            Config(data=own, task="finance"),
            Config(data=own, language=LANGUAGE),
        )
    ] == [False, True, True, True, False, False, True]


def test_each_is_loaded_as_what_it_is(root):
    assert isinstance(task_of(Config(task="hospitals")), Task)
    for config in (small(), small(language=LANGUAGE), Config(data=str(root / "own"), language=LANGUAGE)):
        assert isinstance(task_of(config), InstructionTask)
    with pytest.raises(DataError, match=r"a\.jsonl is in a format that is not read here"):
        task_of(Config(data=str(root / "own")))


def test_the_table_language_with_a_task_of_examples_is_refused():
    with pytest.raises(ConfigError) as error:
        task_of(Config(task="digits", language=LANGUAGE))
    assert str(error.value) == (
        "task digits has no instructions for a language model: take the table [language] out, or choose a task that "
        "has: assistants, finance, cofinance"
    )


def test_load_task_loads_no_instructions(root):
    for config, what in (
        (Config(language=LANGUAGE), "task digits"),
        (Config(data=str(root / "own"), language=LANGUAGE), f"folder {root / 'own'}"),
        (small(language=LANGUAGE), "task finance"),
    ):
        with pytest.raises(ConfigError) as error:
            load_task(config)
        assert str(error.value).startswith(
            f"{what} with the table [language] is an instruction task: use task_of"
        )


def test_both_kinds_are_counted(root):
    table = partition_table(task_of(small(seed=3)), small(seed=3))
    assert table.kind == "task"
    assert table.parameters == {
        "seed": 3,
        "rows_per_participant": 10,
        "participants_per_set": 2,
        "test_share": 0.226,
        "test_rows_max": 600,
        "nwgi": "7-way",
    }
    assert table.class_names == ("FIQA", "TFNS", "NWGI")
    assert table.train.tolist() == [[10, 0, 0]] * 2 + [[0, 10, 0]] * 2 + [[0, 0, 10]] * 2
    assert (table.validation.sum(axis=1).tolist(), table.test.sum(axis=1).tolist()) == ([1] * 6, [6] * 6)
    assert partition_table(task_of(small(seed=4)), small(seed=4)).sha256 != table.sha256


def test_own_instructions_are_counted_by_their_answers(root):
    config = Config(data=str(root / "own"), language=LANGUAGE)
    table = partition_table(task_of(config), config)
    assert (table.kind, table.parameters) == ("own", {"seed": 0, "test_fraction": 0.3})
    assert table.class_names == ("no", "yes")
    assert table.sizes.tolist() == [14] * 3
    made = partition_table(task_of(config), Config(), own=True)
    assert (made.kind, made.parameters) == ("own", {})

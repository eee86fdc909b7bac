"""The catalogue of instruction tasks, and what the other one says of them."""

import pytest

import instruction_files as files
from ipfl.config import Config
from ipfl.data import TASKS, find_task, load_task, model_of_task
from ipfl.data.catalogue import CATALOGUE, find_entry
from ipfl.data.instructions.catalogue import INSTRUCTION_TASKS
from ipfl.data.instructions.load import load_instructions
from ipfl.errors import ConfigError, DataError
from ipfl.presets import load_config, preset_names

FEWER_ROWS = {"finance": {"rows_per_participant": 10}, "cofinance": {"code_rows": 5, "news_rows": 5}}


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", sorted(INSTRUCTION_TASKS))
def test_every_task_gives_what_its_entry_says(root, name):
    entry = find_entry(name)
    assert entry is INSTRUCTION_TASKS[name]
    assert name not in CATALOGUE
    assert TASKS[name] == entry.description
    assert entry.folder() == root / name
    if entry.published is not None:
        files.WRITERS[name](entry.folder())
        assert entry.published.inspect(entry.folder()).complete
        assert entry.published.files == ()
    task = load_instructions(Config(task=name, task_settings=FEWER_ROWS.get(name, {})))
    assert (task.name, len(task.participants)) == (name, entry.num_participants)
    assert model_of_task(Config(task=name)) is None


@pytest.mark.parametrize("name", sorted(files.WRITERS))
def test_the_absence_of_files_is_said(root, name):
    assert str(root / name) in find_entry(name).published.inspect(root / name).lacking[0]
    with pytest.raises(DataError, match=f"task {name}: its files are not in {root / name}; put "):
        load_instructions(Config(task=name))


@pytest.mark.parametrize("name", sorted(INSTRUCTION_TASKS))
def test_whoever_wants_labelled_examples_is_told_where_to_go(name):
    for find in (find_task, lambda name: load_task(Config(task=name))):
        with pytest.raises(ConfigError) as error:
            find(name)
        assert str(error.value) == (
            f"task {name} is an instruction task: use task_of, which loads tasks of both kinds, or choose a task of "
            "labelled examples"
        )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("finanse", "did you mean 'finance'?"),
        ("zzz", "known tasks: digits, "),
        ("asistants", "'assistants'?"),
    ],
)
def test_names_are_suggested_among_both_kinds(name, hint):
    with pytest.raises(ConfigError, match=rf"unknown task '{name}'; .*{hint}".replace("?", r"\?")):
        find_task(name)


@pytest.mark.parametrize("name", sorted(files.WRITERS))
def test_every_published_task_has_a_preset_of_its_name(root, name):
    assert name in preset_names()
    config = load_config(name)
    assert config.task == name
    assert config.language is not None
    settings = INSTRUCTION_TASKS[name].settings
    assert config.task_settings == settings().model_dump()  # all of them, as they are without the preset

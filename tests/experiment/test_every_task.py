"""Two rounds of every task's preset on small files, with the model of the paper: from files to bills."""

import pytest

import published_files
from ipfl.data.catalogue import CATALOGUE
from ipfl.experiment import run
from ipfl.presets import load_config, preset_names

QUICK = [
    "rounds=2",
    "training.steps=2",
    "training.batch_size=8",
    "participants.count=4",
    "partition.min_examples=2",
    "evaluation.common_examples_max=40",
    "market.rule=paper",
]
SMALLER = {
    "synthetic": [
        "task_settings.examples=400",
        "task_settings.shape=[1, 8, 8]",
        "partition.train_examples=[8, 12]",
    ],
    "pacs": ["task_settings.side=16", "training.steps=1"],
    "shakespeare": ["training.steps=1", "participants.count=2", "evaluation.common_examples_max=10"],
    "digits": ["participants.buyers=1", "participants.sellers=1"],
}


def preset_of(task):
    return next(name for name in preset_names() if name != "paper" and load_config(name).task == task)


@pytest.mark.parametrize("task", sorted(CATALOGUE))
def test_two_rounds_of_every_task(task, tmp_path, monkeypatch):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    if task in published_files.WRITERS:
        published_files.WRITERS[task](tmp_path / task)
    config = load_config(preset_of(task), [*QUICK, *SMALLER.get(task, [])])
    result = run(config, out=tmp_path / "run")
    assert result.finished
    assert len(result.rounds) == 2
    assert result.config.model == (CATALOGUE[task].model or {"hospitals": "mlp"}.get(task, "cnn"))
    assert result.config.task_settings == config.task_settings
    for row in result.summary["participants"]:
        assert row["accuracy"] is None or 0 <= row["accuracy"] <= 1

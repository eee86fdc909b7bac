"""What a task's participants have, counted."""

from dataclasses import replace

import numpy as np
import pytest

import tiny
from ipfl.config import Config, PartitionConfig
from ipfl.data import ParticipantData, Task, load_task
from ipfl.data.counts import partition_table


def test_counts_are_those_of_the_splits():
    task = tiny.task()
    table = partition_table(task, tiny.config(), own=True)
    assert (table.kind, dict(table.parameters)) == ("own", {})
    assert table.participant_ids == tuple("abcde")
    assert table.sizes.tolist() == [len(entry.train) for entry in task.participants]
    for index, entry in enumerate(task.participants):
        assert table.train[index].tolist() == np.bincount(entry.train.y, minlength=2).tolist()
        assert table.test[index].tolist() == np.bincount(entry.test.y, minlength=2).tolist()
    assert table.validation.sum() == 0


def test_the_hash_stands_for_the_examples_themselves():
    task = tiny.task()
    first = task.participants[0]
    moved = replace(first.train, x=first.train.x + np.float32(1))
    other = Task(
        task.name,
        (ParticipantData("a", moved, first.test), *task.participants[1:]),
        task.input_shape,
        task.class_names,
    )
    tables = [partition_table(one, tiny.config(), own=True) for one in (task, tiny.task(), other)]
    assert tables[0].sha256 == tables[1].sha256
    assert tables[0].sha256 != tables[2].sha256
    assert tables[0].train.tolist() == tables[2].train.tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "dirichlet", "train_examples": (8, 16)}, {"alpha": 0.5, "train_examples": [8, 16]}),
        ({"kind": "iid", "train_examples": "all"}, {"train_examples": "all", "min_examples": 10}),
        (
            {"kind": "cluster", "train_examples": "all", "sizes": "drawn", "alpha_between": 5.0},
            {"sizes": "drawn", "clusters": 3, "alpha_between": 5.0, "alpha_within": 10.0}
            | {"train_examples": "all", "min_examples": 10},
        ),
    ],
)
def test_the_settings_that_decided_are_named(settings, expected):
    config = Config(seed=4, partition=PartitionConfig(**settings))
    task = load_task(config)
    table = partition_table(task, config)
    assert table.parameters == {"seed": 4} | expected
    counted = int(table.train.sum() + table.validation.sum() + table.test.sum())
    assert counted <= 1797
    if settings["train_examples"] == "all":
        assert counted == table.sizes.sum() == 1797 - table.common.sum()

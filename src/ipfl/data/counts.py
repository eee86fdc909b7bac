"""Counting a task's examples by participant and class, for partition.json and its pictures."""

from typing import Any

import numpy as np
from jaxtyping import Int64

from ipfl.config import Config
from ipfl.data.entries import read_settings
from ipfl.data.instructions.catalogue import INSTRUCTION_TASKS
from ipfl.data.instructions.rows import Instructions, InstructionTask
from ipfl.data.tasks import Split, Task
from ipfl.types.partition import PartitionTable, partition_hash

OWN = "own"
BY_TASK = "task"
"""The kind where the task says itself who has what, as tasks of instructions do."""
_PARAMETERS = {
    "cluster": ("sizes", "clusters", "alpha_between", "alpha_within"),
    "niid": ("alpha",),
    "skew": ("classes_per_participant",),
    "dirichlet": ("alpha",),
    "quantity": ("alpha",),
}


def partition_table(task: Task | InstructionTask, config: Config, *, own: bool = False) -> PartitionTable:
    """What every participant of a task has.

    Args:
      task: already shared out, of either kind.
      config: what it was shared out by.
      own: everybody brought its own examples; nothing was shared out.

    >>> from ipfl.data import load_task
    >>> config = Config(task="hospitals", seed=1)
    >>> table = partition_table(load_task(config), config)
    >>> table.train.shape, table.kind, table.parameters["clusters"], len(table.sha256)
    ((6, 2), 'cluster', 3, 64)
    """
    num_classes = len(task.class_names)
    tables = {
        name: np.stack([_count(getattr(entry, name), num_classes) for entry in task.participants])
        for name in ("train", "validation", "test")
    }
    ids = tuple(entry.participant_id for entry in task.participants)
    common = None if task.common is None else _count(task.common, num_classes)
    counted = {name: table.tolist() for name, table in tables.items()} | {
        "ids": ids,
        "classes": task.class_names,
        "common": None if common is None else common.tolist(),
    }
    by_task = isinstance(task, InstructionTask)
    kind = OWN if own or config.data is not None else BY_TASK if by_task else config.partition.kind
    return PartitionTable(
        kind,
        _parameters(config, own, by_task),
        ids,
        task.class_names,
        **tables,
        common=common,
        sha256=partition_hash(counted, task.fingerprint()),
    )


def _parameters(config: Config, own: bool, by_task: bool) -> dict[str, Any]:
    """The settings that decided who got what."""
    if own:
        return {}
    if config.data is not None:
        return {"seed": config.seed, "test_fraction": config.evaluation.test_fraction}
    if by_task:
        entry = INSTRUCTION_TASKS[config.task]
        return {"seed": config.seed} | read_settings(
            entry.name, entry.settings, config.task_settings
        ).model_dump(mode="json")
    settings = config.partition
    train = settings.train_examples
    found: dict[str, Any] = {name: getattr(settings, name) for name in _PARAMETERS.get(settings.kind, ())}
    if train == "all":
        found |= {"train_examples": train, "min_examples": settings.min_examples}
    else:
        found["train_examples"] = list(train)
    return {"seed": config.seed} | found


def _count(split: Split | Instructions | None, num_classes: int) -> Int64[np.ndarray, "classes"]:
    labels = np.empty(0, dtype=np.int64) if split is None else split.y
    return np.bincount(labels, minlength=num_classes).astype(np.int64)

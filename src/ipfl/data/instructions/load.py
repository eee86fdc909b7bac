"""From a configuration to its task of instructions: one of the catalogue, or a folder of one's own."""

from dataclasses import replace

import numpy as np

from ipfl.config import Config
from ipfl.data.catalogue import find_entry
from ipfl.data.entries import read_settings
from ipfl.data.instructions.catalogue import INSTRUCTION_TASKS
from ipfl.data.instructions.own import load_instruction_folder
from ipfl.data.instructions.rows import InstructionData, Instructions, InstructionTask
from ipfl.data.load import check_own, participant_ids
from ipfl.errors import ConfigError
from ipfl.seeding import generator


def load_instructions(config: Config) -> InstructionTask:
    """The task of instructions that `config` names, with every participant's own splits.

    config.data, if set, is a folder of one's own (see `load_instruction_folder`). Otherwise config.task names a task,
    which says itself who has what; rows of config.participants give its participants their names. Of what a
    participant keeps for testing, config.evaluation.validation_fraction is for validation.

    Raises:
      ConfigError: a task that has no instructions, or counts and names of participants that contradict the data.
      DataError: the data cannot be read, or is not enough.

    >>> load_instructions(Config(task="digits"))
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: task digits has no instructions for a language model: take the table [language] out, \
or choose a task that has: assistants, finance, cofinance
    """
    task = _own(config, config.data) if config.data is not None else _named(config)
    return with_validation(task, config.evaluation.validation_fraction, config.seed)


def with_validation(task: InstructionTask, fraction: float, seed: int) -> InstructionTask:
    """Keep a fraction of every participant's test rows for validation, drawn at random.

    Whoever has a validation split already, or too few rows for both, stays as it is.
    """
    return replace(
        task,
        participants=tuple(
            validated(participant, fraction, generator(seed, -1, index, "split"))
            for index, participant in enumerate(task.participants)
        ),
    )


def validated(participant: InstructionData, fraction: float, random: np.random.Generator) -> InstructionData:
    """`with_validation` of one participant."""
    rows = participant.test.rows
    count = int(fraction * len(rows))
    if participant.validation is not None or count == 0:
        return participant
    chosen = set(random.permutation(len(rows))[:count].tolist())
    return replace(
        participant,
        validation=Instructions(tuple(row for place, row in enumerate(rows) if place in chosen)),
        test=Instructions(tuple(row for place, row in enumerate(rows) if place not in chosen)),
    )


def _own(config: Config, folder: str) -> InstructionTask:
    task = load_instruction_folder(folder, config.evaluation.test_fraction, config.seed)
    check_own(config, folder, len(task.participants))
    return task


def _named(config: Config) -> InstructionTask:
    entry = INSTRUCTION_TASKS.get(config.task)
    if entry is None:
        known = find_entry(config.task)  # a name that nobody knows is refused in its own words
        raise ConfigError(
            f"task {known.name} has no instructions for a language model: take the table [language] out, "
            f"or choose a task that has: {', '.join(INSTRUCTION_TASKS)}"
        )
    task = entry.load(read_settings(entry.name, entry.settings, config.task_settings), config)
    count = len(task.participants)
    ids = participant_ids(config, count)
    if len(ids) != count:
        where = "described by rows" if config.participants.rows else "configured by participants.count"
        raise ConfigError(
            f"{len(ids)} participants are {where}, but task {task.name} has {count} with its task_settings: "
            "leave the participants out, or change those settings"
        )
    if not config.participants.rows:
        return task
    renamed = (replace(one, participant_id=name) for one, name in zip(task.participants, ids, strict=True))
    return replace(task, participants=tuple(renamed))

"""From a configuration to its task: a data set of the catalogue shared out, or a folder of one's own."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64

from ipfl.config import Config
from ipfl.data import sources
from ipfl.data.apportion import apportion
from ipfl.data.catalogue import find_task
from ipfl.data.own import load_folder
from ipfl.data.partition import Part, partition
from ipfl.data.prepare import standardise
from ipfl.data.tasks import NUM_PARTICIPANTS_MIN, ParticipantData, Split, Task
from ipfl.errors import ConfigError
from ipfl.seeding import generator


def load_task(config: Config) -> Task:
    """The task that `config` names, with every participant's own splits.

    config.data, if set, is a folder of one's own (see `load_folder`). Otherwise config.task names a data set,
    which config.partition shares out; tables are standardised per participant, from its training rows. Of what
    a participant keeps for testing, config.evaluation.validation_fraction is for validation. Where
    partition.train_examples is "all", the tests are a common set, kept apart before the rest is shared out.

    Raises:
      ConfigError: an unknown task or one of instructions, or counts and names of participants that contradict the data.
      DataError: the data cannot be read, or not be shared out as configured.

    >>> task = load_task(Config())
    >>> task.name, len(task.participants), task.input_shape
    ('digits', 12, (1, 8, 8))
    >>> load_task(Config(task="digts"))
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: unknown task 'digts'; did you mean 'digits'?
    """
    if config.language is not None:
        what = f"task {config.task}" if config.data is None else f"folder {config.data}"
        raise ConfigError(
            f"{what} with the table [language] is an instruction task: use task_of, which loads tasks of both kinds"
        )
    task = _own(config, config.data) if config.data is not None else _shared_out(config)
    return with_validation(task, config.evaluation.validation_fraction, config.seed)


def _shared_out(config: Config) -> Task:
    entry = find_task(config.task)
    ids = participant_ids(config, entry.num_participants)
    source = entry.source(config)
    common = None
    if config.partition.train_examples == "all":
        if entry.standardised:
            raise ConfigError(
                f"task {config.task} is standardised by each participant, which a common test set cannot be: "
                "give partition.train_examples two counts"
            )
        source, common = _common_apart(source, config)
    parts = partition(
        source.y, len(ids), config.partition, generator(config.seed, -1, -1, "partition"), source.groups
    )
    participants = tuple(
        _participant(name, source, part, entry.standardised) for name, part in zip(ids, parts, strict=True)
    )
    return Task(config.task, participants, source.x.shape[1:], source.class_names, common)


def with_validation(task: Task, fraction: float, seed: int) -> Task:
    """Keep a fraction of every participant's test examples for validation, in the proportions of its classes.

    Whoever has a validation split already, no test of its own, or too few for both, stays as it is.
    """
    return replace(
        task,
        participants=tuple(
            validated(participant, fraction, generator(seed, -1, index, "split"))
            for index, participant in enumerate(task.participants)
        ),
    )


def validated(participant: ParticipantData, fraction: float, random: np.random.Generator) -> ParticipantData:
    """`with_validation` of one participant."""
    test = participant.test
    if test is None or participant.validation is not None:
        return participant
    count = int(fraction * len(test))
    if count == 0:
        return participant
    chosen = _stratified(test.y, count, random)
    return replace(
        participant,
        validation=Split(test.x[chosen], test.y[chosen]),
        test=Split(test.x[~chosen], test.y[~chosen]),
    )


def _common_apart(source: sources.Source, config: Config) -> tuple[sources.Source, Split]:
    """The published test part, or a fraction of all in the proportions of the classes; and the rest."""
    if source.test is not None:
        return source, Split(source.test.x, source.test.y)
    count = int(config.evaluation.common_fraction * len(source.y))
    chosen = _stratified(source.y, count, generator(config.seed, -1, -1, "split"))
    groups = None if source.groups is None else source.groups[~chosen]
    rest = source._replace(x=source.x[~chosen], y=source.y[~chosen], groups=groups)
    return rest, Split(source.x[chosen], source.y[chosen])


def _stratified(
    labels: Int64[np.ndarray, "n"], count: int, random: np.random.Generator
) -> Bool[np.ndarray, "n"]:
    """A random choice of `count` examples in which classes have their shares of all."""
    chosen = np.zeros(len(labels), dtype=bool)
    counts = np.bincount(labels)
    for label, wanted in enumerate(apportion(count, counts.astype(np.float64))):
        chosen[random.permutation(np.flatnonzero(labels == label))[:wanted]] = True
    return chosen


def participant_ids(config: Config, count: int) -> tuple[str, ...]:
    """Ids of the participants: those of the configured rows, else prefix and number (two digits or more).

    Args:
      config: its participants table.
      count: how many there are where the table does not say.
    Raises:
      ConfigError: rows and count contradict each other, fewer than 2, or a participants file not yet read.

    >>> participant_ids(Config(), 3)
    ('participant-00', 'participant-01', 'participant-02')
    """
    table = config.participants
    if table.file is not None and not table.rows:
        raise ConfigError(f"participants.file = {table.file!r}: read it into rows before loading a task")
    if table.rows and table.count not in (None, len(table.rows)):
        raise ConfigError(
            f"participants.count = {table.count}, but {len(table.rows)} participants are described by rows: "
            "leave the count out"
        )
    if table.rows:
        ids = tuple(row.id for row in table.rows)
    else:
        count = count if table.count is None else table.count
        width = max(2, len(str(count - 1)))
        ids = tuple(f"{table.prefix}{index:0{width}d}" for index in range(count))
    if len(ids) < NUM_PARTICIPANTS_MIN:
        raise ConfigError(
            f"participants: {len(ids)} participant(s) configured, "
            f"a market needs at least {NUM_PARTICIPANTS_MIN}"
        )
    return ids


def check_own(config: Config, folder: str, num_files: int) -> None:
    """Raise `ConfigError` if `config` says of a folder's participants what is only for named tasks, or is not so."""
    if config.task_settings:
        raise ConfigError(f"task_settings belong to a named task, but the data is {folder}: take them out")
    count = config.participants.count
    if count not in (None, num_files):
        raise ConfigError(
            f"participants.count = {count}, but {folder} has {num_files} files: leave the count out"
        )


def _own(config: Config, folder: str) -> Task:
    task = load_folder(folder, config.label, config.evaluation.test_fraction, config.seed)
    check_own(config, folder, len(task.participants))
    return task


def _participant(
    participant_id: str, source: sources.Source, part: Part, standardised: bool
) -> ParticipantData:
    x_train, x_test = source.x[part.train], source.x[part.test]
    if standardised:
        x_train, x_test = standardise(x_train.astype(np.float64), x_test.astype(np.float64))
    train, test = Split(x_train, source.y[part.train]), Split(x_test, source.y[part.test])
    return ParticipantData(participant_id, train, test if len(test) > 0 else None)

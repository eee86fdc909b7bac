"""From a configuration to its task: an embedded data set shared out, or a folder of one's own."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ipfl.config import Config
from ipfl.data import sources
from ipfl.data.own import FOLDER_TASK, load_folder
from ipfl.data.partition import Part, partition
from ipfl.data.prepare import standardise
from ipfl.data.tasks import NUM_PARTICIPANTS_MIN, ParticipantData, Split, Task
from ipfl.errors import ConfigError
from ipfl.seeding import generator


class Embedded(NamedTuple):
    """A task on data that ships with scikit-learn; num_participants where the configuration has no count."""

    description: str
    source: Callable[[], sources.Source]
    num_participants: int
    standardised: bool


EMBEDDED = {
    "digits": Embedded("1,797 handwritten digits, 8 x 8 pixels, 10 classes", sources.digits, 12, False),
    "hospitals": Embedded(
        "569 tumours described by 30 measures, malignant or benign, each hospital with its own case mix",
        sources.breast_cancer,
        6,
        True,
    ),
}
TASKS = {name: embedded.description for name, embedded in EMBEDDED.items()}
"""The embedded tasks: name, and one line about each."""


def load_task(config: Config) -> Task:
    """The task that `config` names, with every participant's own split.

    config.data, if set, is a folder of one's own (see `load_folder`). Otherwise config.task names an
    embedded data set, which config.partition shares out; its tables are standardised per participant, from
    its training rows.

    Raises:
      ConfigError: an unknown task, or counts and names of participants that contradict the data.
      DataError: the data cannot be read, or not be shared out as configured.

    >>> task = load_task(Config())
    >>> task.name, len(task.participants), task.input_shape
    ('digits', 12, (1, 8, 8))
    >>> load_task(Config(task="digts"))
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: unknown task 'digts'; did you mean 'digits'?
    """
    if config.data is not None:
        return _own(config, config.data)
    if config.task not in EMBEDDED:
        raise ConfigError(f"unknown task {config.task!r}; {_hint(config.task)}")
    embedded = EMBEDDED[config.task]
    ids = participant_ids(config, embedded.num_participants)
    source = embedded.source()
    parts = partition(source.y, len(ids), config.partition, generator(config.seed, -1, -1, "partition"))
    participants = tuple(
        _participant(name, source, part, embedded.standardised) for name, part in zip(ids, parts, strict=True)
    )
    return Task(config.task, participants, source.x.shape[1:], source.class_names)


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


def _own(config: Config, folder: str) -> Task:
    task = load_folder(folder, config.label, config.evaluation.test_fraction, config.seed)
    count = config.participants.count
    if count not in (None, len(task.participants)):
        raise ConfigError(
            f"participants.count = {count}, but {folder} has {len(task.participants)} files: "
            "leave the count out"
        )
    return task


def _hint(name: str) -> str:
    if name == FOLDER_TASK:
        return "a folder of your own is named by data = FOLDER (ipfl run --data FOLDER)"
    near = difflib.get_close_matches(name, TASKS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(TASKS)}; or set data = FOLDER"


def _participant(
    participant_id: str, source: sources.Source, part: Part, standardised: bool
) -> ParticipantData:
    x_train, x_test = source.x[part.train], source.x[part.test]
    if standardised:
        x_train, x_test = standardise(x_train.astype(np.float64), x_test.astype(np.float64))
    train, test = Split(x_train, source.y[part.train]), Split(x_test, source.y[part.test])
    return ParticipantData(participant_id, train, test)

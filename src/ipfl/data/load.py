"""From a configuration to its task: an embedded data set shared out."""

import difflib

import numpy as np

from ipfl.config import Config
from ipfl.data import sources
from ipfl.data.partition import Part, partition
from ipfl.data.tasks import ParticipantData, Split, Task
from ipfl.errors import ConfigError
from ipfl.seeding import generator

TASKS = {
    "digits": "1,797 handwritten digits of 8 x 8 pixels, 10 classes (scikit-learn)",
}
"""The embedded tasks: name and one line about each."""
NUM_PARTICIPANTS = {"digits": 12}


def load_task(config: Config) -> Task:
    """The task that `config` names, with every participant's own split.

    Raises:
      ConfigError: an unknown task.
      DataError: the data cannot be shared out as configured.

    >>> task = load_task(Config())
    >>> task.name, len(task.participants), task.input_shape
    ('digits', 12, (1, 8, 8))
    """
    if config.task not in TASKS:
        near = difflib.get_close_matches(config.task, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(TASKS)}"
        raise ConfigError(f"unknown task {config.task!r}; {hint}")
    source = sources.digits()
    ids = participant_ids(config, NUM_PARTICIPANTS[config.task])
    parts = partition(source.y, len(ids), config.partition, generator(config.seed, -1, -1, "partition"))
    participants = tuple(_participant(name, source, part) for name, part in zip(ids, parts, strict=True))
    return Task(config.task, participants, source.x.shape[1:], source.class_names)


def participant_ids(config: Config, count: int) -> tuple[str, ...]:
    """Ids of the participants: those of the configured rows, else prefix and number, zero-padded.

    Args:
      config: its participants table.
      count: how many there are where the configuration does not say.

    >>> participant_ids(Config(), 3)
    ('participant-00', 'participant-01', 'participant-02')
    """
    table = config.participants
    if table.rows:
        return tuple(row.id for row in table.rows)
    count = table.count if table.count is not None else count
    width = max(2, len(str(count - 1)))
    return tuple(f"{table.prefix}{index:0{width}d}" for index in range(count))


def _participant(participant_id: str, source: sources.Source, part: Part) -> ParticipantData:
    def take(indices: np.ndarray) -> Split:
        return Split(source.x[indices], source.y[indices])

    return ParticipantData(participant_id, take(part.train), take(part.test))

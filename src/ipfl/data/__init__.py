"""Tasks: every participant's own examples, from embedded data shared out or from a folder of one's own."""

from ipfl.data.load import TASKS, load_task, participant_ids
from ipfl.data.own import load_folder
from ipfl.data.partition import Part, partition
from ipfl.data.tasks import ParticipantData, Split, Task

__all__ = [
    "TASKS",
    "Part",
    "ParticipantData",
    "Split",
    "Task",
    "load_folder",
    "load_task",
    "participant_ids",
    "partition",
]

"""Tasks: every participant's own examples, from a data set shared out or from a folder of one's own."""

from ipfl.data.catalogue import TASKS, find_task, model_of_task
from ipfl.data.load import load_task, participant_ids
from ipfl.data.own import load_folder
from ipfl.data.partition import Part, partition
from ipfl.data.tasks import ParticipantData, Split, Task

__all__ = [
    "TASKS",
    "Part",
    "ParticipantData",
    "Split",
    "Task",
    "find_task",
    "load_folder",
    "load_task",
    "model_of_task",
    "participant_ids",
    "partition",
]

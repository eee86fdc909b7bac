"""From a configuration to its task, of labelled examples or of instructions."""

from ipfl.config import Config
from ipfl.data.instructions.catalogue import INSTRUCTION_TASKS
from ipfl.data.instructions.load import load_instructions
from ipfl.data.instructions.rows import InstructionTask
from ipfl.data.load import load_task
from ipfl.data.tasks import Task


def task_of(config: Config) -> Task | InstructionTask:
    """The task that `config` names: `load_instructions` of one of language, else `load_task`.

    Raises:
      ConfigError, DataError: as in those.

    >>> task_of(Config(task="hospitals")).class_names
    ('malignant', 'benign')
    """
    return load_instructions(config) if is_language(config) else load_task(config)


def is_language(config: Config) -> bool:
    """Whether `config` is about instructions: it has the table [language], or names a task of instructions.

    >>> is_language(Config(task="finance")), is_language(Config(task="finance", data="my-folder"))
    (True, False)
    """
    return config.language is not None or (config.data is None and config.task in INSTRUCTION_TASKS)

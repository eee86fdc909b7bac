"""Every task by name: where its data comes from, what may be set of it, the model that suits it.

A task is a reader, a function that gives a `Source`, and one entry in `CATALOGUE`. Tasks of instructions have a
catalogue of their own, `ipfl.data.instructions.catalogue`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ipfl.config import Config, Table
from ipfl.data import sources
from ipfl.data.entries import NoSettings, Published, read_settings
from ipfl.data.instructions.catalogue import INSTRUCTION_TASKS, InstructionEntry
from ipfl.data.own import FOLDER_TASK
from ipfl.data.published import cifar10, fashion_mnist, leaf, pacs
from ipfl.data.published.files import data_root
from ipfl.data.published.synthetic import SyntheticSettings, synthetic
from ipfl.errors import ConfigError


class PacsSettings(Table):
    """What [task_settings] may say of the task `pacs`: the side of its pictures, in pixels."""

    side: Annotated[int, Field(ge=8, le=512)] = 64


@dataclass(frozen=True)
class TaskEntry:
    """One task.

    `read` gives its data from its settings, the folder of its files and the run's seed. `model` is what
    model = "auto" means (None: what suits the shape). `groups` says what the partition kinds `natural` and
    `domain` find in the data, if anything. `standardised`: each participant standardises by its own training rows.
    """

    name: str
    description: str
    read: Callable[[Any, Path, int], sources.Source]
    num_participants: int
    model: str | None = None
    standardised: bool = False
    groups: Literal["writers", "roles", "domains"] | None = None
    settings: type[Table] = NoSettings
    published: Published | None = None

    def source(self, config: Config) -> sources.Source:
        """The task's data, as config.task_settings and config.seed say.

        Raises:
          ConfigError: a setting that the task does not have, or a value that it does not take.
          DataError: a published file is not there, or damaged.
        """
        settings = read_settings(self.name, self.settings, config.task_settings)
        return self.read(settings, self.folder(), config.seed)

    def folder(self, root: Path | None = None) -> Path:
        """Where its published files are looked for: a folder of its name inside `root`, or `data_root()`."""
        return (root or data_root()) / self.name


def find_task(name: str) -> TaskEntry:
    """The task of that name, of labelled examples.

    Raises:
      ConfigError: there is none, or it is one of instructions.

    >>> find_task("cifar10").model
    'simple_cnn'
    >>> find_task("cifr10")
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: unknown task 'cifr10'; did you mean 'cifar10'?
    """
    entry = find_entry(name)
    if isinstance(entry, InstructionEntry):
        raise ConfigError(
            f"task {name} is an instruction task: use task_of, which loads tasks of both kinds, "
            "or choose a task of labelled examples"
        )
    return entry


def find_entry(name: str) -> TaskEntry | InstructionEntry:
    """The task of that name, whichever kind it is of.

    Raises:
      ConfigError: there is none.

    >>> find_entry("finance").num_participants
    6
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name in INSTRUCTION_TASKS:
        return INSTRUCTION_TASKS[name]
    known = [*CATALOGUE, *INSTRUCTION_TASKS]
    if name == FOLDER_TASK:
        hint = "a folder of your own is named by data = FOLDER (ipfl run --data FOLDER)"
    elif near := difflib.get_close_matches(name, known, n=1):
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"known tasks: {', '.join(known)}; or set data = FOLDER"
    raise ConfigError(f"unknown task {name!r}; {hint}")


def model_of_task(config: Config) -> str | None:
    """The model that `auto` stands for with config's task; None for a folder of one's own and tasks without one.

    >>> model_of_task(Config(task="shakespeare")), model_of_task(Config(task="digits"))
    ('lstm', None)
    """
    entry = None if config.data is not None else CATALOGUE.get(config.task)
    return entry.model if entry else None


def _by_leaf(form: leaf.Format) -> Published:
    return Published(partial(leaf.inspect_leaf, form=form))


_ENTRIES = (
    TaskEntry(
        "digits",
        "1,797 handwritten digits, 8 x 8 pixels, 10 classes",
        lambda settings, folder, seed: sources.digits(),
        12,
    ),
    TaskEntry(
        "hospitals",
        "569 tumours described by 30 measures, malignant or benign, each hospital with its own case mix",
        lambda settings, folder, seed: sources.breast_cancer(),
        6,
        standardised=True,
    ),
    TaskEntry(
        "synthetic",
        "made-up images of any shape, any number of classes and examples",
        lambda settings, folder, seed: synthetic(settings, seed),
        8,
        settings=SyntheticSettings,
    ),
    TaskEntry(
        "cifar10",
        "60,000 photographs, 3 x 32 x 32 pixels, 10 classes",
        lambda settings, folder, seed: cifar10.cifar10(folder),
        10,
        model="simple_cnn",
        published=Published(cifar10.inspect_cifar10, (cifar10.PYTHON,)),
    ),
    TaskEntry(
        "fashion_mnist",
        "70,000 pictures of clothes, 28 x 28 grey pixels, 10 classes",
        lambda settings, folder, seed: fashion_mnist.fashion_mnist(folder),
        10,
        model="simple_cnn",
        published=Published(fashion_mnist.inspect_fashion_mnist, fashion_mnist.FILES),
    ),
    TaskEntry(
        "femnist",
        "handwritten digits and letters by writer, 28 x 28 grey pixels, 62 classes (LEAF)",
        lambda settings, folder, seed: leaf.femnist(folder),
        10,
        model="simple_cnn",
        groups="writers",
        published=_by_leaf(leaf.FEMNIST),
    ),
    TaskEntry(
        "shakespeare",
        "the next character after 80 of a role's lines, 80 classes (LEAF)",
        lambda settings, folder, seed: leaf.shakespeare(folder),
        10,
        model="lstm",
        groups="roles",
        published=_by_leaf(leaf.SHAKESPEARE),
    ),
    TaskEntry(
        "pacs",
        "9,991 pictures in 4 styles, 7 classes",
        lambda settings, folder, seed: pacs.pacs(folder, settings.side),
        12,
        model="resnet20",
        groups="domains",
        settings=PacsSettings,
        published=Published(pacs.inspect_pacs),
    ),
)
CATALOGUE: dict[str, TaskEntry] = {entry.name: entry for entry in _ENTRIES}
TASKS = {name: entry.description for name, entry in CATALOGUE.items()} | {
    name: entry.description for name, entry in INSTRUCTION_TASKS.items()
}
"""Every task of either kind: its name, and one line about it."""

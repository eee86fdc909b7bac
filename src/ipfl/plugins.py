"""Methods, tasks, partitions, attacks and gain curves of one's own, used by name like the built-in ones.

A plug-in is a Python file (`ipfl run --plugin my.py`, or `load_file` from Python) or an installed package with an
entry point in the group `ipfl.plugins` that names a module. Importing it registers what it has:

    from ipfl.plugins import conduct

    @conduct("half")
    def half(updates, row, random):
        return updates[row] / 2

A run folder never names a file to be executed: whoever resumes a run gives the plug-in again, and it must be the same.
"""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from ipfl.conduct import CONDUCTS, Conduct
from ipfl.data.catalogue import CATALOGUE, TASKS, TaskEntry
from ipfl.data.partition import KINDS, Deal
from ipfl.data.sources import Source
from ipfl.errors import ConfigError, IpflError
from ipfl.market.curves import FAMILIES
from ipfl.methods import METHODS

Thing = TypeVar("Thing", bound=Callable[..., Any])
GROUP = "ipfl.plugins"
NAME = r"[a-z][a-z0-9_]{0,39}"

_files: dict[Path, str] = {}
_installed: list[str] = []


def method(name: str) -> Callable[[Thing], Thing]:
    """Register a method: a frozen dataclass whose first field is `federation`, the others its hyper-parameters."""
    return _registering("method", METHODS, name)


def conduct(name: str) -> Callable[[Conduct], Conduct]:
    """Register an attack: `(updates, row, random) -> update` (see `ipfl.conduct`)."""
    return _registering("attack", CONDUCTS, name)


def partition(name: str) -> Callable[[Deal], Deal]:
    """Register a partition: `(labels, num_participants, config, rng, groups) -> piles` (see `ipfl.data.partition`)."""
    return _registering("partition", KINDS, name)


def gain_curve(name: str) -> Callable[[Thing], Thing]:
    """Register a gain curve: a frozen dataclass with `gain(num_examples, more)`, its fields set by the text."""
    return _registering("gain curve", FAMILIES, name)


def task(
    name: str, description: str, num_participants: int = 10, model: str | None = None
) -> Callable[[Callable[[int], Source]], Callable[[int], Source]]:
    """Register a task: a function from the run's seed to a `Source`, shared out by config.partition.

    Args:
      name: what config.task says.
      description: one line.
      num_participants: where the configuration has no count.
      model: what `auto` stands for; None for the usual choice by shape.
    """

    def register(read: Callable[[int], Source]) -> Callable[[int], Source]:
        entry = TaskEntry(
            name, description, lambda settings, folder, seed: read(seed), num_participants, model
        )
        _registering("task", TASKS, name)(description)
        CATALOGUE[name] = entry
        return read

    return register


def load_file(path: str | Path) -> None:
    """Run a plug-in file, which registers what it has; a file that was loaded already is passed over.

    Raises:
      ConfigError: it cannot be read, fails, or registers a name that is taken; names file and line.
    """
    file = Path(path).resolve()
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read plug-in {path}: {error.strerror}") from None
    if file in _files:
        return
    module_name = f"ipfl_plugin_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plug-in {path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except IpflError as error:
        raise ConfigError(f"plug-in {path}: {error}") from None
    except Exception as error:  # whatever the file does
        raise ConfigError(f"plug-in {path}{_line(error, file)}: {type(error).__name__}: {error}") from error
    _files[file] = digest


def load_installed() -> None:
    """Import the plug-ins of installed packages, once.

    Raises:
      ConfigError: one of them fails; names its entry point.
    """
    for entry in entry_points(group=GROUP):
        label = f"{entry.name} ({entry.value})"
        if label in _installed:
            continue
        try:
            entry.load()
        except Exception as error:
            raise ConfigError(f"installed plug-in {label}: {type(error).__name__}: {error}") from error
        _installed.append(label)


def loaded_files() -> tuple[str, ...]:
    """The plug-in files loaded so far, for a process that is to load the same."""
    return tuple(map(str, _files))


def described() -> dict[str, str]:
    """What is plugged in: name of each file and its SHA-256, and the entry points of packages."""
    return {path.name: digest for path, digest in _files.items()} | dict.fromkeys(_installed, "installed")


def load_files(paths: Sequence[str | Path]) -> None:
    """`load_file` of each."""
    for path in paths:
        load_file(path)


def _registering(what: str, registry: dict[str, Any], name: str) -> Callable[[Any], Any]:
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{what} {name!r}: a name is 1 to 40 of a-z 0-9 _ and begins with a letter, so that it can be a setting"
        )

    def register(thing: Any) -> Any:
        if name in registry:
            raise ConfigError(f"{what} {name!r} is there already: choose another name")
        registry[name] = thing
        return thing

    return register


def _line(error: Exception, file: Path) -> str:
    """Where in the file it happened."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    trace, line = error.__traceback__, None
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f", line {line}"

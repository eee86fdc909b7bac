"""What the entries of every catalogue of tasks say: where published files come from, and what may be set."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ipfl.config import Table
from ipfl.data.published.files import Inspection, PublishedFile
from ipfl.errors import ConfigError


class NoSettings(Table):
    """The task has nothing to set."""


@dataclass(frozen=True)
class Published:
    """Where the files of a published data set come from.

    `inspect` says what a folder holds of them, and where to get what is lacking. `files` can be downloaded as they
    are; where there are none, the data set has to be made or got by hand.
    """

    inspect: Callable[[Path], Inspection]
    files: tuple[PublishedFile, ...] = ()


def read_settings(task: str, settings: type[Table], values: Mapping[str, Any]) -> Table:
    """A task's settings, checked.

    Args:
      task: its name.
      settings: the table of what may be set.
      values: as config.task_settings says.
    Raises:
      ConfigError: names the first key that is unknown or out of range.

    >>> read_settings("digits", NoSettings, {"side": 32})
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: unknown key 'task_settings.side' of task digits; it has no settings: take it out
    """
    known = list(settings.model_fields)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
            raise ConfigError(
                f"unknown key 'task_settings.{key}' of task {task}; "
                f"{hint if known else 'it has no settings: take it out'}"
            )
    try:
        return settings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        value = f" = {first['input']!r}" if first["loc"] else ""  # else it is about all of them together
        key = ".".join(["task_settings", *map(str, first["loc"])])
        raise ConfigError(f"{key}{value}: {message[0].lower()}{message[1:]}") from None

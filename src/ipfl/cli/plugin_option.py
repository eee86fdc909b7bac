"""`--plugin FILE`, for every command that runs something."""

from pathlib import Path
from typing import Any

import click


def _load(context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> None:
    if paths:
        from ipfl.plugins import load_files

        load_files(paths)


def plugin_option(command: Any) -> Any:
    """Add the option; the files are loaded before anything else is looked at."""
    return click.option(
        "--plugin",
        type=click.Path(path_type=Path),
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_load,
        metavar="FILE.py",
        help="Python file with methods, tasks, partitions, attacks or gain curves of your own (repeatable).",
    )(command)

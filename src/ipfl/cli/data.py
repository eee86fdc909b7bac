"""`ipfl data`: which data sets there are, fetching their files, and what is found of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipfl.cli import layout
from ipfl.errors import DataError

if TYPE_CHECKING:
    from ipfl.data.catalogue import TaskEntry
    from ipfl.data.entries import Published
    from ipfl.data.fetch import Progress
    from ipfl.data.instructions.catalogue import InstructionEntry
    from ipfl.data.published.files import Inspection

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder of all data sets, each in a folder of its name.  [default: $IPFL_DATA, else the user's cache]",
)
LANGUAGE_MODEL = "lora"
"""What is trained on instructions: adapters; the base is frozen."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


@click.group(short_help="List, fetch and check the data sets.")
def data() -> None:
    """List, fetch and check the data sets that tasks are made of.

    \b
    ipfl data fetch fashion_mnist && ipfl run fashion-mnist
    """


@data.command("list", short_help="Every task, its data and its model.")
@folder_option
@json_option
def list_(folder: Path | None, as_json: bool) -> None:
    """List every task: what its data is, where it comes from, and the model that model = "auto" means."""
    from ipfl.data.catalogue import TASKS, find_entry
    from ipfl.data.published.files import data_root

    root = folder or data_root()
    rows = [_row(find_entry(name)) for name in TASKS]
    if as_json:
        layout.print_json({"folder": str(root), "tasks": rows})
        return
    console = Console()
    console.print(layout.widest(console, lambda wide, _: _table(rows, wide)))
    console.print(
        f"\nFiles are looked for in {root}, a folder for each task (IPFL_DATA names another).", style="dim"
    )
    console.print("`ipfl data check` says what is there; `ipfl data fetch NAME` gets the rest.", style="dim")


@data.command(short_help="Download a data set's files.")
@click.argument("name")
@folder_option
@click.option(
    "--url", metavar="URL", help="A mirror: the address of the file, or of the folder that holds it."
)
@json_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def fetch(name: str, folder: Path | None, url: str | None, as_json: bool, quiet: bool) -> None:
    """Download the files of the data set NAME, check them, and go on where an earlier download was cut.

    Exit codes: 0 it is there; 2 it could not be had: the error says which file to put where.
    """
    from ipfl.data import fetch as downloads
    from ipfl.data.catalogue import find_entry

    entry = find_entry(name)
    place = entry.folder(folder)
    if entry.published is None:
        _say(f"{name} needs no files: it comes with the package", quiet or as_json)
        paths: list[Path] = []
    elif entry.published.files:
        place.mkdir(parents=True, exist_ok=True)
        with _telling_how_to_go_on(), _progress(quiet or as_json) as progress:
            paths = downloads.fetch(entry.published.files, place, url, progress)
    else:
        inspection = entry.published.inspect(place)
        if not inspection.complete:
            needed = "; ".join((*inspection.damaged, *inspection.lacking))
            raise DataError(f"{name} is not published as files to download: {needed}")
        paths = [place]
    if as_json:
        layout.print_json({"task": name, "folder": str(place), "files": [str(path) for path in paths]})
    elif entry.published is not None:
        _say(f"{name} is in {place}", quiet)
        if folder is not None:
            _say(f"so that `ipfl run` finds it there, set IPFL_DATA={folder.absolute()}", quiet)


@data.command(short_help="Say what is found of a data set's files.")
@click.argument("name", required=False)
@folder_option
@json_option
def check(name: str | None, folder: Path | None, as_json: bool) -> None:
    """Say what is found of the data set NAME (default: of all), what is lacking, and which file to put where.

    Exit codes: 0 it is complete (without NAME: nothing is damaged); 1 something is lacking or damaged.
    """
    from ipfl.data.catalogue import TASKS, find_entry

    entries = [find_entry(task) for task in ([name] if name is not None else TASKS)]
    results = {
        entry.name: entry.published.inspect(entry.folder(folder)) for entry in entries if entry.published
    }
    if as_json:
        layout.print_json([_facts(task, inspection) for task, inspection in results.items()])
    else:
        console = Console(soft_wrap=True, highlight=False)
        for entry in entries:
            _show(console, entry, results.get(entry.name))
    complete = all(inspection.complete for inspection in results.values())
    if any(inspection.damaged for inspection in results.values()) or (name is not None and not complete):
        raise click.exceptions.Exit(1)


def _table(rows: list[dict[str, Any]], wide: bool) -> Table:
    """One line a task; a narrow terminal leaves out what --json says too."""
    names = ["task", "data", "model", *(["groups", "participants"] if wide else []), "description"]
    shown = layout.table(names, [name for name in names if name != "participants"])
    shown.columns[-1].no_wrap = False
    for row in rows:
        shown.add_row(*(Text(str(row[name] or "–")) for name in names))
    return shown


def _row(entry: "TaskEntry | InstructionEntry") -> dict[str, Any]:
    from ipfl.data.instructions.catalogue import InstructionEntry

    published = entry.published
    return {
        "task": entry.name,
        "data": _origin(published),
        "participants": entry.num_participants,
        "model": LANGUAGE_MODEL if isinstance(entry, InstructionEntry) else entry.model or "by shape",
        "groups": None if isinstance(entry, InstructionEntry) else entry.groups,
        "description": entry.description,
        "settings": list(entry.settings.model_fields),
        "files": [
            {"name": file.name, "bytes": file.num_bytes, "md5": file.md5, "url": file.url}
            for file in (published.files if published else ())
        ],
    }


def _origin(published: "Published | None") -> str:
    from ipfl.data.published.files import size

    if published is None:
        return "built in"
    total = sum(file.num_bytes for file in published.files)
    return f"download, {size(total)}" if total else "by hand"


def _facts(task: str, inspection: "Inspection") -> dict[str, Any]:
    return {
        "task": task,
        "folder": str(inspection.folder),
        "complete": inspection.complete,
        "found": list(inspection.found),
        "lacking": list(inspection.lacking),
        "damaged": list(inspection.damaged),
    }


def _show(console: Console, entry: "TaskEntry | InstructionEntry", inspection: "Inspection | None") -> None:
    """A task's headline with a mark, then one line for everything found, damaged and lacking."""
    if inspection is None:
        layout.sentence(console, f"{entry.name}: needs no files", True)
        return
    state = "damaged" if inspection.damaged else "complete" if inspection.complete else "not complete"
    if not inspection.found and not inspection.damaged:
        state = "not there"
    mark = True if inspection.complete else False if inspection.damaged else None
    layout.sentence(console, f"{entry.name}: {state}, in {inspection.folder}", mark)
    for line in (*inspection.found, *inspection.damaged, *inspection.lacking):
        console.print(f"    {line}")
    if inspection.lacking and entry.published and entry.published.files:
        console.print(f"    or run `ipfl data fetch {entry.name}`")


@contextmanager
def _progress(silent: bool) -> "Iterator[Progress | None]":
    """A bar with the time left on a screen; in a pipe, one line when a file begins and ends."""
    console = Console(stderr=True)
    if silent:
        yield None
    elif not console.is_terminal:
        yield _line_by_line(console)
    else:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            known: dict[str, Any] = {}

            def tell(file: Any, done: int) -> None:
                if (
                    file.name not in known
                ):  # the time left counts what came now, not what an earlier download left
                    known[file.name] = bars.add_task(file.name, total=file.num_bytes, completed=done)
                bars.update(known[file.name], completed=done)

            yield tell


def _line_by_line(console: Console) -> "Progress":
    begun: set[str] = set()

    def tell(file: Any, done: int) -> None:
        if file.name not in begun:
            begun.add(file.name)
            console.print(f"downloading {file} ...", highlight=False, soft_wrap=True)

    return tell


@contextmanager
def _telling_how_to_go_on() -> Iterator[None]:
    from ipfl.cli.main import INTERRUPTED

    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted; what came is kept: run the same command again to go on from there", err=True)
        click.get_current_context().exit(INTERRUPTED)


def _say(text: str, silent: bool) -> None:
    if not silent:
        click.echo(text)

"""`ipfl doctor`: what state a folder is in, and what to do."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from ipfl.cli import layout
from ipfl.cli.plugin_option import plugin_option

UNSOUND = 1
"""Exit code: the folder is damaged, or holds no run that could go on."""
SENTENCES = {
    "finished": "The run is finished. Rounds booked: {rounds}.",
    "paused": "The run is paused, and can go on. Rounds booked: {rounds} of {rounds_in_all}.",
    "in use": "The run is going on: a process is at work in the folder.",
    "not begun": "The run did not begin.",
    "damaged": "The run is damaged.",
    "no run": "There is no run here.",
}


@click.command(short_help="Say what state a run folder is in, and what to do.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON.")
def doctor(run_folder: Path, as_json: bool) -> None:
    """Say what state RUN_FOLDER is in after a crash, a loss of power or somebody's edits, and what to do.

    Nothing is changed: `ipfl run --resume` repairs what can be repaired.

    Exit codes: 0 finished, paused or in use; 1 damaged, not begun, or no run.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ipfl.upkeep.doctor import diagnose

    found = diagnose(run_folder)
    if as_json:
        layout.print_json(asdict(found) | {"sound": found.sound})
    else:
        console = Console()
        layout.sentence(console, SENTENCES[found.state].format(**asdict(found)), found.sound)
        for sentence in found.findings:
            mark = False if found.state == "damaged" else None
            layout.sentence(console, f"{layout.started(sentence)}.", mark)
        todo = Table.grid(padding=(0, 2, 0, 0))
        todo.add_row(Text("To do", "bold"), Text(f"{layout.started(found.advice)}."))
        console.print(todo)
    if not found.sound:
        sys.exit(UNSOUND)

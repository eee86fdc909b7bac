"""`ipfl doctor`: what state a folder is in, and what to do."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from ipfl.cli import layout

UNSOUND = 1
"""Exit code: the folder is damaged, or holds no run that could go on."""
SENTENCES = {
    "finished": "The run is finished: all {rounds} rounds are booked.",
    "paused": "The run is paused: {rounds} of {rounds_in_all} rounds are booked.",
    "in use": "The run is going on.",
    "not begun": "The run did not begin.",
    "damaged": "The folder is damaged.",
    "no run": "There is no run.",
}


@click.command(short_help="Say what state a run folder is in, and what to do.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON.")
def doctor(run_folder: Path, as_json: bool) -> None:
    """Say what state RUN_FOLDER is in after a crash, a loss of power or somebody's edits, and what to do.

    Nothing is repaired: `ipfl run --resume` repairs what can be repaired.

    Exit codes: 0 finished, paused or in use; 1 damaged, not begun, or no run.
    """
    from rich.console import Console
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
            layout.sentence(console, f"{sentence[0].upper()}{sentence[1:]}.", mark)
        console.print(Text.assemble(("To do", "bold"), f"  {found.advice}"), soft_wrap=True)
    if not found.sound:
        sys.exit(UNSOUND)

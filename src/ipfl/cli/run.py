"""`ipfl run`: one command from data to a market's verdict."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ipfl.cli.main import INTERRUPTED
from ipfl.cli.plugin_option import plugin_option
from ipfl.presets import load_config

if TYPE_CHECKING:
    from ipfl.experiment.events import Event, Watcher


@click.command(short_help="Run a market: train, clear, pay, every round.")
@click.argument("preset_or_file", required=False)
@click.option(
    "--data",
    "data",
    type=click.Path(path_type=Path),
    help="Your own data: a folder with one file per participant.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. --set market.lam=1 (repeatable).",
)
@click.option("--seed", type=int, help="Seed of everything random (the same as --set seed=N).")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder; default: the first free runs/NAME-NNN."
)
@click.option(
    "--resume",
    "resume_from",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go on with an interrupted run.",
)
@click.option("--force", is_flag=True, help="Replace the run folder that --out names.")
@click.option(
    "--track",
    "trackers",
    multiple=True,
    metavar="NAME[=WHERE]",
    help="Also log to tensorboard, mlflow or wandb (repeatable; offline unless told otherwise).",
)
@plugin_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors and the run folder.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as JSON at the end, and nothing else."
)
def run(
    preset_or_file: str | None,
    data: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    out: Path | None,
    resume_from: Path | None,
    force: bool,
    trackers: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run PRESET or FILE.toml (default: the preset `digits`).

    \b
    ipfl run                                      handwritten digits, 12 participants, under a minute
    ipfl run hospitals --seed 3 --out runs/h3
    ipfl run --data my-tables/                    one CSV, Parquet or .npz file per participant
    ipfl run --resume runs/digits-001
    """
    from ipfl.cli.watch import watching

    given = [preset_or_file, data, seed, out, *settings]
    if resume_from is not None and (force or any(value is not None for value in given)):
        raise click.UsageError("--resume goes on with what the folder says: it takes no other settings")
    if resume_from is None:
        config = load_config(preset_or_file, settings, data=data, seed=seed)
    with (
        tracked(trackers) as track,
        telling_how_to_go_on() as remember,
        watching(quiet=quiet or as_json) as show,
    ):
        from ipfl.experiment import resume as resume_run
        from ipfl.experiment import run as start_run

        def watch(event: "Event") -> None:
            remember(event)
            show(event)
            track(event)

        if resume_from is not None:
            result = resume_run(resume_from, watch=watch)
        else:
            result = start_run(config, out=out, force=force, watch=watch)
    from ipfl.report import write_page

    page = write_page(result.path)
    if as_json:
        click.echo((result.path / "summary.json").read_text(encoding="utf-8"), nl=False)
    elif quiet:
        click.echo(result.path)
    else:
        from rich.console import Console

        from ipfl.report import render_tables

        console = Console()
        render_tables(result, console)
        console.print(f"\nRun folder  {result.path}", highlight=False, soft_wrap=True)
        console.print(f"Page        {page}", highlight=False, soft_wrap=True)
        console.print(
            f"Money       ledger.db; check it: ipfl verify {result.path}", highlight=False, soft_wrap=True
        )


def tracked(asked: Sequence[str]) -> "AbstractContextManager[Watcher]":
    """The watcher that tells the trackers asked for; they are not even imported when there is none."""
    if not asked:
        return nullcontext(lambda event: None)
    from ipfl.trackers import tracking

    return tracking(asked)


@contextmanager
def telling_how_to_go_on() -> Iterator["Watcher"]:
    """After Ctrl-C, say where the finished rounds are; gives the watcher that learns it."""
    folder: list[Path] = []

    def remember(event: "Event") -> None:
        if not folder and hasattr(event, "folder"):
            folder.append(event.folder)

    try:
        yield remember
    except KeyboardInterrupt:
        if not folder:
            raise
        click.echo(
            f"interrupted; every finished round is on disk: go on with `ipfl run --resume {folder[0]}`",
            err=True,
        )
        click.get_current_context().exit(INTERRUPTED)

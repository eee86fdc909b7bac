"""`ipfl run`: one command from data to a market's verdict."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipfl.cli.main import INTERRUPTED
from ipfl.config import Config, parse_toml, read_toml, with_settings
from ipfl.errors import ConfigError
from ipfl.presets import preset_names, preset_text

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
        config = read_config(preset_or_file, data, settings, seed)
    with telling_how_to_go_on() as remember, watching(quiet=quiet or as_json) as show:
        from ipfl.experiment import resume as resume_run
        from ipfl.experiment import run as start_run

        def watch(event: "Event") -> None:
            remember(event)
            show(event)

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


def read_config(
    preset_or_file: str | None, data: Path | None, settings: tuple[str, ...], seed: int | None
) -> Config:
    """The configuration that the command's arguments ask for.

    Raises:
      ConfigError: no such preset or file, or a bad setting.
    """
    name = preset_or_file or ("own-data" if data is not None else "digits")
    if name in preset_names():
        where, tables = f"preset {name}", parse_toml(preset_text(name), f"preset {name}")
    elif name.endswith(".toml") or Path(name).exists():
        where, tables = name, read_toml(Path(name))
    else:
        near = difflib.get_close_matches(name, preset_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"presets: {', '.join(preset_names())}"
        raise ConfigError(f"there is no preset or file {name!r}; {hint} (a file's name ends in .toml)")
    if data is not None:
        tables["data"], tables["task"] = str(data.absolute()), "folder"
        if name in preset_names():
            _drop_shares(tables)
    tables = with_settings(tables, settings)
    if seed is not None:
        tables["seed"] = seed
    return Config.from_mapping(tables, where)


def _drop_shares(tables: dict[str, Any]) -> None:
    """Take out what a preset says of sharing out a common data set: files of one's own say who takes part.

    Who takes part with own data is honest and trades, unless said otherwise by --set or in a file of one's own.
    """
    tables.pop("partition", None)
    for key in ("count", "prefix", "buyers", "sellers", "attackers", "attack"):
        tables.get("participants", {}).pop(key, None)

"""`ipfl compare`: methods on one task, over seeds, as one table and one page."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ipfl.cli.main import INTERRUPTED
from ipfl.cli.plugin_option import plugin_option
from ipfl.presets import preset_of

if TYPE_CHECKING:
    from ipfl.comparison.pool import Progress, Watcher
    from ipfl.comparison.study import Results

Command = TypeVar("Command", bound=Callable[..., Any])


def grid_options(command: Command) -> Command:
    """The options that `ipfl compare` and `ipfl reproduce` share, in the order of their help pages."""
    options = [
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting (repeatable)."
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            metavar="N",
            default=0,
            help="Runs at a time.  [default: one per core]",
        ),
        click.option("--force", is_flag=True, help="Start over: take out the runs that the folder holds."),
        click.option("--quiet", is_flag=True, help="Print nothing but errors and the folder."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, and nothing else."),
    ]
    for option in reversed([*options, plugin_option]):
        command = option(command)
    return command


@click.command(short_help="Compare methods over seeds: one table, one page.")
@click.argument("preset_or_file", required=False)
@click.option(
    "--methods", default="all", show_default=True, metavar="all|A,B", help="The methods to compare."
)
@click.option(
    "--seeds", default="0-4", show_default=True, metavar="0-4|0,3", help="The seeds to run each with."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Your own data: a folder with one file per participant.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder.  [default: comparisons/NAME]"
)
@grid_options
def compare(
    preset_or_file: str | None,
    methods: str,
    seeds: str,
    data: Path | None,
    out: Path | None,
    settings: tuple[str, ...],
    workers: int,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare methods on PRESET or FILE.toml (default: the preset `digits`), every one on the same seeds.

    \b
    ipfl compare                                         all methods on the digits, 5 seeds
    ipfl compare hospitals --methods ipfl,local --seeds 0-9 --out comparisons/h
    ipfl compare --data my-tables/ --seeds 0-2

    Runs go side by side, one per core, each into a run folder of its own (DIR/runs/...). After any interruption the
    same command goes on where it was; more methods or seeds may be asked for later, and what is there is kept.
    DIR/comparison.csv, .md, .tex and .html hold what they come to, DIR/runs.csv the figures of each run.

    Exit codes: 0 done; 1 some runs failed (the others are kept and shown); 2 bad usage or input; 130 interrupted.
    """
    from ipfl.comparison.grid import Grid, Variant, parse_methods, parse_seeds

    name = _name(preset_or_file, data)
    grid = Grid(
        name="compare",
        base=preset_or_file,
        settings=settings,
        variants=(Variant(name),),
        methods=parse_methods(methods),
        seeds=parse_seeds(seeds),
        data=data,
    )
    folder = out or Path("comparisons") / name
    results = work_off(grid, folder, workers=workers, force=force, quiet=quiet or as_json)
    from ipfl.comparison.outputs import as_json as results_json
    from ipfl.comparison.outputs import comparison_table, write_comparison

    write_comparison(results, command_line())
    finish(
        results,
        lambda console: console.print(comparison_table(results, console.width)),
        lambda: results_json(results),
        page="comparison.html",
        quiet=quiet,
        as_json=as_json,
    )


def work_off(grid: Any, folder: Path, *, workers: int, force: bool, quiet: bool) -> "Results":
    """Run a grid in view of the terminal; after Ctrl-C, say how to go on."""
    from ipfl.cli.progress import watching_grid
    from ipfl.comparison.study import carry_out

    if not quiet:
        runs = len(grid.variants) * len(grid.methods) * len(grid.seeds)
        click.echo(f"{runs:,} runs into {folder}", err=True)
    with telling_how_to_go_on() as remember, watching_grid(quiet) as show:

        def watch(progress: "Progress") -> None:
            remember(progress)
            show(progress)

        results = carry_out(grid, folder, workers=workers, force=force, watch=watch)
    if not results.runs:
        for failure in results.failures:
            click.echo(f"failed: {failure.cell.name}: {failure.reason}", err=True)
        click.echo("error: no run was finished, so there is nothing to compare", err=True)
        click.get_current_context().exit(1)
    return results


def finish(
    results: "Results",
    show: Callable[[Any], None],
    content: Callable[[], Any],
    *,
    page: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print what was asked for, and end with 1 if a run failed."""
    if as_json:
        from ipfl.cli.layout import print_json

        print_json(content())
    elif quiet:
        click.echo(results.folder)
    else:
        from rich.console import Console

        console = Console()
        console.print()
        show(console)
        for note in results.notes:
            console.print(f"\n{note}", highlight=False, soft_wrap=True)
        console.print(f"\nFolder  {results.folder}", highlight=False, soft_wrap=True)
        console.print(f"Page    {results.folder / page}", highlight=False, soft_wrap=True)
    if results.failures:
        for failure in results.failures:
            click.echo(f"failed: {failure.cell.name}: {failure.reason}", err=True)
        count = len(results.failures)
        click.echo(
            f"error: {count} of {count + len(results.runs)} runs failed; the same command tries them again",
            err=True,
        )
        click.get_current_context().exit(1)


def command_line() -> str:
    """This command, to be typed again."""
    return shlex.join(["ipfl", *sys.argv[1:]])


@contextmanager
def telling_how_to_go_on() -> "Iterator[Watcher]":
    """After Ctrl-C, say what is kept; gives the watcher that learns it."""
    seen: list[Progress] = []

    def remember(progress: "Progress") -> None:
        seen[:] = [progress]

    try:
        yield remember
    except KeyboardInterrupt:
        if not seen:
            raise
        again = shlex.join(["ipfl", *(argument for argument in sys.argv[1:] if argument != "--force")])
        click.echo(
            f"interrupted; {seen[0].runs_done} of {seen[0].runs} runs and every finished round are on disk: go on with "
            f"`{again}`",
            err=True,
        )
        click.get_current_context().exit(INTERRUPTED)


def _name(preset_or_file: str | None, data: Path | None) -> str:
    """A folder's name for what is compared."""
    name = Path(preset_or_file).stem if preset_or_file else "digits" if data is None else preset_of(data)
    return (
        "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".")
        or "runs"
    )

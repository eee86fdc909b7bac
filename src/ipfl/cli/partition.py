"""`ipfl partition`: who has how many examples of which class, before anything is trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ipfl.cli.plugin_option import plugin_option
from ipfl.presets import load_config

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ipfl.config import Config
    from ipfl.types.partition import PartitionTable

SHADES = ((230, 237, 251), (23, 63, 156))
"""Colours of the smallest and the largest count."""


@click.command(short_help="Show who has how many examples of which class.")
@click.argument("preset_file_or_run", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="A folder of your own data.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. --set partition.kind=niid (repeatable).",
)
@click.option("--seed", type=int, help="The seed of every draw.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw it: FILE.png, .pdf or .svg (needs matplotlib).",
)
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def partition(
    preset_file_or_run: str | None,
    data: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Share the data out as PRESET or FILE.toml says (default: the preset `digits`), and show who has what.

    \b
    ipfl partition --set partition.kind=niid --set partition.alpha=0.1
    ipfl partition hospitals --seed 3 --plot who-has-what.png
    ipfl partition --data my-tables/
    ipfl partition runs/digits-001                what a run was run on
    """
    if plot is not None:
        from ipfl.cli.plot import check_plot

        check_plot(plot)
    run = Path(preset_file_or_run) if preset_file_or_run and Path(preset_file_or_run).is_dir() else None
    if run is not None:
        if settings or data is not None or seed is not None:
            raise click.UsageError(f"{run} is a run, which was shared out already: it takes no settings")
        task, table = _of_run(run)
    else:
        task, table = _of_config(load_config(preset_file_or_run, settings, data=data, seed=seed))
    if plot is not None:
        from ipfl.cli.partition_plot import draw

        draw(table, task, plot)
    if as_json:
        from ipfl.cli.layout import print_json

        print_json({"task": task} | table.to_json())
        return
    from rich.console import Console

    render(table, task, Console())
    if plot is not None:
        click.echo(f"Picture  {plot}")


def render(table: "PartitionTable", task: str, console: "Console") -> None:
    """Print the picture, what nobody has, and the hash."""
    from ipfl.cli.layout import sentence, show
    from ipfl.report.shares import describe

    show(console, f"Partition of {task}", "", _picture(table, console))
    sentence(console, describe(table))
    sizes = table.sizes
    sentence(
        console,
        f"{len(sizes):,} participants train on {int(sizes.sum()):,} examples: {int(sizes.min()):,} to "
        f"{int(sizes.max()):,} each, {_plural(int((table.train > 0).sum(axis=1).min()), 'class', 'classes')} "
        f"at least.",
    )
    if table.common is not None:
        sentence(console, f"{int(table.common.sum()):,} examples are kept for the common test set.")
    absent = [
        name for name, count in zip(table.class_names, table.train.sum(axis=0), strict=True) if not count
    ]
    if absent:
        listed = ", ".join(absent[:8]) + (" ..." if len(absent) > 8 else "")
        sentence(
            console, f"Nobody trains on {_plural(len(absent), 'class', 'classes')} ({listed}).", passed=False
        )
    console.print(f"\nSHA-256  {table.sha256}", highlight=False, soft_wrap=True)


def _of_run(folder: Path) -> "tuple[str, PartitionTable]":
    """What a run kept; a run from before partitions were kept is shared out again, which gives the same."""
    from ipfl.errors import RunFolderError
    from ipfl.run_folder import load_run, read_partition

    run = load_run(folder)
    kept = read_partition(folder)
    if kept is not None:
        return run.config.task, kept
    if run.environment.get("own_task"):
        raise RunFolderError(f"{folder} has no partition.json, and was run on data given in Python")
    return _of_config(run.config)


def _of_config(config: "Config") -> "tuple[str, PartitionTable]":
    from ipfl.data.any_task import task_of
    from ipfl.data.counts import partition_table

    if config.participants.file is not None:
        from ipfl.experiment.setup import resolve_participants_file  # imports torch: only where it is needed

        config = resolve_participants_file(config)
    task = task_of(config)
    return task.name, partition_table(task, config)


def _picture(table: "PartitionTable", console: "Console") -> "Table":
    """One row per participant; a shaded number for every class, or one bar for each where those do not fit."""
    from rich.text import Text

    from ipfl.cli.layout import ROWS_SHOWN, more
    from ipfl.cli.layout import table as empty_table
    from ipfl.report.shares import bars, levels

    splits = [name for name in ("train", "validation", "test") if getattr(table, name).any()]
    heads = {"validation": "valid."}
    totals = table.train.sum(axis=0)
    widths = [max(len(name), len(str(total))) for name, total in zip(table.class_names, totals, strict=True)]
    gap = 2  # between columns
    names = max(map(len, [*table.participant_ids, "participant"]))
    room = console.width - names - sum(gap + max(len(heads.get(name, name)), 7) for name in splits)
    needed = sum(gap + width for width in widths)
    if console.color_system is None:
        needed += gap + max(len(widths), len("by class"))
    numbers = needed <= room
    coloured = console.color_system is not None
    content = empty_table(
        ["participant", *(heads.get(name, name) for name in splits)], ["participant"], footer=True
    )
    if numbers:
        for name in table.class_names:
            content.add_column(Text(name), justify="right", no_wrap=True)
    if not (numbers and coloured):
        content.add_column("by class", no_wrap=True, overflow="crop")
    shades = levels(table.train)
    for index, name in enumerate(table.participant_ids[:ROWS_SHOWN]):
        cells: list[Text] = []
        if numbers:
            cells += [
                _cell(int(count), int(level), coloured)
                for count, level in zip(table.train[index], shades[index], strict=True)
            ]
        if not (numbers and coloured):
            cells.append(Text(bars(shades[index].tolist(), console.encoding)))
        content.add_row(Text(name), *(f"{getattr(table, split)[index].sum():,}" for split in splits), *cells)
    feet = ["total", *(f"{getattr(table, split).sum():,}" for split in splits)]
    feet += [str(total) for total in totals] if numbers else []
    for column, foot in zip(content.columns, feet, strict=False):
        column.footer = foot
    more(content, len(table.participant_ids) - ROWS_SHOWN, "--json")
    return content


def _cell(count: int, level: int, coloured: bool) -> "Text":
    """A count on its shade."""
    from rich.text import Text

    if count == 0 or not coloured:
        return Text(str(count) if count else "·", "" if count else "dim")
    low, high = SHADES
    share = (level - 1) / 8
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(low, high, strict=True))
    return Text(str(count), f"{'black' if level < 6 else 'white'} on rgb({red},{green},{blue})")


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"

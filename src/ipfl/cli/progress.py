"""Watching a grid of runs: a bar with the time left on a screen, a line per run in a file or a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from ipfl.comparison.pool import Progress, Watcher

_WORDS = {"run": "done", "run again": "done again", "kept": "kept", "resumed": "resumed and done"}


@contextmanager
def watching_grid(quiet: bool) -> "Iterator[Watcher]":
    """A watcher that suits the terminal."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif not console.is_terminal:
        yield lambda progress: _line(console, progress)
    else:
        with _live(console) as watch:
            yield watch


@contextmanager
def _live(console: Console) -> "Iterator[Watcher]":
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("[bold]{task.fields[runs]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bars(*columns, console=console, transient=True, expand=True) as bars:
        task = bars.add_task("runs", total=None, runs="setting up ...", left="")

        def watch(progress: "Progress") -> None:
            bars.update(
                task,
                total=progress.rounds_total,
                completed=progress.rounds_done,
                runs=f"{progress.runs_done}/{progress.runs} runs",
                left=time_left(progress.left_s),
            )
            if progress.ended == "failed":
                bars.console.print(f"failed: {progress.cell.name}", style="red", highlight=False)

        yield watch


def _line(console: Console, progress: "Progress") -> None:
    if progress.ended is None:
        return
    width = len(str(progress.runs))
    what = _WORDS.get(progress.ended, progress.ended)
    left = f"; {time_left(progress.left_s)}" if progress.runs_done < progress.runs and progress.left_s else ""
    console.print(
        f"{progress.runs_done:>{width}}/{progress.runs}  {progress.cell.name}: {what}{left}",
        highlight=False,
        soft_wrap=True,
    )


def time_left(seconds: float | None) -> str:
    """A time that is only a judgement, in words.

    >>> time_left(8), time_left(100), time_left(7000), time_left(None)
    ('about 10 s left', 'about 2 min left', 'about 1 h 57 min left', '')
    """
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    minutes = round(seconds / 60)
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"about {hours}{minutes % 60} min left"

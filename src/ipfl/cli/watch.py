"""Watching a run in the terminal: a live view on a screen, plain lines in a file or a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ipfl.experiment.events import Event, JobsDone, Preparing, RoundDone, RunStarted, Watcher
from ipfl.upkeep.reading import plain

TRADES_SHOWN = 8
BARS = "▁▂▃▄▅▆▇█"


@contextmanager
def watching(quiet: bool) -> Iterator[Watcher]:
    """A watcher that suits the terminal."""
    console = Console()
    if quiet:
        yield lambda event: None
    elif not console.is_terminal:
        yield PlainView(console)
    else:
        view = LiveView()
        with Live(view, console=console, refresh_per_second=8, transient=True):
            yield view


class PlainView:
    """One line per round."""

    def __init__(self, console: Console):
        self.console = console
        self.rounds = 0

    def __call__(self, event: Event) -> None:
        """Print what happened."""
        if isinstance(event, Preparing):
            self.console.print(f"{event.text} ...", highlight=False, soft_wrap=True)
        elif isinstance(event, RunStarted):
            self.rounds = event.config.rounds
            self.console.print(_headline(event), highlight=False, soft_wrap=True)
        elif isinstance(event, RoundDone):
            text = _round_text(event, self.rounds)
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)


class LiveView:
    """Progress with the time left, accuracy against alone, welfare, and the last round's trades."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("[bold]rounds"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            expand=True,
        )
        self.headline: RenderableType = Text("preparing data and models ...")
        self.lines: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.task = self.progress.add_task("rounds", total=None)

    def __call__(self, event: Event) -> None:
        """Take in what happened; rich draws when it is due."""
        if isinstance(event, Preparing):
            self.headline = Text(f"{event.text} ...")
        elif isinstance(event, RunStarted):
            self.headline = Text(_headline(event))
            self.first = event.first_round
            self.progress.reset(self.task, total=event.config.rounds, completed=event.first_round)
        elif isinstance(event, JobsDone):
            self.progress.update(self.task, completed=event.round_index + 0.9 * event.done / event.total)
        elif isinstance(event, RoundDone):
            self.lines.append(event.line)
            self.edges = event.edges
            self.progress.update(self.task, completed=event.line["round_index"] + 1)

    def __rich__(self) -> RenderableType:
        """The view as it stands."""
        parts: list[RenderableType] = [self.headline, self.progress]
        if self.lines:
            parts += [self._figures(), self._trades()]
        return Group(*parts)

    def _figures(self) -> Table:
        table = Table.grid(padding=(0, 2))
        series = {  # a mean is None in a round that nobody was measured in
            key: [line[key] for line in self.lines if line[key] is not None]
            for key in ("mean_accuracy", "mean_accuracy_alone", "welfare")
        }
        accuracies = series["mean_accuracy"] + series["mean_accuracy_alone"]
        low, high = min(accuracies, default=0.0), max(accuracies, default=1.0)
        for label, key, number, bounds in (
            ("mean accuracy of buyers", "mean_accuracy", "{:.1%}", (low, high)),
            ("  training alone", "mean_accuracy_alone", "{:.1%}", (low, high)),
            ("welfare of the round", "welfare", "{:.2f}", (0.0, max(series["welfare"]))),
        ):
            last = number.format(series[key][-1]) if series[key] else "not measured"
            table.add_row(label, Text(last, style="bold"), _spark(series[key], *bounds))
        return table

    def _trades(self) -> Table:
        last = self.lines[-1]["round_index"]
        table = Table(
            title=f"Trades of round {last}: {len(self.edges)}", title_justify="left", box=None, padding=(0, 2)
        )
        for name in ("buyer", "seller"):
            table.add_column(name)
        for name in ("distance", "payment"):
            table.add_column(name, justify="right")
        dearest = sorted(self.edges, key=lambda edge: -edge["payment"])
        for edge in dearest[:TRADES_SHOWN]:
            table.add_row(edge["buyer"], edge["seller"], f"{edge['distance']:.3f}", f"{edge['payment']:.3f}")
        if len(dearest) > TRADES_SHOWN:
            table.add_row(f"and {len(dearest) - TRADES_SHOWN} more", "", "", "")
        return table


def _headline(event: RunStarted) -> str:
    from ipfl.methods import WITH_A_MARKET

    config = event.config
    market = f"market {config.market.allocation}/{config.market.payment}"
    if config.method not in WITH_A_MARKET:
        market = "no market, nobody pays"
    resumed = f", going on from round {event.first_round}" if event.first_round else ""
    return (
        f"{config.method} on {config.task}: {len(event.participants)} participants, {config.rounds} rounds, "
        f"{config.model} with {event.num_params:,} parameters, {market}, seed {config.seed}{resumed}"
    )


def _round_text(event: RoundDone, rounds: int) -> str:
    line = event.line
    paid = sum(edge["payment"] for edge in event.edges)
    refused = "".join(
        f"; {entry['id']} refused: {plain(entry['refusal'])}"
        for entry in line["participants"]
        if entry["refusal"]
    )
    return (
        f"round {line['round_index'] + 1:>3}/{rounds}  accuracy {_share(line['mean_accuracy'])}  alone "
        f"{_share(line['mean_accuracy_alone'])}  welfare {line['welfare']:.2f}  trades {len(event.edges)}  "
        f"paid {paid:.2f}  {line['seconds']['total']:.1f} s{refused}"
    )


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _spark(values: list[float], low: float, high: float) -> Text:
    """The last 40 values as a line of bars."""
    span = (high - low) or 1.0
    shown = values[-40:]
    return Text("".join(BARS[min(7, max(0, int(8 * (value - low) / span)))] for value in shown), style="cyan")

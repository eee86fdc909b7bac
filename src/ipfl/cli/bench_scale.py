"""`ipfl bench memory` and `ipfl bench scale`: how a round grows with the number of participants."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ipfl.cli import layout
from ipfl.cli.bench_output import (
    finish,
    memory_of,
    outputs,
    say_machine,
    say_targets,
    seconds,
    teller,
    whole_numbers,
)


@click.command(short_help="Peak memory of a round, beyond the data.")
@click.option("--participants", type=int, default=1000, show_default=True, help="How many.")
@click.option(
    "--steps", type=int, default=2, show_default=True, help="Of local training; memory does not depend on it."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the data and of the training.")
@outputs
def memory(participants: int, steps: int, seed: int, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Measure the most memory that a round of iPFL holds beyond the data, with SimpleCNN (62,006 parameters).

    Exit codes: 0 done; 1 the target is missed, or the process died; 2 bad usage or input.
    """
    from ipfl.bench.memory import measure, memory_settings

    settings = memory_settings(participants, steps, seed)
    teller(quiet)(f"two rounds of {participants:,} participants")
    finish(measure(settings), render_memory, out, as_json)


@click.command(short_help="Rounds of up to 10,000 participants, markets of 100,000.")
@click.option("--sizes", metavar="LIST", help="Participants that train.  [default: 10,100,1000,10000]")
@click.option(
    "--market-sizes", metavar="LIST", help="Markets without training.  [default: 1000,10000,100000]"
)
@click.option(
    "--distance",
    type=click.Choice(["sketch", "exact"]),
    default="sketch",
    show_default=True,
    help="Of models.",
)
@click.option(
    "--candidates", type=int, default=20, show_default=True, help="Sellers on offer to each buyer; 0: all."
)
@click.option("--sketch-size", type=int, default=0, help="Numbers in a sketch.  [default: the market's]")
@click.option(
    "--steps", type=int, default=20, show_default=True, help="Of local training, with batches of 64."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the data and of the training.")
@outputs
def scale(
    sizes: str | None, market_sizes: str | None, distance: str, candidates: int, sketch_size: int, steps: int,
    seed: int, out: Path | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure rounds of iPFL with real training (digits MLP) by number of participants, then the market alone.

    Exit codes: 0 done; 1 the target is missed, or a process died; 2 bad usage or input.
    """
    from ipfl.bench.scale import MARKET_SIZES, SIZES, measure

    result = measure(
        SIZES if sizes is None else whole_numbers("--sizes", sizes),
        MARKET_SIZES if market_sizes is None else whole_numbers("--market-sizes", market_sizes),
        distance=distance,
        candidates=candidates,
        sketch_size=sketch_size,
        steps=steps,
        seed=seed,
        tell=teller(quiet),
    )
    finish(result, render_scale, out, as_json)


def render_memory(result: dict[str, Any], console: Console) -> None:
    """One sentence and the target."""
    found = result["measured"]
    matrix = 4 * found["participants"] * found["num_params"]
    layout.sentence(
        console,
        f"{found['participants']:,} participants of {found['num_params']:,} parameters: "
        f"{memory_of(result['beyond_bytes'])} beyond the data ({memory_of(found['data_bytes'])} with the "
        f"libraries); all models together are {memory_of(matrix)}.",
    )
    layout.sentence(console, f"A round took {seconds(found['median']['total'])} s.")
    say_machine(result, console)
    say_targets(result, console)


def render_scale(result: dict[str, Any], console: Console) -> None:
    """A table of rounds and one of markets."""
    layout.show(console, "Rounds", "median seconds; memory beyond the data", rounds_table(result["rounds"]))
    if result["markets"]:
        layout.show(
            console, "The market alone", "median seconds of clearing", markets_table(result["markets"])
        )
    say_machine(result, console)
    say_targets(result, console)


def rounds_table(rounds: list[dict[str, Any]]) -> Table:
    """One row per size."""
    shown = layout.table(
        ["m", "round", "training", "market", "evaluation", "ms each", "trades", "memory"], []
    )
    for entry in rounds:
        median = entry["median"]
        shown.add_row(
            f"{entry['participants']:,}",
            *(seconds(median[part]) for part in ("total", "train", "market", "evaluate")),
            f"{1000 * entry['seconds_per_participant']:.2f}",
            f"{entry['trades']:,}",
            memory_of(max(0, entry["peak_bytes"] - entry["data_bytes"])),
        )
    return shown


def markets_table(markets: list[dict[str, Any]]) -> Table:
    """One row per size."""
    shown = layout.table(["m", "candidates", "pairs", "seconds", "trades", "memory"], [])
    for entry in markets:
        shown.add_row(
            f"{entry['participants']:,}",
            f"{entry['candidates']:,}",
            f"{entry['pairs']:,}",
            seconds(entry["median_s"]),
            f"{entry['trades']:,}",
            memory_of(entry["peak_bytes"]),
        )
    return shown

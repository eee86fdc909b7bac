"""`ipfl bench market`: how long clearing takes, by size and rule."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
from ipfl.market.rules import RULES, resolve_rule


@click.command(short_help="Seconds and memory of clearing, by size and rule.")
@click.option(
    "--sizes", metavar="LIST", help="Numbers of participants.  [default: 10,30,100,300,1000,3000,10000]"
)
@click.option("--rules", metavar="LIST", help=f"Rule sets.  [default: {','.join(RULES)}]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the markets.")
@outputs
def market(
    sizes: str | None, rules: str | None, seed: int, out: Path | None, as_json: bool, quiet: bool
) -> None:
    """Measure how long clearing a market takes and how much memory, by number of participants and rule.

    Two baselines are measured in the same run: one root finder (scipy's fsolve) per pair of buyer and seller
    with payments in Python loops, up to 1,000 participants, and looking at every set of sellers, up to 12.
    What is not measured is marked with ~ and extrapolated. All sizes take several minutes and 2 GB.

    Exit codes: 0 done; 1 a target that was measured is missed; 2 bad usage or input.
    """
    from ipfl.bench.market import SIZES, measure

    result = measure(
        sizes=SIZES if sizes is None else whole_numbers("--sizes", sizes),
        rules=tuple(RULES) if rules is None else [name.strip() for name in rules.split(",")],
        seed=seed,
        tell=teller(quiet),
    )
    finish(result, render, out, as_json)


def render(result: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    layout.show(console, "Clearing", "median seconds; peak memory of the process", figures(result))
    say_machine(result, console)
    for text in notes(result):
        layout.sentence(console, text)
    say_targets(result, console)


def figures(result: dict[str, Any]) -> Table:
    """One row per size and job."""
    shown = layout.table(["m", "rule", "seconds", "memory", "trades", "objective", "fsolve takes"], ["rule"])
    fsolve = {entry["m"]: entry["median_s"] for entry in result["measurements"] if entry["job"] == "fsolve"}
    last = None
    for entry in result["measurements"]:
        m, job = entry["m"], entry["job"]
        if m != last and last is not None:
            shown.add_section()
        shown.add_row(
            f"{m:,}" if m != last else "",
            "/".join(resolve_rule(job)) if job in RULES else Text(job, "dim"),
            seconds(entry["median_s"]),
            memory_of(entry["peak_bytes"]),
            f"{entry['trades']:,}",
            f"{entry['objective']:,.2f}",
            _times(fsolve, m, entry["median_s"]) if job in RULES else "",
        )
        last = m
    return shown


def notes(result: dict[str, Any]) -> list[str]:
    """What the table needs said."""
    measured = {(entry["m"], entry["job"]): entry for entry in result["measurements"]}
    roots = [entry for (_, job), entry in measured.items() if job == "fsolve"]
    found = []
    if roots:
        largest = max(roots, key=lambda entry: entry["m"])
        share = largest["missed"] / max(1, largest["pairs"])
        found.append(
            f"fsolve: one root finder per pair, then Python loops, on one core; at m = {largest['m']:,} it "
            f"missed {share:.0%} of {largest['pairs']:,} roots. '~' is extrapolated from there by m squared."
        )
    for (m, job), entry in measured.items():
        exact = measured.get((m, "truthful"))
        if job == "brute-force" and exact is not None:
            agree = abs(entry["objective"] - exact["objective"]) <= 1e-9 * max(1.0, abs(exact["objective"]))
            found.append(
                f"Brute force over {entry['pairs']:,} sets at m = {m} "
                f"{'finds the same objective as' if agree else 'DIFFERS from'} exact/vcg."
            )
    gaps = [entry for entry in measured.values() if entry.get("max_gap")]
    if gaps:
        found.append(f"The node limit left a gap in {len(gaps)} of the markets.")
    return found


def _times(fsolve: dict[int, float], m: int, seconds: float) -> str:
    """How many times as long the root finders take; extrapolated by m squared beyond what was measured."""
    if m in fsolve:
        return f"{fsolve[m] / seconds:,.0f} x"
    if not fsolve:
        return "–"
    largest = max(fsolve)
    return f"~ {fsolve[largest] * (m / largest) ** 2 / seconds:,.0f} x"

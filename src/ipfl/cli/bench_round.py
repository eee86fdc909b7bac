"""`ipfl bench round` and `ipfl bench limits`: rounds beside those of peers, and what the cores can do at most."""

from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ipfl.cli import layout
from ipfl.cli.bench_output import finish, memory_of, outputs, say_machine, say_targets, seconds, teller

OURS = {
    "ipfl": "this package",
    "fedavg": "this package",
    "ipfl (one core)": "this package (one core)",
}
"""How our own systems are shown."""


@click.command("round", short_help="Seconds of a round, beside peers at equal work.")
@click.option(
    "--workloads",
    metavar="LIST",
    help="cifar, digits-9, digits-100, market-200, market-1000.  [default: all]",
)
@click.option("--methods", default="ipfl,fedavg", show_default=True, metavar="LIST", help="Ours.")
@click.option("--peers", metavar="LIST", help="all, or of: research_loop, plain_torch, flower_sim, pfl_sim.")
@click.option(
    "--peers-folder", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where their scripts are.  [default: benchmarks/peers]",
)  # fmt: skip
@click.option(
    "--peers-python", type=click.Path(path_type=Path), metavar="FILE",
    help="The interpreter that has flwr and pfl.  [default: .venv-peers/bin/python]",
)  # fmt: skip
@click.option(
    "--rounds", type=int, default=5, show_default=True, help="After one to warm up; medians are of these."
)
@click.option("--workers", type=int, default=0, show_default=True, help="Of our engine; 0: its own choice.")
@click.option("--block", type=int, default=0, show_default=True, help="Likewise.")
@click.option(
    "--steps", type=int, help="Of local training, instead of the workload's own; no target is judged then."
)
@click.option("--participants", type=int, help="Likewise.")
@click.option("--images", type=int, help="Training images of cifar, likewise; a fifth of them for testing.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the data and of the training.")
@click.option("--profile/--no-profile", default=True, help="Say where a round of ours goes.")
@outputs
def round_(
    workloads: str | None, methods: str, peers: str | None, peers_folder: Path | None, peers_python: Path | None,
    rounds: int, workers: int, block: int, steps: int | None, participants: int | None, images: int | None,
    seed: int, profile: bool, out: Path | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure rounds of iPFL and FedAvg: training, evaluation, market, memory.

    All systems get the same images, model, steps and batches, and take turns round by round. Evaluation: of iPFL every
    personal model on all test images, of FedAvg the common model once. Everything with all peers takes half an hour.

    Exit codes: 0 done; 1 a target that was measured is missed; 2 bad usage or input.

    \b
    ipfl bench round --workloads digits-9 --methods ipfl
    ipfl bench round --peers all --out round.json
    """
    from ipfl.bench.peers import PEERS, find_peers
    from ipfl.bench.round import measure
    from ipfl.bench.workloads import changed, choose

    chosen = choose(workloads)
    changes = {"steps": steps, "participants": participants, "train_images": images}
    names = list(PEERS) if peers == "all" else _names(peers or "")
    result = measure(
        [changed(workload, seed, **changes) for workload in chosen],
        methods=_names(methods),
        peers=find_peers(names, peers_folder, peers_python),
        rounds=rounds,
        workers=workers,
        block=block,
        profile=profile,
        promised=all(value is None for value in changes.values()),
        tell=teller(quiet),
    )
    finish(result, render, out, as_json)


@click.command(short_help="Matrix products and copies: what the cores can do at most.")
@outputs
def limits(out: Path | None, as_json: bool, quiet: bool) -> None:
    """Measure matrix products in float32 and copies of memory, on one core and on all.

    Exit codes: 0 done; 1 the measurement failed.
    """
    import datetime

    from ipfl.bench.machine import machine_facts
    from ipfl.bench.processes import in_child

    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = machine_facts()
    teller(quiet)("the limits of the cores")
    found = in_child("ipfl.bench.limits", [], "the limits of the cores")
    finish({"date": date, "machine": machine, "limits": found}, render_limits, out, as_json)


def render(result: dict[str, Any], console: Console) -> None:
    """The figures as tables, one for each workload."""
    for entry in result["workloads"]:
        settings = entry["settings"]
        note = f"{settings['participants']} participants, medians of {result['rounds']} rounds, seconds"
        if settings["source"] != "market":
            note += f"; {settings['model']}, {settings['steps']} steps of {settings['batch_size']}"
            build = partial(_training_table, entry)
            layout.show(console, entry["name"], note, layout.widest(console, build))
        else:
            layout.show(console, entry["name"], note, market_table(entry))
    if result["profiles"]:
        layout.show(console, "Where a round goes", "one worker, per cent", profile_table(result["profiles"]))
    _say_limits(result["limits"], console)
    say_machine(result, console)
    say_targets(result, console)


def render_limits(result: dict[str, Any], console: Console) -> None:
    """The limits in sentences."""
    _say_limits(result["limits"], console)
    say_machine(result, console)


def _training_table(entry: dict[str, Any], wide: bool, _fewer: int) -> Table:
    """One row per system; a narrow table leaves out the market and what was evaluated."""
    more = ["market", "images evaluated", "start-up", "first round"] if wide else []
    shown = layout.table(
        ["method", "system", "round", "training", "evaluation", *more, "memory"], ["method", "system"]
    )
    for method in dict.fromkeys(system["method"] for system in entry["systems"]):
        for system in entry["systems"]:
            if system["method"] != method:
                continue
            median = system["median"]
            images = int(median.get("images_evaluated", 0))
            others = [
                seconds(median["market"]) if median.get("market") else "–",
                f"{images:,}" if images else "–",
                seconds(system["start_up_s"]),
                seconds(system["warm_up"]["total"]),
            ]
            shown.add_row(
                method,
                OURS.get(system["system"], system["system"]),
                seconds(median["total"]),
                seconds(median["train"]),
                seconds(median["evaluate"]) if images else "–",
                *(others if wide else []),
                memory_of(system["peak_bytes"]),
            )
        shown.add_section()
    return shown


def market_table(entry: dict[str, Any]) -> Table:
    """One row per system; the parts are known of ours only."""
    shown = layout.table(
        ["system", "market", "distances", "graph", "proxies", "trades", "memory"], ["system"]
    )
    for system in entry["systems"]:
        median = system["median"]
        parts = [
            seconds(median[part]) if part in median else "–" for part in ("distances", "graph", "proxies")
        ]
        shown.add_row(
            OURS.get(system["system"], system["system"]),
            seconds(median["market"]),
            *parts,
            f"{int(median.get('trades', 0)):,}",
            memory_of(system["peak_bytes"]),
        )
    return shown


def profile_table(profiles: list[dict[str, Any]]) -> Table:
    """Parts of a round, and below the training what it consists of; one column per workload, of one method."""
    method = profiles[0]["method"]
    shown_profiles = [entry for entry in profiles if entry["method"] == method]
    shown = layout.table([method, *(entry["workload"] for entry in shown_profiles)], [method])
    for part in _ordered([entry["seconds"] for entry in shown_profiles]):
        shares = [
            entry["seconds"].get(part, 0.0) / sum(entry["seconds"].values()) for entry in shown_profiles
        ]
        shown.add_row(part, *map(_share, shares))
        if part == "training":
            for kind in _ordered([entry["training_shares"] for entry in shown_profiles]):
                within = [entry["training_shares"].get(kind, 0.0) for entry in shown_profiles]
                of_all = [share * part for share, part in zip(within, shares, strict=True)]
                shown.add_row(f"  {kind}", *map(_share, of_all))
    return shown


def _say_limits(limits: dict[str, Any], console: Console) -> None:
    for key, what, unit in (
        ("numpy_gflops", "Matrix product by NumPy", "GF/s"),
        ("torch_gflops", "Matrix product by torch", "GF/s"),
        ("copy_gb_per_s", "Copying memory", "GB/s"),
    ):
        found = limits[key]
        layout.sentence(console, f"{what}: {found['1']:.1f} {unit} on one core, {found['all']:.1f} on all.")


def _ordered(tables: list[dict[str, float]]) -> list[str]:
    """Every key once, in the order of first sight."""
    return list(dict.fromkeys(key for table in tables for key in table))


def _share(value: float) -> str:
    return f"{value:.1%}" if value > 0 else "–"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]

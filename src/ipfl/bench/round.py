"""Rounds of training and trading, ours beside those of peers, at equal work and taking turns.

Every system is a process of its own, set up once; then all do one round after the other, so that whatever else the
machine does falls on all alike. The first round of each is a warm-up. Medians are of the others.
"""

import datetime
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfl.bench import workloads
from ipfl.bench.machine import machine_facts
from ipfl.bench.peers import PEERS
from ipfl.bench.processes import Measurement, Paced, in_child
from ipfl.bench.round_targets import round_targets
from ipfl.bench.workloads import Workload
from ipfl.errors import ConfigError

METHODS = ("ipfl", "fedavg")
ROUNDS = 5
LOOP = "research_loop"
ONE_CORE = " (one core)"
"""Added to the name of a system that trains on one core, and does not evaluate."""


@dataclass(frozen=True)
class System:
    """One thing that is measured: its name, whose method it runs, and the command that starts it."""

    name: str
    method: str
    command: tuple[str, ...]


def measure(
    chosen: Sequence[Workload],
    *,
    methods: Sequence[str] = METHODS,
    peers: dict[str, list[str]] | None = None,
    rounds: int = ROUNDS,
    workers: int = 0,
    block: int = 0,
    profile: bool = True,
    promised: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure the workloads.

    Args:
      chosen: from `workloads.WORKLOADS`, or changed.
      methods: of ours.
      peers: the commands of peers, from `find_peers`.
      rounds: after the warm-up.
      workers, block: of our engine; 0: its own choice.
      profile: whether to say where a round of ours goes.
      promised: whether these are the workloads that the promised figures speak of.
      tell: called with a line on each step.
    Returns:
      A plain record: machine, limits, workloads with the systems measured on them, profiles, targets.
    Raises:
      ConfigError: no rounds, an unknown method; EngineError: a system failed.
    """
    if rounds < 1:
        raise ConfigError(f"rounds = {rounds}, expected at least 1")
    for method in methods:
        if method not in METHODS:
            raise ConfigError(f"unknown method {method!r}; this measures {' and '.join(METHODS)}")
    started = datetime.datetime.now(datetime.UTC)
    machine = machine_facts()
    tell("the limits of the cores")
    limits = in_child("ipfl.bench.limits", [], "the limits of the cores")
    found, profiles = [], []
    with tempfile.TemporaryDirectory(prefix="ipfl-bench-") as place:
        for workload in chosen:
            folder = Path(place) / workload.name
            tell(f"{workload.name}: making the data")
            workloads.write(workload, folder)
            systems = systems_for(workload, folder, methods, peers or {}, rounds, workers, block)
            found.append(_measured(workload, take_turns(systems, workload.name, rounds, tell)))
            if profile and workload.source != "market":
                for method in methods:
                    tell(f"{workload.name}: where a round of {method} goes")
                    arguments = [str(folder), method]
                    profiles.append(in_child("ipfl.bench.profile", arguments, f"{method} on {workload.name}"))
    return {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine,
        "limits": limits,
        "rounds": rounds,
        "workloads": found,
        "profiles": profiles,
        "targets": round_targets(found, limits) if promised else [],
        "seconds": (datetime.datetime.now(datetime.UTC) - started).total_seconds(),
    }


def systems_for(
    workload: Workload,
    folder: Path,
    methods: Sequence[str],
    peers: dict[str, list[str]],
    rounds: int,
    workers: int = 0,
    block: int = 0,
) -> list[System]:
    """What is measured on a workload: ours, the peers that run the same methods, and both on one core."""
    common = ["--rounds", str(rounds)]
    place = str(folder)
    if workload.source == "market":
        ours = (sys.executable, "-m", "ipfl.bench.market_step", place, *common)
        found = [System("ipfl", "ipfl", ours)] if "ipfl" in methods else []
        if LOOP in peers and workload.name != "market-1000":  # it would take a quarter of an hour for a round
            found.append(System(LOOP, "ipfl", (*peers[LOOP], place, *common, "--paced")))
        return found
    ours = (sys.executable, "-m", "ipfl.bench.ours", place)
    blocks = ["--block", str(block)]
    found = [
        System(method, method, (*ours, method, *common, "--workers", str(workers), *blocks))
        for method in methods
    ]
    threads = (
        ["--threads", "1"] if workload.model == "mlp" else []
    )  # a second brings nothing on so small a model
    for name, command in peers.items():
        if PEERS[name].method in methods:
            theirs = (*command, place, *common, "--paced")
            own = [] if name == "flower_sim" else threads
            found.append(System(name, PEERS[name].method, (*theirs, *own)))
    if LOOP in peers and "ipfl" in methods:
        alone = [*common, "--no-evaluation"]
        found.append(System("ipfl" + ONE_CORE, "ipfl", (*ours, "ipfl", *alone, "--workers", "1", *blocks)))
        found.append(
            System(LOOP + ONE_CORE, "ipfl", (*peers[LOOP], place, *alone, "--paced", "--threads", "1"))
        )
    return found


def take_turns(
    systems: Sequence[System], where: str, rounds: int, tell: Callable[[str], None] = lambda line: None
) -> list[tuple[System, Measurement]]:
    """Set all up, then one round of each after the other; the warm-up first."""
    with ExitStack() as stack:
        running, start_up = [], []
        for system in systems:
            tell(f"{where}: {system.name} is set up")
            began = time.perf_counter()
            started = stack.enter_context(Paced(f"{system.name} on {where}", system.command))
            started.wait_until_ready()
            running.append(started)
            start_up.append(time.perf_counter() - began)
        for index in range(1 + rounds):
            tell(f"{where}: " + (f"round {index} of {rounds}" if index else "warm-up"))
            for started in running:
                started.round()
        results = [started.result() for started in running]
    for result, taken in zip(results, start_up, strict=True):
        result["start_up_s"] = taken  # from the start of the process on, whatever it counted itself
    return list(zip(systems, results, strict=True))


def _measured(workload: Workload, results: Sequence[tuple[System, Measurement]]) -> dict[str, Any]:
    settings = dict(vars(workload))
    systems = []
    for system, result in results:
        result.pop("workload", None)
        systems.append({"system": system.name, "method": system.method, **result})
    return {"name": workload.name, "settings": settings, "systems": systems}

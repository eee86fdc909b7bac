"""Measuring `clear`: seconds and peak memory by market size and rule, beside two baselines.

Every measurement runs in a process of its own, so that its peak memory is its own. The first clearing of a
process (which loads the compiled search) is made on a small market and not counted.
"""

import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.errors import ConfigError, EngineError
from ipfl.market.clearing import clear
from ipfl.market.rules import RULES, resolve_rule
from ipfl.types.market import Bids

SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
LAM = 0.1
CLUSTERS = 10
MEDIAN_EXAMPLES = 5000
BLOCK = 256
"""Rows of the distance matrix that are made at once."""
FSOLVE_MAX = 1000
"""Participants up to which one root finder per pair is bearable; beyond it the table extrapolates."""
BRUTE_FORCE_MAX = 12
"""Participants up to which looking at every set is bearable."""
WARM_UP = 30

Measurement = dict[str, Any]


def make_market(m: int, seed: int = 0) -> tuple[Bids, np.ndarray]:
    """A market of m participants in clusters.

    Sizes are lognormal around 5000, one participant in five buys nothing, the others' valuations and all costs
    are spread over orders of magnitude. Distances are about 0.2 within a cluster and 0.9 across, made in
    blocks of rows: memory beyond the matrix stays O(BLOCK * m). Not symmetric to the last digit.
    """
    random = np.random.default_rng(seed)
    sizes = np.maximum(1, np.rint(random.lognormal(np.log(MEDIAN_EXAMPLES), 1.0, m)))
    valuation = np.where(random.uniform(size=m) < 0.2, 0.0, 10 ** random.uniform(4, 7, m))
    export_cost = 10 ** random.uniform(-2, 0.5, m)
    cluster = random.integers(0, CLUSTERS, m)
    distance = np.empty((m, m))
    for start in range(0, m, BLOCK):
        rows = slice(start, min(start + BLOCK, m))
        near = cluster[rows, None] == cluster[None, :]
        random.random(out=distance[rows])
        distance[rows] *= 0.2
        distance[rows] += np.where(near, np.float32(0.1), np.float32(0.8))
    np.fill_diagonal(distance, 0.0)
    return Bids(sizes, valuation, export_cost), distance


def repeats(m: int) -> int:
    """How often a market of m is cleared: several times while it is quick."""
    return 9 if m <= 100 else 5 if m <= 1000 else 3 if m <= 3000 else 1


def measure(
    sizes: Sequence[int] = SIZES,
    rules: Sequence[str] = tuple(RULES),
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure all sizes and rules, and the baselines where they are bearable.

    Args:
      sizes: numbers of participants.
      rules: names of rule sets.
      seed: of the markets.
      tell: called with a line on each step.
    Returns:
      A plain record: machine, measurements, baselines, targets.
    Raises:
      ConfigError: a size below 2; BidError: an unknown rule.
      EngineError: a measuring process died, e.g. for lack of memory.
    """
    for m in sizes:
        if m < 2:
            raise ConfigError(f"size {m} is too small, expected at least 2 participants")
    for rule in rules:
        resolve_rule(rule)
    started = datetime.datetime.now(datetime.UTC)
    machine = machine_facts()
    measurements = []
    for m, job in _jobs(sizes, rules):
        tell(f"m = {m:,}: {job}")
        measurements.append(_in_child(m, job, seed))
    return {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine,
        "lam": LAM,
        "seed": seed,
        "measurements": measurements,
        "targets": targets(measurements),
        "seconds": (datetime.datetime.now(datetime.UTC) - started).total_seconds(),
    }


def _jobs(sizes: Sequence[int], rules: Sequence[str]) -> Iterator[tuple[int, str]]:
    for m in sorted(set(sizes)):
        for rule in rules:
            yield m, rule
        if m <= FSOLVE_MAX:
            yield m, "fsolve"
        if m <= BRUTE_FORCE_MAX:
            yield m, "brute-force"


def _in_child(m: int, job: str, seed: int) -> Measurement:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "ipfl.bench.market", str(m), job, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise EngineError(f"measuring {job} at m = {m} failed: {last[0]}")
    measured: Measurement = json.loads(done.stdout)
    return measured


def measure_one(m: int, job: str, seed: int) -> Measurement:
    """Seconds, peak memory and what was found, in this process."""
    bids, distance = make_market(m, seed)
    inputs = peak_bytes()
    if job in RULES:
        found = _measure_rule(bids, distance, job)
    else:
        from ipfl.bench import baselines

        work = baselines.fsolve_market if job == "fsolve" else baselines.brute_force
        start = time.perf_counter()
        result = work(bids, distance, LAM)
        found = {
            "seconds": [time.perf_counter() - start],
            "trades": result.trades,
            "objective": result.objective,
            "pairs": result.pairs,
            "missed": result.missed,
        }
    return {
        "m": m,
        "job": job,
        "median_s": statistics.median(found["seconds"]),
        "peak_bytes": peak_bytes(),
        "inputs_peak_bytes": inputs,
        **found,
    }


def _measure_rule(bids: Bids, distance: np.ndarray, rule: str) -> dict[str, Any]:
    pair = resolve_rule(rule)
    clear(*make_market(WARM_UP), LAM, *pair)
    seconds = []
    found: dict[str, Any] = {}
    for _ in range(repeats(len(bids))):
        start = time.perf_counter()
        outcome = clear(bids, distance, LAM, *pair)
        seconds.append(time.perf_counter() - start)
        found = {
            "trades": int(outcome.allocation.sum()),
            "objective": outcome.objective,
            "max_gap": None if pair.allocation == "greedy" else float(outcome.gap.max()),
        }
        del outcome  # two outcomes are never held at once
    return {"seconds": seconds, **found}


def targets(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The figures that are promised, where the sizes and rules they speak of were measured."""
    by_place = {(entry["m"], entry["job"]): entry for entry in measurements}
    found = []

    def add(name: str, value: float, bound: float, at_least: bool = False) -> None:
        met = value >= bound if at_least else value <= bound
        found.append({"name": name, "value": value, "bound": bound, "at_least": at_least, "met": met})

    lean, fsolve = by_place.get((1000, "lean")), by_place.get((1000, "fsolve"))
    if lean and fsolve:
        times = fsolve["median_s"] / lean["median_s"]
        add("greedy/critical at m = 1000, times faster than fsolve", times, 300, at_least=True)
    if exact := by_place.get((1000, "truthful")):
        add("exact/vcg at m = 1000, seconds", exact["median_s"], 1.0)
    for rule in ("lean", "truthful"):
        if largest := by_place.get((10_000, rule)):
            pair = "/".join(resolve_rule(rule))
            add(f"{pair} at m = 10000, seconds", largest["median_s"], 60.0)
            add(f"{pair} at m = 10000, GB", largest["peak_bytes"] / 1e9, 4.0)
    return found


def machine_facts() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("ipfl", "numpy", "numba", "scipy")},
    }


def peak_bytes() -> int:
    """The most memory this process has held. Linux's own figure is that of the parent until one exceeds it."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(json.dumps(measure_one(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))

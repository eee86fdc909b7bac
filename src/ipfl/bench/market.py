"""Measuring `clear`: seconds and peak memory by market size and rule, beside two baselines.

Every measurement runs in a process of its own, so that its peak memory is its own. The first clearing of a
process (which loads the compiled search) is made on a small market and not counted.
"""

import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ipfl.bench.machine import machine_facts, peak_bytes
from ipfl.bench.processes import Measurement, in_child
from ipfl.bench.targets import Target, target
from ipfl.errors import ConfigError
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


def make_market(m: int, seed: int = 0) -> tuple[Bids, np.ndarray]:
    """A market of m participants in clusters.

    Sizes are lognormal around 5000, one participant in five buys nothing, the others' valuations and all costs
    are spread over orders of magnitude. Distances are about 0.2 within a cluster and 0.9 across, made in
    blocks of rows: memory beyond the matrix stays O(BLOCK * m). Not symmetric to the last digit.
    """
    random = np.random.default_rng(seed)
    bids = make_bids(m, random)
    cluster = random.integers(0, CLUSTERS, m)
    distance = np.empty((m, m))
    for start in range(0, m, BLOCK):
        rows = slice(start, min(start + BLOCK, m))
        near = cluster[rows, None] == cluster[None, :]
        random.random(out=distance[rows])
        distance[rows] *= 0.2
        distance[rows] += np.where(near, np.float32(0.1), np.float32(0.8))
    np.fill_diagonal(distance, 0.0)
    return bids, distance


def make_bids(m: int, random: np.random.Generator) -> Bids:
    """Bids as in `make_market`."""
    sizes = np.maximum(1, np.rint(random.lognormal(np.log(MEDIAN_EXAMPLES), 1.0, m)))
    valuation = np.where(random.uniform(size=m) < 0.2, 0.0, 10 ** random.uniform(4, 7, m))
    export_cost = 10 ** random.uniform(-2, 0.5, m)
    return Bids(sizes, valuation, export_cost)


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
        measurements.append(in_child("ipfl.bench.market", [str(m), job, str(seed)], f"{job} at m = {m}"))
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


def targets(measurements: Sequence[Measurement]) -> list[Target]:
    """The figures that are promised, where the sizes and rules they speak of were measured."""
    by_place = {(entry["m"], entry["job"]): entry for entry in measurements}
    found = []
    lean, fsolve = by_place.get((1000, "lean")), by_place.get((1000, "fsolve"))
    if lean and fsolve:
        times = fsolve["median_s"] / lean["median_s"]
        found.append(
            target("greedy/critical at m = 1000, times faster than fsolve", times, 300, at_least=True)
        )
    if exact := by_place.get((1000, "truthful")):
        found.append(target("exact/vcg at m = 1000, seconds", exact["median_s"], 1.0))
    for rule in ("lean", "truthful"):
        if largest := by_place.get((10_000, rule)):
            pair = "/".join(resolve_rule(rule))
            found.append(target(f"{pair} at m = 10000, seconds", largest["median_s"], 60.0))
            found.append(target(f"{pair} at m = 10000, GB", largest["peak_bytes"] / 1e9, 4.0))
    return found


if __name__ == "__main__":
    print(json.dumps(measure_one(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))

"""The market step alone, on given models: `python -m ipfl.bench.market_step FOLDER --rounds N`.

One round of it is what iPFL does between training and the next round: updates, distances, clearing, proxies.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.bench import workloads
from ipfl.bench.machine import resident_bytes
from ipfl.bench.meter import Meter, print_result
from ipfl.bench.ours import RULE
from ipfl.learning import proxies
from ipfl.market import Bids, Outcome, clear, cosine_distances, resolve_rule


def step(
    params: np.ndarray, theta_0: np.ndarray, bids: Bids, lam: float, eta: float
) -> tuple[dict[str, tuple[float, float]], Outcome]:
    """Wall and CPU seconds of the step's parts, and what the market decided."""
    taken: dict[str, tuple[float, float]] = {}

    def part(name: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        taken[name] = time.perf_counter() - wall, time.process_time() - cpu
        return result

    updates = params - theta_0
    distance = part("distances", lambda: cosine_distances(updates))
    outcome = part("graph", lambda: clear(bids, distance, lam, *resolve_rule(RULE)))
    ratios = bids.num_examples[None, :] / bids.num_examples[:, None]
    weights = np.where(outcome.allocation, ratios, 0.0)
    part("proxies", lambda: proxies(params, updates, updates, weights, eta))
    return taken, outcome


def measure(folder: Path, rounds: int, *, paced: bool) -> dict[str, Any]:
    """The parts of the step: distances, graph (with payments), proxies; `market` is all of it."""
    meter = Meter(rounds, paced=paced)
    workload = workloads.read(folder)
    params, theta_0 = workloads.read_array(folder, "params"), workloads.read_array(folder, "theta_0")
    sizes = workloads.read_array(folder, "num_examples")
    m, p = params.shape
    bids = Bids(sizes, np.full(m, workload.valuation), np.full(m, workload.export_cost))
    inputs = resident_bytes()
    for _ in meter.rounds():
        with meter.part("market"):
            taken, outcome = step(params, theta_0, bids, workload.lam, workload.eta)
        for name, seconds in taken.items():
            meter.add(name, *seconds)
        meter.say(trades=int(outcome.allocation.sum()))
    return meter.report(gram_flops=2 * m * m * p, inputs_bytes=inputs, num_params=p)


def main() -> None:
    """One process of `ipfl bench round`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, required=True)
    given = parser.parse_args()
    print_result(measure(given.folder, given.rounds, paced=True))


if __name__ == "__main__":
    main()

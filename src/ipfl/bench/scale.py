"""Rounds of ever more participants, with real training, and the market alone beyond: `ipfl bench scale`."""

import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ipfl.bench.federation import Settings, measure_rounds
from ipfl.bench.machine import machine_facts, peak_bytes, resident_bytes
from ipfl.bench.market import LAM, make_bids
from ipfl.bench.memory import PARTICIPANTS_MIN, parse_settings
from ipfl.bench.meter import print_result
from ipfl.bench.processes import Measurement, in_child
from ipfl.bench.targets import Target, target
from ipfl.config.sections import Rule
from ipfl.errors import ConfigError
from ipfl.market import clear, resolve_rule

SIZES = (10, 100, 1000, 10_000)
MARKET_SIZES = (1000, 10_000, 100_000)
CANDIDATES = 20
GROWTH = 1.5
"""Times as long per participant at 10,000 as at 100, at most."""
RULE: Rule = "truthful"


def rounds_at(m: int) -> int:
    """How many rounds are measured at m participants: several while they are quick."""
    return 5 if m <= 1000 else 2


def measure(
    sizes: Sequence[int] = SIZES,
    market_sizes: Sequence[int] = MARKET_SIZES,
    *,
    distance: str = "sketch",
    candidates: int = CANDIDATES,
    sketch_size: int = 0,
    steps: int = 20,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Rounds of each size, each in a process of its own, then markets.

    Args:
      sizes: numbers of participants that train the digits' MLP on images of their own.
      market_sizes: numbers of participants of markets without training.
      distance, candidates, sketch_size: of the market, as in its configuration; with fewer participants than
        candidates, everybody is one.
      steps: of local training.
      seed: of everything drawn.
      tell: called with a line on each step.
    Raises:
      ConfigError: a size below 2, or settings that the market does not have; EngineError: a process died.
    """
    for m in (*sizes, *market_sizes):
        if m < PARTICIPANTS_MIN:
            raise ConfigError(f"size {m} is too small, expected at least {PARTICIPANTS_MIN} participants")
    if candidates < 0 or steps < 1:
        raise ConfigError(f"candidates = {candidates} and steps = {steps}, expected at least 0 and 1")
    started = datetime.datetime.now(datetime.UTC)
    machine = machine_facts()
    chosen = [
        Settings(
            m,
            rule=RULE,
            steps=steps,
            rounds=rounds_at(m),
            distance=distance,
            candidates=candidates if candidates < m else 0,
            sketch_size=sketch_size,
            seed=seed,
        )
        for m in sorted(set(sizes))
    ]
    for settings in chosen:
        settings.market()  # refuses what the market does not have, before anything is measured
    found = []
    for settings in chosen:
        tell(f"m = {settings.participants:,}: rounds")
        arguments = ["rounds", json.dumps(asdict(settings))]
        found.append(
            in_child("ipfl.bench.scale", arguments, f"rounds of {settings.participants} participants")
        )
    markets = []
    for m in sorted(set(market_sizes)):
        tell(f"m = {m:,}: the market alone")
        arguments = ["market", json.dumps({"m": m, "candidates": candidates or CANDIDATES, "seed": seed})]
        markets.append(in_child("ipfl.bench.scale", arguments, f"a market of {m} participants"))
    return {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine,
        "seed": seed,
        "rounds": found,
        "markets": markets,
        "targets": targets(found) if steps == Settings.steps else [],
        "seconds": (datetime.datetime.now(datetime.UTC) - started).total_seconds(),
    }


def targets(found: Sequence[Measurement]) -> list[Target]:
    """The promises, where the sizes they speak of were measured."""
    by_size = {entry["participants"]: entry for entry in found}
    few, many = by_size.get(100), by_size.get(10_000)
    if few is None or many is None:
        return []
    growth = many["seconds_per_participant"] / few["seconds_per_participant"]
    return [target("seconds per participant at m = 10000, times those at m = 100", growth, GROWTH)]


def sparse_market(m: int, candidates: int, seed: int) -> csr_array:
    """Distances of every buyer to about so many sellers drawn at random, in [0.1, 1]."""
    rng = np.random.default_rng(seed)
    buyers = np.repeat(np.arange(m), min(candidates, m - 1))
    sellers = rng.integers(0, m - 1, len(buyers))
    sellers += sellers >= buyers
    pairs = np.unique(buyers * m + sellers)
    values = rng.uniform(0.1, 1.0, len(pairs))
    return csr_array((values, (pairs // m, pairs % m)), shape=(m, m))


def measure_market(m: int, candidates: int, seed: int) -> Measurement:
    """Clearing alone, where every buyer has a few candidates."""
    bids, distance = make_bids(m, np.random.default_rng(seed)), sparse_market(m, candidates, seed)
    pair = resolve_rule(RULE)
    clear(make_bids(30, np.random.default_rng(seed)), sparse_market(30, candidates, seed), LAM, *pair)
    inputs, seconds = resident_bytes(), []
    outcome = None
    for _ in range(rounds_at(m)):
        del outcome
        start = time.perf_counter()
        outcome = clear(bids, distance, LAM, *pair)
        seconds.append(time.perf_counter() - start)
    return {
        "participants": m,
        "candidates": candidates,
        "rule": RULE,
        "pairs": int(distance.nnz),
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "trades": int(outcome.allocation.sum()) if outcome is not None else 0,
        "inputs_bytes": inputs,
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    if sys.argv[1] == "rounds":
        print_result(measure_rounds(parse_settings(sys.argv[2])))
    else:
        print_result(measure_market(**json.loads(sys.argv[2])))

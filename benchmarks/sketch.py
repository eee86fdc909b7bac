"""How well do sketches stand in for updates? Graphs, errors, and the search for neighbours.

    python benchmarks/sketch.py [--seeds 0-2] [--sizes 1024,2048,4096]

1. The digits preset is run; every round's graph is cleared again from sketches of the same published updates. The share
   of edges that agree is that of edges in both graphs among edges in either.
2. The standard deviation of distances between independent and between alike random updates, beside what
   `ipfl.market.sketch_error` states.
3. Candidates by looking at every pair and by searching (faiss), on noisy clusters: seconds, and how many of the true
   neighbours were found.

Writes benchmarks/results/sketch.json.
"""

import argparse
import json
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

import ipfl
import ipfl.methods.ipfl as method
from ipfl.bench.machine import machine_facts
from ipfl.comparison.grid import parse_seeds
from ipfl.market import clear, cosine_distances, nearest, sketch, sketch_error

RESULTS = Path(__file__).parent / "results" / "sketch.json"
NUM_PARAMS, PAIRS, CANDIDATES = 62_006, 60, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--sizes", default="1024,2048,4096")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    content = {
        "date": date.today().isoformat(),
        "machine": machine_facts(),
        "graphs": [row for seed in parse_seeds(options.seeds) for row in graphs(seed, sizes)],
        "errors": [row for size in sizes for row in errors(size)],
        "neighbours": [neighbours(m) for m in (1000, 5000, 10_000)],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def graphs(seed: int, sizes: list[int]) -> list[dict[str, float]]:
    """One run of the digits preset, and the edges of its graphs beside those of sketches."""
    seen = []
    measured = method.market_distances

    def remember(federation, published, present):
        distance = measured(federation, published, present)
        seen.append((federation, published.copy(), distance))
        return distance

    method.market_distances = remember
    try:
        with tempfile.TemporaryDirectory() as parent:
            config = ipfl.load_config("digits").model_copy(update={"seed": seed})
            ipfl.run(config, out=Path(parent) / "run")
    finally:
        method.market_distances = measured
    rows = []
    for size in sizes:
        both = either = 0
        for federation, published, distance in seen:
            arguments = (federation.market.lam, *federation.rule)
            exact = clear(federation.bids, distance, *arguments).allocation
            apart = cosine_distances(sketch(published, size, seed))
            estimated = clear(federation.bids, apart, *arguments).allocation
            both += int((exact & estimated).sum())
            either += int((exact | estimated).sum())
        rows.append({"seed": seed, "size": size, "edges": either, "agree": both / either})
        print(
            f"digits, seed {seed}, sketches of {size}: {both} of {either} edges agree, {both / either:.1%}",
            flush=True,
        )
    return rows


def errors(size: int) -> list[dict[str, float]]:
    """What distances by sketch are off by, for pairs of updates with a given cosine."""
    random = np.random.default_rng(0)
    rows = []
    for cosine in (0.0, 0.8):
        off = []
        for draw in range(PAIRS):
            first, other = random.normal(size=(2, NUM_PARAMS))
            other -= first * (first @ other) / (first @ first)
            other *= np.linalg.norm(first) / np.linalg.norm(other)
            pair = np.stack([first, cosine * first + np.sqrt(1 - cosine**2) * other]).astype(np.float32)
            off.append(cosine_distances(sketch(pair, size, draw))[0, 1] - (1 - cosine))
        found, stated = float(np.std(off)), sketch_error(NUM_PARAMS, size, cosine)
        rows.append({"size": size, "cosine": cosine, "measured": found, "stated": stated})
        print(f"sketches of {size}, cosine {cosine}: off by {found:.4f}, stated {stated:.4f}", flush=True)
    return rows


def neighbours(m: int, size: int = 1024) -> dict[str, float]:
    """The nearest of participants in clusters of a hundred, of which noise is half."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((m // 100, size), dtype=np.float32)
    sketches = centres[random.integers(0, len(centres), m)] + random.standard_normal(
        (m, size), dtype=np.float32
    )
    seconds, found = {}, {}
    for search in (False, True):
        started = time.perf_counter()
        found[search] = nearest(sketches, CANDIDATES, search)
        seconds[search] = time.perf_counter() - started
    share = found[True].multiply(found[False]).nnz / found[False].nnz
    apart = {search: float(matrix.data.mean()) for search, matrix in found.items()}
    print(
        f"m = {m:,}: every pair {seconds[False]:.1f} s, search {seconds[True]:.1f} s and {share:.0%} of the nearest "
        f"{CANDIDATES}; mean distance {apart[False]:.4f} and {apart[True]:.4f}",
        flush=True,
    )
    return {
        "m": m,
        "every_pair_s": seconds[False],
        "search_s": seconds[True],
        "found": share,
        "distance": apart[False],
        "distance_found": apart[True],
    }


if __name__ == "__main__":
    main()

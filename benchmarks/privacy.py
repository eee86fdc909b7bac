"""What private training costs in accuracy: the digits under rising noise, with the epsilon that it brings.

    python benchmarks/privacy.py [--seeds 0-2] [--show]

Nine participants with all their examples as in the preset `paper` (method iPFL, model mlp, 10 rounds), `[privacy]` with
max_grad_norm = 1 and delta = 1e-3. Accuracy is that of the participants that buy, after the last round; epsilon is the
largest of any participant. Intervals are 95 % over seeds (Student's t). Puts its table into docs/privacy.md between
<!-- privacy --> and <!-- /privacy -->, and writes benchmarks/results/privacy.json.
"""

import argparse
import json
import math
import re
import statistics
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from scipy import stats

import ipfl
from ipfl.bench.machine import machine_facts

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "privacy.json", HERE.parent / "docs" / "privacy.md"
NOISE = (None, 0.5, 1.0, 2.0, 4.0)
SETTINGS = ["method=ipfl", "model=mlp", "rounds=10", "partition.kind=cluster"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--show", action="store_true", help="print the stored figures again, run nothing")
    args = parser.parse_args()
    if args.show:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]))
        return
    low, _, high = args.seeds.partition("-")
    seeds = range(int(low), int(high or low) + 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for noise in NOISE:
            rows.append({"noise": noise, "runs": [one(Path(folder), noise, seed) for seed in seeds]})
            print(json.dumps(rows[-1]), flush=True)
    content = {
        "date": date.today().isoformat(),
        "machine": machine_facts(),
        "seeds": list(seeds),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile("<!-- privacy -->.*?<!-- /privacy -->", re.DOTALL)
    table = f"<!-- privacy -->\n{markdown(rows)}\n<!-- /privacy -->"
    PAGE.write_text(inside.sub(lambda _: table, page), encoding="utf-8")


def one(folder: Path, noise: float | None, seed: int) -> dict[str, float]:
    settings = SETTINGS + (
        [] if noise is None else [f"privacy.noise_multiplier={noise}", "privacy.delta=1e-3"]
    )
    run = ipfl.run(ipfl.load_config("paper", settings, seed=seed), out=folder / "run", force=True)
    summary, last = run.summary or {}, run.rounds[-1]["participants"]
    return {
        "accuracy": summary["mean_accuracy"],
        "alone": summary["mean_accuracy_alone"],
        "epsilon": max(entry.get("epsilon", math.inf) for entry in last),
        "examples": min(person["num_examples"] for person in summary["participants"]),
        "trades": len(run.edges),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| noise_multiplier | epsilon | accuracy with the market | trades a run |", "|---|---|---|---|"]
    for row in rows:
        runs = row["runs"]
        mean, half = interval([run["accuracy"] for run in runs])
        epsilon = "none" if row["noise"] is None else f"{max(run['epsilon'] for run in runs):.3g}"
        trades = statistics.mean(run["trades"] for run in runs)
        noise = "no [privacy]" if row["noise"] is None else f"{row['noise']:g}"
        lines.append(f"| {noise} | {epsilon} | {100 * mean:.1f} ± {100 * half:.1f} % | {trades:.0f} |")
    alone, half = interval([run["alone"] for run in rows[0]["runs"]])
    fewest = min(run["examples"] for row in rows for run in row["runs"])
    lines.append("")
    lines.append(
        f"Alone, which is never private: {100 * alone:.1f} ± {100 * half:.1f} %. {len(rows[0]['runs'])} seeds; the "
        f"smallest participant has {fewest:.0f} examples."
    )
    return "\n".join(lines)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width."""
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(half)


if __name__ == "__main__":
    main()

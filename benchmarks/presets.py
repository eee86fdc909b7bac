"""Does the market pay? Every preset over seeds: accuracy against training alone, money, what attackers earn.

    python benchmarks/presets.py [--seeds 0-9] [--presets digits,hospitals] [--rules truthful,paper]

Each run is a process of its own (`ipfl run`), so seconds and peak memory are those of the command. Prints a
table and writes benchmarks/results/presets.json. Intervals are 95 % (Student's t over seeds).
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from ipfl import load_run
from ipfl.run_folder import Run

RESULTS = Path(__file__).parent / "results" / "presets.json"
CHOSEN_ON = (0, 1, 2)
"""Seeds that the presets' settings were chosen on: the others are the fairer test."""
HARDER = {"hospitals": [["market.rule=truthful", "partition.alpha=2.0"]]}
"""Settings under which a preset does worse, shown beside it."""
CLI = [sys.executable, "-m", "ipfl"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--presets", default="digits,hospitals")
    parser.add_argument("--rules", default="truthful,paper")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="print the stored figures again, measure nothing")
    options = parser.parse_args()
    if options.show:
        print("\n".join(markdown(json.loads(options.out.read_text(encoding="utf-8"))["rows"])))
        return
    seeds = parse_seeds(options.seeds)
    rows = []
    for preset in options.presets.split(","):
        for settings in (
            *([f"market.rule={rule}"] for rule in options.rules.split(",")),
            *HARDER.get(preset, ()),
        ):
            runs = [measure(preset, settings, seed) for seed in seeds]
            rows.append({"preset": preset, "settings": settings, "runs": runs} | over_seeds(runs))
            print(sentence(rows[-1]), flush=True)
    options.out.parent.mkdir(exist_ok=True)
    facts = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "seeds": seeds,
    }
    options.out.write_text(json.dumps(facts | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
    print()
    print("\n".join(markdown(rows)))


def measure(preset: str, settings: list[str], seed: int) -> dict[str, object]:
    """One `ipfl run`, in a process of its own."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [*CLI, "run", preset, "--seed", str(seed), "--out", str(folder), "--quiet"]
        started = time.perf_counter()
        changes = [word for setting in settings for word in ("--set", setting)]
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        process = os.posix_spawn(sys.executable, [*command, *changes], os.environ, file_actions=quiet)
        _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        run = load_run(folder)
        return facts_of(run) | {
            "seed": seed,
            "seconds": seconds,
            "peak_mib": usage.ru_maxrss / 1024,
        }


def facts_of(run: Run) -> dict[str, object]:
    """What a finished run shows."""
    summary = run.summary or {}
    attackers = {row.id for row in run.config.participants.rows if row.kind == "attacker"}
    honest = [entry for line in run.rounds for entry in line["participants"] if entry["id"] not in attackers]
    sold = [edge for edge in run.edges if edge["seller"] in attackers]
    buyers = [row for row in summary["participants"] if row["valuation"] > 0 and row["id"] not in attackers]
    return {
        "accuracy": summary["mean_accuracy"],
        "accuracy_alone": summary["mean_accuracy_alone"],
        "better": sum(row["accuracy"] > row["accuracy_alone"] for row in buyers),
        "worse": sum(row["accuracy"] < row["accuracy_alone"] for row in buyers),
        "buyers": len(buyers),
        "least_utility": min(entry["utility"] for entry in honest),
        "imbalance": summary["budget_imbalance"],
        "trades": len(run.edges),
        "attackers_sold": len(sold),
        "attackers_sold_after_round_1": sum(edge["round_index"] > 1 for edge in sold),
        "attackers_received": sum(edge["payment"] for edge in sold),
        "received_by_all": sum(edge["payment"] for edge in run.edges),
        "total_utility": summary["total_utility"],
    }


def over_seeds(runs: list[dict[str, object]]) -> dict[str, float]:
    """Means, and the half-width of the interval of the difference in accuracy."""
    gained = [100 * (run["accuracy"] - run["accuracy_alone"]) for run in runs]
    half = np.nan
    if len(gained) > 1:
        half = stats.t.ppf(0.975, len(gained) - 1) * np.std(gained, ddof=1) / np.sqrt(len(gained))
    return {
        "points_gained": float(np.mean(gained)),
        "points_gained_ci": float(half),
        "accuracy": float(np.mean([run["accuracy"] for run in runs])),
        "accuracy_alone": float(np.mean([run["accuracy_alone"] for run in runs])),
        "least_utility": min(run["least_utility"] for run in runs),
        "largest_imbalance": max(abs(run["imbalance"]) for run in runs),
        "attackers_sold": sum(run["attackers_sold"] for run in runs),
        "seconds": float(np.median([run["seconds"] for run in runs])),
        "peak_mib": max(run["peak_mib"] for run in runs),
    }


def sentence(row: dict[str, object]) -> str:
    """One line while the benchmark goes on."""
    each = ", ".join(f"{100 * (run['accuracy'] - run['accuracy_alone']):+.2f}" for run in row["runs"])
    name = f"{row['preset']} {' '.join(row['settings'])}"
    return f"{name}: {row['points_gained']:+.2f} points ({each}), {row['seconds']:.1f} s"


def markdown(rows: list[dict[str, object]]) -> list[str]:
    """The table of README.md."""
    lines = [
        "| preset | settings | accuracy, alone → market | points gained (95 % interval) "
        "| seeds 0-2 / the others | better / worse off "
        "| least utility of a round | imbalance | attacker's sales | its share of all income | seconds | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        runs = row["runs"]
        better, worse, buyers = (sum(run[key] for run in runs) for key in ("better", "worse", "buyers"))
        income = sum(run["received_by_all"] for run in runs)
        share = sum(run["attackers_received"] for run in runs) / income if income else 0.0
        lines.append(
            f"| {row['preset']} | {', '.join(row['settings'])} | {row['accuracy_alone']:.1%} → {row['accuracy']:.1%} "
            f"| {row['points_gained']:+.2f} ± {row['points_gained_ci']:.2f} "
            f"| {gained(runs, True)} / {gained(runs, False)} "
            f"| {better} / {worse} of {buyers} "
            f"| {row['least_utility']:.3f} | {row['largest_imbalance']:g} | {row['attackers_sold']} "
            f"| {share:.1%} | {row['seconds']:.1f} | {row['peak_mib']:.0f} |"
        )
    return lines


def gained(runs: list[dict[str, object]], chosen_on: bool) -> str:
    """Mean points gained on the seeds that settings were chosen on, or on the others."""
    points = [
        100 * (run["accuracy"] - run["accuracy_alone"])
        for run in runs
        if (run["seed"] in CHOSEN_ON) == chosen_on
    ]
    return f"{np.mean(points):+.2f}" if points else "-"


def parse_seeds(text: str) -> list[int]:
    """'0-2' or '0,3,5'."""
    if "-" in text:
        first, last = text.split("-")
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()

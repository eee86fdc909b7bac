"""Every method on the digits against figures measured with an independent implementation of the same methods.

    python benchmarks/reference.py [--seeds 0-4] [--out comparisons/reference] [--show]

Runs (or goes on with) `ipfl reproduce fig2` and, for K = 1e5, `ipfl reproduce fig3 --methods ipfl`, in two
folders under --out: the paper's set-up and rule on the digits in three partitions. The other implementation's
figures (three seeds, mean and standard deviation) are in reference_figures.json. "Best" is the mean over
participants of their best round on the common test set, weighted by their own classes; utility is summed over
rounds and averaged over participants. Differences carry 95 % intervals (Welch). Prints Markdown and writes
results/reference.json.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
from results import put
from scipy import stats

from ipfl import Run, load_run
from ipfl.methods import METHODS

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "reference.json"
FIGURES = HERE / "reference_figures.json"
PARTITIONS = ("cluster", "niid", "skew")
K = (1e4, 1e5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("comparisons/reference"))
    parser.add_argument("--show", action="store_true", help="print the stored figures again, measure nothing")
    options = parser.parse_args()
    if not options.show:
        folders = [options.out / "k1e4", options.out / "k1e5"]
        reproduce("fig2", options.seeds, folders[0])
        valuation = ["--methods", "ipfl", "--set", "participants.valuation=100000"]
        reproduce("fig3", options.seeds, folders[1], *valuation)
        runs = [figures_of(run) for folder in folders for run in runs_in(folder)]
        facts = {
            "date": date.today().isoformat(),
            "python": platform.python_version(),
            "seeds": options.seeds,
        }
        RESULTS.write_text(json.dumps(facts | {"runs": runs}, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    table = "\n".join(markdown(stored["runs"], json.loads(FIGURES.read_text(encoding="utf-8"))))
    print(table)
    put("reference", table)
    table = "\n".join(claims(stored["runs"]))
    print(table)
    put("claims", table)


def reproduce(figure: str, seeds: str, folder: Path, *more: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ipfl",
        "reproduce",
        figure,
        "--seeds",
        seeds,
        "--out",
        str(folder),
        *more,
    ]
    subprocess.run(command, check=True)


def runs_in(folder: Path) -> Iterator[Run]:
    for path in sorted(folder.glob("runs/*/*/seed-*")):
        yield load_run(path)


def figures_of(run: Run) -> dict[str, object]:
    """One run: accuracy in per cent, utility for its K and, without a market, for any K."""
    summary, config = run.summary, run.config
    assert summary is not None
    rows = summary["participants"]
    k = config.participants.rows[0].valuation
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("gain", "cost", "utility")}
    utility = {f"{k:.0f}": mean["utility"]}
    if config.method != "ipfl":  # the graph does not depend on K: gains go with its root
        utility = {f"{other:.0f}": mean["gain"] * (other / k) ** 0.5 - mean["cost"] for other in K}
    return {
        "partition": config.partition.kind,
        "method": config.method,
        "k": k,
        "seed": config.seed,
        "best": 100 * summary["protocols"]["paper"]["mean_accuracy"],
        "held_out": 100 * summary["protocols"]["held_out"]["mean_accuracy"],
        "utility": utility,
    }


def markdown(runs: Sequence[dict], figures: dict) -> list[str]:
    lines = []
    for partition in PARTITIONS:
        lines += [
            f"**{partition}**",
            "",
            "| method | best %, ours | best %, other | difference | utility K=1e4, ours | other | "
            "utility K=1e5, ours | other | held out %, ours |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for method, k in [*((name, 1e4) for name in METHODS), ("ipfl", 1e5)]:
            mine = [r for r in runs if (r["partition"], r["method"], r["k"]) == (partition, method, k)]
            name = f"{method} (K={k:.0f})" if method == "ipfl" else method
            other = figures[partition][name]
            best = [r["best"] for r in mine]
            utilities = []
            for value in ("10000", "100000"):
                known = [r["utility"][value] for r in mine if value in r["utility"]]
                theirs = other["utility"].get(value)
                utilities += [
                    told(known) if known else "",
                    f"{theirs[0]:.1f} ± {theirs[1]:.1f}" if theirs else "",
                ]
            lines.append(
                f"| {name} | {told(best)} | {other['best'][0]:.2f} ± {other['best'][1]:.2f} | "
                f"{difference(best, *other['best'], figures['seeds'])} | {' | '.join(utilities)} | "
                f"{told([r['held_out'] for r in mine])} |"
            )
        lines.append("")
    return lines


def claims(runs: Sequence[dict]) -> list[str]:
    """iPFL less the best other method, on the same seeds (paired), in utility and in accuracy."""
    lines = ["| partition | K | utility less that of the best other | accuracy less that of the best other |"]
    lines.append("|---|---|---|---|")
    for partition in PARTITIONS:
        for k in K:
            ours = {
                r["seed"]: r for r in runs if (r["partition"], r["method"], r["k"]) == (partition, "ipfl", k)
            }
            cells = []
            for key in ("utility", "best"):
                gaps = {}
                for method in METHODS:
                    theirs = {
                        r["seed"]: r for r in runs if r["partition"] == partition and r["method"] == method
                    }
                    if method != "ipfl":
                        pairs = [(value_of(ours[s], key, k), value_of(theirs[s], key, k)) for s in ours]
                        gaps[method] = [mine - other for mine, other in pairs]
                best = min(gaps, key=lambda method: np.mean(gaps[method]))
                half = stats.t.ppf(0.975, len(ours) - 1) * np.std(gaps[best], ddof=1) / len(ours) ** 0.5
                cells.append(f"{np.mean(gaps[best]):+.2f} ± {half:.2f} ({best})")
            lines.append(f"| {partition} | {k:,.0f} | {' | '.join(cells)} |")
    return lines


def value_of(run: dict, key: str, k: float) -> float:
    return run["utility"][f"{k:.0f}"] if key == "utility" else run["best"]


def told(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}"


def difference(ours: Sequence[float], mean: float, deviation: float, count: int) -> str:
    """Ours less the other's with a 95 % interval, and which is better if it does not hold zero."""
    a, b = np.var(ours, ddof=1) / len(ours), deviation**2 / count
    gap = float(np.mean(ours)) - mean
    freedom = (a + b) ** 2 / (a**2 / (len(ours) - 1) + b**2 / (count - 1))
    half = stats.t.ppf(0.975, freedom) * (a + b) ** 0.5
    verdict = "better" if gap > half else "below" if gap < -half else "same"
    return f"{gap:+.2f} ± {half:.2f} {verdict}"


if __name__ == "__main__":
    main()

"""Trying before buying: what it does to honest accuracy and to what attackers earn, under each attack.

    python benchmarks/eligibility.py [--seeds 0-4] [--attackers 3] [--show]

The digits as in the preset `paper` (nine participants in three clusters, all their examples), `[market] eligibility`
off and on, one attack at a time, and none. Accuracy is that of the honest participants after the last round; income is
what attackers received. Intervals are 95 % over seeds (Student's t). Puts its table into docs/results.md between
<!-- eligibility --> and <!-- /eligibility -->, and writes benchmarks/results/eligibility.json.
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
RESULTS, PAGE = HERE / "results" / "eligibility.json", HERE.parent / "docs" / "results.md"
ATTACKS = ("none", "sign_flip", "shuffle", "same_value", "gaussian", "scaled", "little", "free_ride")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--attackers", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print the stored figures again, run nothing")
    args = parser.parse_args()
    if args.show:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]))
        return
    low, _, high = args.seeds.partition("-")
    seeds = range(int(low), int(high or low) + 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for attack in ATTACKS:
            for eligibility in ("off", "on"):
                runs = [one(Path(folder), attack, args.attackers, eligibility, seed) for seed in seeds]
                rows.append({"attack": attack, "eligibility": eligibility, "runs": runs})
                print(cells(rows[-1]), flush=True)
    content = {
        "date": date.today().isoformat(),
        "machine": machine_facts(),
        "seeds": list(seeds),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile("<!-- eligibility -->.*?<!-- /eligibility -->", re.DOTALL)
    table = f"<!-- eligibility -->\n{markdown(rows)}\n<!-- /eligibility -->"
    PAGE.write_text(inside.sub(lambda _: table, page), encoding="utf-8")


def one(folder: Path, attack: str, attackers: int, eligibility: str, seed: int) -> dict[str, float]:
    settings = [f"market.eligibility={eligibility}", "method=ipfl", "partition.kind=cluster"]
    if attack != "none":
        settings += [f"participants.attackers={attackers}", f"participants.attack={attack}"]
    run = ipfl.run(ipfl.load_config("paper", settings, seed=seed), out=folder / "run", force=True)
    people = (run.summary or {})["participants"]
    honest = [person for person in people if person["kind"] != "attacker"]
    received = math.fsum(person["received"] for person in people)
    earned = math.fsum(person["received"] for person in people if person["kind"] == "attacker")
    return {
        "accuracy": statistics.mean(person["accuracy"] for person in honest),
        "accuracy_alone": statistics.mean(person["accuracy_alone"] for person in honest),
        "utility": statistics.mean(person["utility"] for person in honest),
        "received": received,
        "earned": earned,
        "share": earned / received if received else 0.0,
        "ineligible": float(sum(len(line["ineligible"]) for line in run.rounds)),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width."""
    if len(values) < 2:
        return values[0], math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(half)


def cells(row: dict[str, Any]) -> str:
    def of(key: str, factor: float = 1.0, digits: int = 1) -> str:
        mean, half = interval([factor * run[key] for run in row["runs"]])
        return f"{mean:.{digits}f} ± {half:.{digits}f}"

    return (
        f"| {row['attack']} | {row['eligibility']} | {of('accuracy', 100)} | {of('accuracy_alone', 100)} "
        f"| {of('utility')} | {of('earned')} | {of('share', 100)} |"
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    head = (
        "| attack | eligibility | honest accuracy, % | alone, % | honest utility | attackers' income | its share, % |\n"
        "|---|---|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *map(cells, rows)])


if __name__ == "__main__":
    main()

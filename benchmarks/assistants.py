"""Do desks of one house find one another? The preset `assistants` over seeds: trades, losses, exact match, utilities.

    python benchmarks/assistants.py [--seeds 0-4] [--out runs/assistants-benchmark] [--show]

Each run is `ipfl run assistants --seed N`: as the preset is, and changed as `WAYS` says; finished runs under --out
are kept. Prints the tables that docs/results.md shows between <!-- assistants --> and <!-- /assistants -->, puts them
there, and writes benchmarks/results/assistants.json.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from ipfl import load_run
from ipfl.bench.machine import machine_facts
from ipfl.run_folder import Run

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "assistants.json", HERE.parent / "docs" / "results.md"
CLI = [sys.executable, "-m", "ipfl"]
CHOSEN_ON = (0, 1, 3)
"""Seeds that the preset's settings were chosen on."""
WAYS = {
    "average (the preset)": [],
    "proxy (the paper)": ["methods.ipfl.use=proxy"],
    "average, A trained too": ["language.train_a=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/assistants-benchmark"))
    parser.add_argument("--show", action="store_true", help="print the stored figures again, run nothing")
    args = parser.parse_args()
    if args.show:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]))
        return
    low, _, high = args.seeds.partition("-")
    rows = []
    for number, (way, settings) in enumerate(WAYS.items()):
        for seed in range(int(low), int(high or low) + 1):
            rows.append({"way": way} | measured(finished(args.out / f"{number}-{seed}", settings, seed)))
            print(sentence(rows[-1]), flush=True)
    content = {
        "date": date.today().isoformat(),
        "machine": machine_facts(),
        "chosen_on": CHOSEN_ON,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile("<!-- assistants -->.*?<!-- /assistants -->", re.DOTALL)
    table = f"<!-- assistants -->\n{markdown(rows)}\n<!-- /assistants -->"
    PAGE.write_text(inside.sub(lambda _: table, page), encoding="utf-8")


def finished(folder: Path, settings: list[str], seed: int) -> Run:
    """The run, made unless it is there."""
    if not (folder / "summary.json").exists():
        given = [part for setting in settings for part in ("--set", setting)]
        command = [*CLI, "run", "assistants", *given, "--seed", str(seed), "--out", str(folder), "--force"]
        subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return load_run(folder)


def measured(run: Run) -> dict[str, Any]:
    """What a run came to."""
    houses = run.config.task_settings["houses"]
    house = {name: index % houses for index, name in enumerate(run.participant_ids)}
    inside = sum(house[edge["buyer"]] == house[edge["seller"]] for edge in run.edges)
    people = (run.summary or {})["participants"]
    return {
        "seed": run.config.seed,
        "inside": inside,
        "across": len(run.edges) - inside,
        "loss": statistics.mean(one["loss"] for one in people),
        "loss_alone": statistics.mean(one["loss_alone"] for one in people),
        "loss_below": sum(one["loss"] < one["loss_alone"] for one in people),
        "match": statistics.mean(one["accuracy"] for one in people),
        "match_alone": statistics.mean(one["accuracy_alone"] for one in people),
        "match_above": sum(one["accuracy"] > one["accuracy_alone"] for one in people),
        "held_out": statistics.mean(one["accuracy_held_out"] for one in people),
        "held_out_alone": statistics.mean(one["accuracy_held_out_alone"] for one in people),
        "people": len(people),
        "lowest_utility": min(entry["utility"] for line in run.rounds for entry in line["participants"]),
        "seconds": (run.summary or {})["seconds"]["total"],
    }


def sentence(row: dict[str, Any]) -> str:
    return (
        f"{row['way']}, seed {row['seed']}: {row['inside']} trades inside a house, {row['across']} across; loss "
        f"{row['loss']:.3f} against {row['loss_alone']:.3f} (lower for {row['loss_below']} of {row['people']}); match "
        f"{row['match']:.1%} against {row['match_alone']:.1%} (higher for {row['match_above']}); lowest utility of a "
        f"round {row['lowest_utility']:.2f}; {row['seconds']:.0f} s"
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| use | seed | trades inside | across | loss | alone | lower for | exact match | alone | higher for "
        "| lowest utility of a round |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['way']} | {row['seed']} | {row['inside']} | {row['across']} | {row['loss']:.3f} "
            f"| {row['loss_alone']:.3f} | {row['loss_below']} of {row['people']} | {row['match']:.1%} "
            f"| {row['match_alone']:.1%} | {row['match_above']} of {row['people']} | {row['lowest_utility']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

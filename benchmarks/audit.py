"""How long does an audit take? All three misreports of every participant, by market size and rule set.

    python benchmarks/audit.py [--sizes 8,30] [--seeds 0-4]

Markets are those of `ipfl bench market`. Each size and rule is a process of its own; the first audit of a process
(which loads the compiled search) is given apart from the median of the others. Writes benchmarks/results/audit.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "audit.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default="8,30")
    parser.add_argument("--rules", default="truthful,subsidised,lean,paper")
    parser.add_argument("--seeds", type=int, default=5, help="number of markets of each size")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(int(options.child[0]), options.child[1], options.seeds)))
        return
    rows = []
    print(
        "| m | rule set | first audit [s] | median of the others [s] | largest cost regret / scale | peak MiB |"
    )
    print("|---|---|---|---|---|---|")
    for m in map(int, options.sizes.split(",")):
        for rule in options.rules.split(","):
            command = [sys.executable, __file__, "--seeds", str(options.seeds), "--child", str(m), rule]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append(row)
            print(
                f"| {m} | {rule} | {row['first_s']:.2f} | {row['median_s']:.2f} | {row['cost_regret']:.2g} "
                f"| {row['peak_mib']:.0f} |",
                flush=True,
            )
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"date": date.today().isoformat(), "cores": os.cpu_count(), "rows": rows}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure(m: int, rule: str, seeds: int) -> dict[str, object]:
    """Audit `seeds` markets in this process."""
    import resource

    from ipfl.bench.market import LAM, make_market
    from ipfl.market import audit, resolve_rule

    seconds, regrets = [], []
    for seed in range(seeds):
        bids, distance = make_market(m, seed)
        started = time.perf_counter()
        report = audit(bids, distance, LAM, *resolve_rule(rule))
        seconds.append(time.perf_counter() - started)
        regrets.append(float(report.cost_regret.max()) / report.scale)
    return {
        "m": m,
        "rule": rule,
        "first_s": seconds[0],
        "median_s": statistics.median(seconds[1:]),
        "cost_regret": max(regrets),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()

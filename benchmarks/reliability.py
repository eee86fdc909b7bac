"""What a run survives: kills at every point and at random times, losses of power, seeded bugs; and the ledger's speed.

    python benchmarks/reliability.py [--show] [--quick] [--speed]

Runs the fault tests of this project as they are (tests/crashes.py, tests/power_loss.py, tests/ledger/test_machine.py),
counts, and measures how fast a ledger takes postings and is verified. Puts its table into docs/reliability.md between
<!-- reliability --> and <!-- /reliability -->, and writes benchmarks/results/reliability.json. --quick tries a few of
each and writes nothing.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.bench.machine import machine_facts
from ipfl.ledger import Ledger, opening, round_booking, verify
from ipfl.market import Bids, clear
from ipfl.market.units import billed, whole_units
from ipfl.types import RoundRecord

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
RESULTS, PAGE = HERE / "results" / "reliability.json", HERE.parent / "docs" / "reliability.md"
ROUNDS, PARTICIPANTS = 340, 25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--show", action="store_true", help="print the stored figures again, run nothing")
    parser.add_argument("--speed", action="store_true", help="measure the speed again, keep the stored rest")
    parser.add_argument("--quick", action="store_true", help="a few trials of each; nothing is written")
    args = parser.parse_args()
    if args.show:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return
    if args.speed:
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))
        write(stored | {"speed": speed(ROUNDS)})
        return
    found: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine_facts()}
    found["points"] = crashes(*(("--every", "60") if args.quick else ()))
    print(json.dumps(found["points"]), flush=True)
    found["pairs"] = crashes("--every", "1000000", "--pairs", "3" if args.quick else "100")
    print(json.dumps(found["pairs"]), flush=True)
    found["random"] = crashes("--random", "3" if args.quick else "100", "--rounds", "40")
    print(json.dumps(found["random"]), flush=True)
    found["power"] = {level: power(level, args.quick) for level in ("FULL", "NORMAL", "OFF")}
    print(json.dumps(found["power"]), flush=True)
    found["bugs"] = bugs()
    print(json.dumps(found["bugs"]), flush=True)
    found["speed"] = speed(30 if args.quick else ROUNDS)
    print(json.dumps(found["speed"]), flush=True)
    if args.quick:
        print(markdown(found))
    else:
        write(found)


def write(found: dict[str, Any]) -> None:
    """Keep the figures, and put their table into the documentation."""
    print(markdown(found))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile("<!-- reliability -->.*?<!-- /reliability -->", re.DOTALL)
    table = f"<!-- reliability -->\n{markdown(found)}\n<!-- /reliability -->"
    PAGE.write_text(inside.sub(lambda _: table, page), encoding="utf-8")


def crashes(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(python(str(TESTS / "crashes.py"), *arguments)))


def power(level: str, quick: bool) -> dict[str, Any]:
    how = "every=10" if quick else "draws=4"
    code = f"import json, power_loss; print(json.dumps(power_loss.power_loss({level!r}, {how})._asdict()))"
    return dict(json.loads(python("-c", code)))


def python(*arguments: str) -> str:
    """What a process that can import the tests prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def bugs() -> dict[str, int]:
    """How many of the seeded bugs the machine catches, by pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ledger/test_machine.py"]
    done = subprocess.run(
        [*command, "-k", "seeded_bug"], cwd=HERE.parent, check=False, capture_output=True, text=True
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", done.stdout)}
    return {"caught": counts.get("passed", 0), "missed": counts.get("failed", 0)}


def speed(rounds: int) -> dict[str, float]:
    """Rounds of about 100 sales, booked with flushed commits, then verified with every price."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        records = [record(index) for index in range(rounds)]
        ids = list(records[0].bids.ids)
        seconds = []
        with Ledger.create(path, opening("0" * 64, ids, {})) as ledger:
            for one in records:
                booking = round_booking(one, 0.1, "ipfl", "0" * 64)
                started = time.perf_counter()
                ledger.post(booking.drafts, booking.attachments)
                seconds.append(time.perf_counter() - started)
            verifying = []
            for _ in range(3):
                started = time.perf_counter()
                result = verify(ledger)
                verifying.append(time.perf_counter() - started)
                assert result.sound, result.faults
        size = path.stat().st_size
    return {
        "entries": result.entries,
        "sales": result.sales,
        "rounds": rounds,
        "sales_per_s": result.sales / sum(seconds),
        "round_ms": 1000 * statistics.median(seconds),
        "round_ms_worst": 1000 * max(seconds),
        "verify_s": statistics.median(verifying),
        "megabytes": size / 1e6,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def record(round_index: int) -> RoundRecord:
    """A market in which most buy from about four."""
    random = np.random.default_rng([7, round_index])
    m = PARTICIPANTS
    bids = whole_units(
        Bids(
            random.integers(20, 80, m),
            np.full(m, 3000.0),
            random.uniform(0.1, 0.9, m),
            tuple(f"participant-{index:02d}" for index in range(m)),
        )
    )
    distance = random.uniform(0.2, 1.8, (m, m))
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    outcome = billed(clear(bids, distance, lam=0.1), bids)
    return RoundRecord(round_index, np.ones(m, dtype=bool), np.zeros(m), bids, distance, outcome)


def markdown(found: dict[str, Any]) -> str:
    points, pairs, chance, full = found["points"], found["pairs"], found["random"], found["power"]["FULL"]
    fast = found["speed"]
    rows = [
        (name, tried, f"{len(part['wrong'])} differ")
        for name, tried, part in (
            ("killed at every point of a run of 6 rounds", f"{points['kills']:,} kills", points),
            (
                "killed at a point, and again in the recovery",
                f"{pairs['kills']:,} kills in {pairs['trials']:,} runs",
                pairs,
            ),
            (
                "killed at random times, 40 rounds",
                f"{chance['kills']:,} kills in {chance['runs']} runs",
                chance,
            ),
        )
    ]
    for level, figures in found["power"].items():
        name = (
            "loss of power, as the ledger is run (FULL)"
            if figures is full
            else f"the same with {level}: a control"
        )
        rows.append(
            (
                name,
                f"{figures['images']:,} disks",
                f"lost {figures['lost']:,}, corrupt {figures['corrupt']:,}",
            )
        )
    caught, missed = found["bugs"]["caught"], found["bugs"]["missed"]
    rows.append(("bugs put into the ledger", f"{caught + missed}", f"{caught} caught, {missed} missed"))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        "| fault | tried | found |\n|---|---|---|\n" + table + "\n\n"
        f"A ledger of {fast['entries']:,} entries ({fast['rounds']} rounds of {fast['sales'] / fast['rounds']:.0f} "
        f"sales, {PARTICIPANTS} participants): {fast['sales_per_s']:,.0f} sales a second, a round flushed to disk in "
        f"{fast['round_ms']:.0f} ms (median; {fast['round_ms_worst']:.0f} ms at worst), {fast['megabytes']:.0f} MB; "
        f"verified with all {fast['sales']:,} prices computed again in {fast['verify_s']:.1f} s. Two shared cores; "
        f"peak memory of the process {fast['peak_mib']:.0f} MiB."
    )


if __name__ == "__main__":
    main()

"""A market over Flower on this machine against the same market in one process: equal, how long, how much memory, why.

    python benchmarks/network.py [--rounds 5] [--repeats 3] [--show]

Four participants and an operator run as five programs over TLS on the loopback interface (scripts/demo_network.py),
the same market runs in one process, and the same messages pass between the same participants without Flower. Puts its
table into docs/performance.md between <!-- network --> and <!-- /network -->; writes benchmarks/results/network.json.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE.parent / "tests" / "network")]

import demo_network  # noqa: E402
from markets import LocalTransport  # noqa: E402

import ipfl  # noqa: E402
from ipfl.bench.machine import machine_facts  # noqa: E402
from ipfl.ledger import operator_key  # noqa: E402
from ipfl.network.flower_host import FlowerHost  # noqa: E402
from ipfl.network.flower_node import FlowerNode  # noqa: E402
from ipfl.network.host import host_market  # noqa: E402
from ipfl.network.keys import read_participant_key  # noqa: E402
from ipfl.network.market_file import read_market  # noqa: E402
from ipfl.network.node import Node  # noqa: E402
from ipfl.network.own_disk import OwnDisk  # noqa: E402
from ipfl.network.terms import read_terms  # noqa: E402

RESULTS, PAGE = HERE / "results" / "network.json", HERE.parent / "docs" / "performance.md"
STEPS, DEADLINE_S = 20, 60
PAYLOADS = (20_000, 1_000_000, 20_000_000)
TABLES = ("ledger.csv", "edges.csv")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print the stored table again, run nothing")
    args = parser.parse_args()
    if args.show:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return
    runs = []
    for repeat in range(args.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            runs.append(one(Path(scratch) / "market", args.rounds))
        print(f"repeat {repeat}: {json.dumps(runs[-1])}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        exchanges = bare_exchanges(Path(scratch) / "market")
    found = {
        "date": date.today().isoformat(),
        "machine": machine_facts(),
        "rounds": args.rounds,
        "runs": runs,
        "exchanges": exchanges,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    table = markdown(found)
    text = PAGE.read_text(encoding="utf-8")
    between = re.compile(r"(<!-- network -->\n).*?(<!-- /network -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda m: m[1] + table + m[2], text), encoding="utf-8")
    print(table)


def one(folder: Path, rounds: int) -> dict[str, Any]:
    """The same market in three ways, and whether they agree."""
    port = demo_network.free_port()
    demo_network.prepare(folder, rounds=rounds, steps=STEPS, deadline_s=DEADLINE_S, port=port)
    alone = in_process(folder)
    messages = without_flower(folder)
    for name in demo_network.BIDS:
        shutil.rmtree(folder / name)
    programs, memory = demo_network.Programs(folder, port, 0), Memory()
    started = time.monotonic()
    try:
        programs.host()
        for name in demo_network.BIDS:
            programs.join(name)
        with memory.watched(programs):
            programs.until("the first round", lambda: len(programs.rounds()) > 0, 300)
            first = time.monotonic() - started
            programs.until("the end", lambda: programs.running["operator"].poll() == 0, 600)
    finally:
        programs.close()
    over = ipfl.load_run(folder / "run")
    return {
        "equal": {"messages": equal(alone, messages), "flower": equal(alone, over)},
        "seconds": {
            "in_process": per_round(alone),
            "messages": per_round(messages),
            "flower": per_round(over),
            "until_first_round": first,
        },
        "memory_mb": memory.peak,
    }


def in_process(folder: Path) -> ipfl.Run:
    market = read_market(folder / "market.toml")
    data = folder / "data"
    data.mkdir()
    for name in demo_network.BIDS:
        shutil.copy(folder / f"{name}.npz", data)
    rows = [{"id": n, "valuation": k, "export_cost": c} for n, (k, c) in demo_network.BIDS.items()]
    config = ipfl.Config.model_validate(
        market.config.model_dump() | {"data": str(data), "participants": {"rows": rows}}
    )
    return ipfl.run(config, out=folder / "alone")


def without_flower(folder: Path) -> ipfl.Run:
    market = read_market(folder / "market.toml")
    answers = {}
    for name in demo_network.BIDS:
        key = read_participant_key(folder / f"{name}.key")
        terms = read_terms(folder / f"{name}.toml")
        node = Node(terms, folder / f"{name}.npz", key, OwnDisk(folder / name), lambda offer, quote: True)
        answers[key.fingerprint] = node.answer
    key = operator_key(folder / "keys" / "operator.key")
    return host_market(market, LocalTransport(answers), key, out=folder / "messages")


def per_round(run: ipfl.Run) -> float:
    """The median round after the first, which also sets things up."""
    return statistics.median(line["seconds"]["total"] for line in run.rounds[1:])


def equal(one_run: ipfl.Run, other: ipfl.Run) -> bool:
    """Bills, trades, distances, everybody's figures and models, to the last bit; seconds aside."""
    tables = all((one_run.path / name).read_bytes() == (other.path / name).read_bytes() for name in TABLES)
    lines = [
        [{key: value for key, value in line.items() if key != "seconds"} for line in run.rounds]
        for run in (one_run, other)
    ]
    models = [
        [(run.path / "participants" / name / "model.safetensors").read_bytes() for name in demo_network.BIDS]
        for run in (one_run, other)
    ]
    return tables and lines[0] == lines[1] and models[0] == models[1]


def bare_exchanges(folder: Path) -> dict[str, float]:
    """Median seconds of an exchange with four participants who answer what they are sent, by bytes sent to each."""
    port = demo_network.free_port()
    demo_network.prepare(folder, rounds=1, steps=1, deadline_s=DEADLINE_S, port=port)
    market = read_market(folder / "market.toml")
    host, stop = FlowerHost(folder / "work", market.keys, port=port), threading.Event()
    threads = []
    try:
        host.start(market.public_keys)
        for name in demo_network.BIDS:
            node = FlowerNode(
                folder / name, f"localhost:{port}", folder / "keys" / "ca.crt", folder / f"{name}.key"
            )
            threads.append(threading.Thread(target=node.serve, args=(lambda body: body, stop)))
            threads[-1].start()
        wanted = {member.fingerprint for member in market.members}
        end = time.monotonic() + 120
        while host.online() != wanted and time.monotonic() < end:
            time.sleep(0.5)
        found = {}
        for size in PAYLOADS:
            taken = []
            for _ in range(6):
                started = time.perf_counter()
                replies, reasons = host.exchange(dict.fromkeys(wanted, bytes(size)), DEADLINE_S)
                taken.append(time.perf_counter() - started)
                if reasons or any(len(reply) != size for reply in replies.values()):
                    raise SystemExit(f"an exchange of {size} bytes failed: {reasons}")
            found[str(size)] = statistics.median(taken[1:])
        return found
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        host.close()


class Memory:
    """The most that each of the five programs, and what they started, held at once (PSS)."""

    def __init__(self) -> None:
        self.peak: dict[str, float] = {}

    def watched(self, programs: demo_network.Programs) -> "Memory":
        self._programs, self._stop = programs, threading.Event()
        return self

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            children = parents()
            now = {
                name: sum(pss_mb(pid) for pid in [process.pid, *below(process.pid, children)])
                for name, process in self._programs.running.items()
            }
            now = {
                "operator": now.get("operator", 0.0),
                "participant": max(v for k, v in now.items() if k != "operator"),
                "all": sum(now.values()),
            }
            self.peak = {name: max(value, self.peak.get(name, 0.0)) for name, value in now.items()}


def parents() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    return children


def below(pid: int, children: dict[int, list[int]]) -> list[int]:
    return [below_ for child in children.get(pid, []) for below_ in [child, *below(child, children)]]


def pss_mb(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def markdown(found: dict[str, Any]) -> str:
    runs = found["runs"]

    def middle(*keys: str) -> float:
        values = []
        for run in runs:
            value: Any = run
            for key in keys:
                value = value[key]
            values.append(value)
        return statistics.median(values)

    facts = found["machine"]
    same = all(run["equal"]["flower"] and run["equal"]["messages"] for run in runs)
    lines = [
        f"Measured {found['date']} on {facts['cores']} cores ({facts['cpu']}), shared; medians of {len(runs)} markets "
        f"of {found['rounds']} rounds. Bills, trades, figures and models equal in all three ways, to the last bit: "
        f"**{'yes' if same else 'NO'}**.",
        "",
        "| the same market | seconds per round |",
        "|---|---|",
        f"| in one process | {middle('seconds', 'in_process'):.3f} |",
        f"| by messages in one process: signed, kept on disk, bills checked | {middle('seconds', 'messages'):.3f} |",
        f"| over Flower: five programs, TLS | {middle('seconds', 'flower'):.2f} |",
        "",
        "| bytes to each of four participants, and back | seconds of a bare exchange over Flower |",
        "|---|---|",
        *(f"| {int(size):,} | {seconds:.2f} |" for size, seconds in found["exchanges"].items()),
        "",
        "| memory (PSS, at most) | MB |",
        "|---|---|",
        f"| operator: market, SuperLink, relay | {middle('memory_mb', 'operator'):.0f} |",
        f"| a participant: its model and data, SuperNode | {middle('memory_mb', 'participant'):.0f} |",
        f"| all five together | {middle('memory_mb', 'all'):.0f} |",
        "",
        f"From the programs' start to the end of the first round: {middle('seconds', 'until_first_round'):.0f} s.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""A market of four hospitals and an operator as five programs on this machine, over TLS; one of them dies and returns.

Everything that passes between them goes over the loopback interface, by the commands that real members would use. Each
has two hundred images of digits; the scanner of hospital-c and hospital-d lays them on their side.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import ipfl
from ipfl.data import load_task
from ipfl.ledger import operator_key
from ipfl.network.keys import read_participant_key

IPFL = str(Path(sys.executable).parent / "ipfl")
BIDS = {
    "hospital-a": (20_000.0, 0.05),
    "hospital-b": (12_000.0, 0.1),
    "hospital-c": (30_000.0, 0.02),
    "hospital-d": (8_000.0, 0.15),
}
IMAGES, LYING = 200, ("hospital-c", "hospital-d")
MARKET = """rounds = {rounds}
seed = 3
model = "mlp"

[training]
steps = {steps}
lr = 0.03

[market]
lam = 4.0
eta = 8.0
rule = "truthful"

[evaluation]
test_fraction = 0.6

[network]
port = {port}
deadline_s = {deadline_s}
members_min = 2
settle_wait_s = 200

[examples]
shape = [1, 8, 8]
class_names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""
TERMS = """participant_id = "{name}"
operator_key = "{operator}"
ca = "keys/ca.crt"

[bid]
valuation = {valuation}
export_cost = {export_cost}

[market]
rounds = {rounds}
allocation = "exact"
payment = "vcg"
"""


def prepare(folder: Path, *, rounds: int, steps: int, deadline_s: float, port: int) -> None:
    """Make keys, deal out the digits, and write the market file and everybody's terms."""
    folder.mkdir(parents=True)
    said = subprocess.run(
        [IPFL, "keys", "operator", folder / "keys", "--host", "localhost"],
        check=True,
        capture_output=True,
        text=True,
    )
    (folder / "keys.log").write_text(said.stdout)
    operator = operator_key(folder / "keys" / "operator.key").public
    members = []
    for (name, (valuation, export_cost)), (x, y) in zip(BIDS.items(), images(), strict=True):
        subprocess.run([IPFL, "keys", "participant", folder / f"{name}.key"], check=True, capture_output=True)
        np.savez(folder / f"{name}.npz", x=x, y=y)
        terms = TERMS.format(
            name=name, operator=operator, valuation=valuation, export_cost=export_cost, rounds=rounds
        )
        (folder / f"{name}.toml").write_text(terms)
        members.append(f'[[members]]\nid = "{name}"\nkey = "{name}.key.pub"\n')
    market = MARKET.format(rounds=rounds, steps=steps, deadline_s=deadline_s, port=port)
    (folder / "market.toml").write_text(market + "\n" + "\n".join(members))


def images() -> list[tuple[np.ndarray, np.ndarray]]:
    """Everybody's images and what is on them; nobody has one of another's."""
    task = load_task(ipfl.Config(participants={"count": 10}, partition={"train_examples": "all"}, seed=3))
    splits = [split for data in task.participants for split in data.splits().values()]
    x, y = (np.concatenate([getattr(split, part) for split in splits]) for part in "xy")
    order = np.random.default_rng(3).permutation(len(y))
    found = []
    for place, name in enumerate(BIDS):
        own = order[place * IMAGES : (place + 1) * IMAGES]
        lying = np.ascontiguousarray(np.rot90(x[own], axes=(2, 3)))
        found.append((lying if name in LYING else x[own], y[own]))
    return found


class Programs:
    """The five programs; all of them end with this one."""

    def __init__(self, folder: Path, port: int, page_port: int):
        self.folder, self.port, self.page_port = folder, port, page_port
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def host(self, *, resume: bool = False) -> None:
        """Start the operator."""
        run = ["--resume" if resume else "--out", str(self.folder / "run")]
        page = ["--page-port", str(self.page_port)]
        self._start("operator", ["host", str(self.folder / "market.toml"), *run, *page])

    def join(self, name: str) -> None:
        """Start a participant."""
        files = ["--terms", f"{name}.toml", "--data", f"{name}.npz", "--key", f"{name}.key", "--home", name]
        self._start(name, ["join", f"localhost:{self.port}", *files, "--yes"])

    def kill(self, name: str) -> None:
        """End a program at once, as a power cut would."""
        self.running[name].kill()
        self.running[name].wait()

    def _start(self, name: str, command: list[str]) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [IPFL, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )

    def rounds(self) -> list[dict[str, object]]:
        """The rounds that are done."""
        path = self.folder / "run" / "rounds.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def until(self, what: str, done, timeout_s: float) -> None:
        """Wait for something, as long as all programs live that should."""
        end = time.monotonic() + timeout_s
        while not done():
            operator = self.running["operator"]
            if time.monotonic() > end or operator.poll() not in (None, 0):
                raise SystemExit(f"{what} did not come about: see the .log files in {self.folder}")
            time.sleep(0.2)

    def close(self) -> None:
        """End what still runs."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def shown(line) -> str:
    """A round in one line."""
    people = line["participants"]
    absent = [entry["id"] for entry in people if not entry["present"]]
    trades = sum(entry["imports"] for entry in people)
    paid = sum(entry["paid"] for entry in people)
    away = f"; absent: {', '.join(absent)}" if absent else ""
    seconds = line["seconds"]["total"]
    return f"round {line['round_index']}: {trades} models sold for {paid:.6f} credits, {seconds:.1f} s{away}"


def how_it_went(lines, name: str) -> str:
    """When somebody was away, and whether it came back."""
    there = [
        next(entry["present"] for entry in line["participants"] if entry["id"] == name) for line in lines
    ]
    away = [number for number, present in enumerate(there) if not present]
    if not away:
        return f"{name} was back before anybody missed it"
    missed = f"{name} missed " + (f"round {away[0]}" if len(away) == 1 else f"rounds {away[0]} to {away[-1]}")
    if there[-1]:
        return f"{missed}, and is in all rounds since"
    return f"{missed}: this machine is too busy for it to be back before the end, but it has all its bills"


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-network"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--page-port", type=int, default=8321)
    given = parser.parse_args()
    folder = given.out.absolute()
    if folder.exists():
        shutil.rmtree(folder)
    port = free_port()
    print(f"keys, certificates, data and terms of {len(BIDS)} participants: {given.out}")
    prepare(folder, rounds=given.rounds, steps=20, deadline_s=20, port=port)
    programs = Programs(folder, port, given.page_port)
    started = time.monotonic()
    told = 0

    def follow() -> int:
        nonlocal told
        lines = programs.rounds()
        for line in lines[told:]:
            print(shown(line), flush=True)
        told = len(lines)
        return told

    try:
        print("starting the operator: TLS, registered keys, loopback only", flush=True)
        programs.host()
        for name in BIDS:
            programs.join(name)
        programs.until("the second round", lambda: follow() >= 2, 180)
        print("hospital-c is killed, and started again under the same identity", flush=True)
        programs.kill("hospital-c")
        programs.join("hospital-c")
        programs.until("the end", lambda: follow() >= given.rounds, 300)
        programs.until("the summary", lambda: programs.running["operator"].poll() == 0, 120)
        for name in BIDS:
            programs.running[name].wait(60)
    finally:
        programs.close()
    print(f"done in {time.monotonic() - started:.0f} s; {how_it_went(programs.rounds(), 'hospital-c')}\n")
    for name in BIDS:
        summary = json.loads((folder / name / "summary.json").read_text())
        key = read_participant_key(folder / f"{name}.key").fingerprint[:16]
        print(
            f"{name} ({key}...): {summary['rounds']} bills checked, paid {summary['paid']:.6f}, received "
            f"{summary['received']:.6f}; {given.out / name / 'statement.csv'}"
        )
    print(f"\nPage        {given.out / 'run' / 'report.html'}")
    print(f"Money       ipfl verify {given.out / 'run'}")


if __name__ == "__main__":
    main()

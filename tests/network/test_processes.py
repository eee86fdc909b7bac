"""Ten markets of real processes over TLS, in which programs are killed: nobody is billed twice, no round is lost."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from ipfl.ledger import Ledger, verify
from ipfl.network.billing import receipt_of
from ipfl.network.own_disk import OwnDisk
from ipfl.run_folder import load_run

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import demo_network

pytest.importorskip("flwr", reason="needs the extra ipfl[flower]")

ROUNDS, STEPS, DEADLINE_S, LAST_EVENT = 5, 10, 20.0, 3
NAMES = tuple(demo_network.BIDS)
ENDS_S = 400
MARGIN_S = 15
"""What a round may take beyond its deadline on a busy machine: clearing, finding out that programs are gone."""
WHATS = ("participant", "participant", "operator", "operator and participant", "superlink")


def events(seed: int) -> list[tuple[int, str, str, float]]:
    """After how many rounds what is killed, whose turn it is, and how many seconds later."""
    chance = random.Random(seed)
    first = chance.randint(0, 1)
    rounds = [first, chance.randint(first + 1, LAST_EVENT - 1)]
    return [
        (number, chance.choice(WHATS), chance.choice(NAMES), chance.uniform(0.0, 6.0)) for number in rounds
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_killed_nobody_is_billed_twice_and_no_round_is_lost(seed, tmp_path):
    folder, port = tmp_path / "market", demo_network.free_port()
    demo_network.prepare(folder, rounds=ROUNDS, steps=STEPS, deadline_s=DEADLINE_S, port=port)
    programs = demo_network.Programs(folder, port, 0)
    acknowledged: dict[str, dict[int, str]] = {name: {} for name in NAMES}
    try:
        programs.host()
        for name in NAMES:
            programs.join(name)
        for number, what, name, later in events(seed):
            wait(programs, lambda number=number: len(programs.rounds()) > number, f"round {number}")
            time.sleep(later)
            remember(folder, acknowledged)
            strike(programs, what, name)
        wait(programs, lambda: programs.running["operator"].poll() == 0, "the end")
        for name in NAMES:
            programs.running[name].wait(60)
    finally:
        programs.close()
    remember(folder, acknowledged)
    check(folder, acknowledged)


def strike(programs: demo_network.Programs, what: str, name: str) -> None:
    """Kill, and start again what does not come back by itself."""
    if programs.running["operator"].poll() == 0:
        return  # it was faster
    if what == "superlink":
        for pid in superlinks(programs.running["operator"].pid):
            os.kill(pid, signal.SIGKILL)
    if "operator" in what:
        programs.kill("operator")
        programs.host(resume=True)
    if "participant" in what:
        programs.kill(name)
        programs.join(name)


def superlinks(operator: int) -> list[int]:
    """The SuperLinks that an operator started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == operator and b"flower-superlink" in command:
            found.append(int(path.parent.name))
    return found


def wait(programs: demo_network.Programs, done, what: str) -> None:
    end = time.monotonic() + ENDS_S
    while not done():
        state = programs.running["operator"].poll()
        logs = "\n".join(
            (programs.folder / f"{name}.log").read_text()[-1500:] for name in ("operator", *NAMES)
        )
        assert state in (None, 0), f"the operator ended before {what}\n{logs}"
        assert time.monotonic() < end, f"{what} did not come\n{logs}"
        time.sleep(0.2)


def remember(folder: Path, acknowledged: dict[str, dict[int, str]]) -> None:
    """The receipts that participants have by now: what they stand for may never be lost."""
    for name in NAMES:
        path = folder / name / "bills.jsonl"
        for line in path.read_text().splitlines()[:-1] if path.exists() else []:
            bill = json.loads(line)
            acknowledged[name].setdefault(bill["round_index"], json.dumps(bill, sort_keys=True))


def check(folder: Path, acknowledged: dict[str, dict[int, str]]) -> None:
    run, homes = load_run(folder / "run"), {name: OwnDisk(folder / name) for name in NAMES}
    assert [line["round_index"] for line in run.rounds] == list(range(ROUNDS))
    receipts = [receipt_of(bill) for home in homes.values() for bill in home.bills]
    operator = demo_network.operator_key(folder / "keys" / "operator.key").public
    with Ledger.open(folder / "run" / "ledger.db") as ledger:
        assert verify(ledger, receipts, operator).faults == ()
        balances = ledger.balances()
    for name, home in homes.items():
        numbers = [bill["round_index"] for bill in home.bills]
        assert numbers == list(range(ROUNDS)), f"{name} has each bill once, in order"
        assert receipt_of(home.bills[-1]).balance == balances.get(name, 0)
        moved = sum(line["amount"] for bill in home.bills for line in bill["lines"])
        assert moved == balances.get(name, 0)
        now = {bill["round_index"]: json.dumps(bill, sort_keys=True) for bill in home.bills}
        assert acknowledged[name].items() <= now.items(), "no receipt was taken back"
    for line in run.rounds:
        absent = {entry["id"] for entry in line["participants"] if not entry["present"]}
        traders = {
            edge[side]
            for edge in run.edges
            for side in ("buyer", "seller")
            if edge["round_index"] == line["round_index"]
        }
        assert absent.isdisjoint(traders)
        assert line["seconds"]["total"] <= DEADLINE_S + MARGIN_S, "nothing hangs past the deadline"

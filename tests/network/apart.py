"""A market of an operator behind its proxy and two participants, each on a machine and a disk of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.ledger import operator_key
from network.machines import Machines
from network.proxy import LOG, proxy_command

HOST, ADDRESS, PAGE_PORT = "market.example", "market.example:443", 8321
NAMES, BIDS = ("north", "south"), {"north": (20_000.0, 0.05), "south": (12_000.0, 0.1)}
COLUMNS = ("age", "pressure", "rate", "weight")
MARKET = """rounds = {rounds}
seed = 3
model = "mlp"

[training]
steps = {steps}

[market]
lam = 0.05
rule = "truthful"

[network]
deadline_s = {deadline_s}
settle_wait_s = 90

[examples]
columns = {columns}
class_names = ["healthy", "ill"]

[[members]]
id = "north"
key = "north.pub"

[[members]]
id = "south"
key = "south.pub"
"""
TERMS = """participant_id = "{name}"
operator_key = "{operator}"
ca = "ca.crt"

[bid]
valuation = {valuation}
export_cost = {export_cost}
"""
ENDS_S = 170
"""So long anything that is waited for may take."""
IPFL = [sys.executable, "-m", "ipfl"]
JOIN = f"join {ADDRESS} --terms terms.toml --data mine.csv --key me.key --home home --yes".split()


@dataclass
class Site:
    """Three machines, a folder for what is on each one's disk, and the programs that run there."""

    folder: Path
    machines: Machines
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "operator" / "run"

    @property
    def keys(self) -> Path:
        return self.folder / "operator" / "keys"

    def start(self, program: str, machine: str, command: Sequence[str]) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with self.log(program).open("ab") as log:
            self.running[program] = subprocess.Popen(
                self.machines.on(machine, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder / machine,
                env=environment,
            )

    def start_proxy(self) -> None:
        command = proxy_command(self.folder / "operator", self.keys, {})
        self.start("proxy", "operator", command)
        self.wait(lambda: (self.folder / "operator" / LOG).exists(), "the proxy")

    def start_all(self) -> None:
        self.start_proxy()
        self.start("operator", "operator", [*IPFL, "host", "market.toml", "--out", "run"])
        for name in NAMES:
            self.start(name, name, [*IPFL, *JOIN])

    def said(self, name: str, command: Sequence[str]) -> str:
        """All that a command prints, on one of the machines, whatever comes of it."""
        done = subprocess.run(
            self.machines.on(name, command),
            cwd=self.folder / name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        return f"{done.stdout}exit {done.returncode}"

    def log(self, program: str) -> Path:
        return self.folder / f"{program}.log"

    def rounds(self) -> list[dict[str, Any]]:
        path = self.run / "rounds.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something, as long as nothing ends that should not."""
        end = time.monotonic() + ENDS_S
        while not holds():
            failed = [name for name, process in self.running.items() if process.poll() not in (None, 0)]
            assert not failed, f"{failed} ended before {what}\n{self._logs()}"
            assert time.monotonic() < end, f"{what} did not come\n{self._logs()}"
            time.sleep(0.02)

    def wait_for_the_end(self) -> None:
        for name in ("operator", *NAMES):
            self.wait(lambda name=name: self.running[name].poll() == 0, f"the end of {name}")

    def close(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _logs(self) -> str:
        return "\n".join(f"{name}: {self.log(name).read_text()[-1500:]}" for name in self.running)


def prepare(site: Site, *, rounds: int, steps: int, deadline_s: float) -> None:
    """Keys, a table and terms on each participant's disk; the market file and public keys on the operator's."""
    operator = site.folder / "operator"
    said = site.said("operator", [*IPFL, "keys", "operator", "keys", "--host", HOST])
    assert said.endswith("exit 0"), said
    public, chance = operator_key(site.keys / "operator.key").public, np.random.default_rng(3)
    for name, (valuation, export_cost) in BIDS.items():
        place = site.folder / name
        said = site.said(name, [*IPFL, "keys", "participant", "me.key"])
        assert said.endswith("exit 0"), said
        shutil.copy(place / "me.key.pub", operator / f"{name}.pub")
        shutil.copy(site.keys / "ca.crt", place / "ca.crt")
        x = chance.normal(size=(60, len(COLUMNS)))
        ill = x @ np.array([1.0, -1.0, 0.5, 0.0]) + chance.normal(scale=0.5, size=60) > 0
        lines = [
            ",".join([*(f"{value:.4f}" for value in row), "ill" if one else "healthy"])
            for row, one in zip(x, ill, strict=True)
        ]
        (place / "mine.csv").write_text("\n".join([",".join([*COLUMNS, "label"]), *lines, ""]))
        (place / "terms.toml").write_text(
            TERMS.format(name=name, operator=public, valuation=valuation, export_cost=export_cost)
        )
    rules = MARKET.format(rounds=rounds, steps=steps, deadline_s=deadline_s, columns=json.dumps(COLUMNS))
    (operator / "market.toml").write_text(rules)

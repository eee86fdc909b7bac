"""How every peer is timed and what it prints: one JSON object, the first round apart as the warm-up.

With --paced a peer says "ready" once it is set up, then waits for a line on its standard input before each round and
says "done" after it, so that several systems can take turns on one machine.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import workload

PARTS = ("train", "evaluate", "market")
STARTED = time.perf_counter()


class Meter:
    """Seconds and CPU seconds of the parts of each round.

    `processes`: whether the peer works in processes of its own; then their CPU seconds and memory are added.
    """

    def __init__(self, peer: str, packages: tuple[str, ...] = (), processes: bool = False):
        self.arguments = parse(peer)
        self.work = workload.read(self.arguments.folder)
        if self.arguments.threads:
            torch.set_num_threads(self.arguments.threads)
        self.peer, self.packages, self.processes = peer, packages, processes
        self.finished: list[dict[str, Any]] = []
        self._current: dict[str, Any] = {}
        self._family: list[int] = []
        self._out = os.fdopen(os.dup(1), "w")  # whatever a library prints goes to standard error instead
        os.dup2(2, 1)

    @property
    def evaluates(self) -> bool:
        return not self.arguments.no_evaluation

    @property
    def rounds_in_all(self) -> int:
        return 1 + self.arguments.rounds

    def ready(self) -> None:
        """Everything is set up; call it once."""
        self.start_up_s = time.perf_counter() - STARTED
        self._say("ready")

    def begin(self) -> None:
        """A round begins, when it may."""
        if self.arguments.paced and not sys.stdin.readline():
            raise SystemExit("standard input ended before the last round")
        self._current = dict.fromkeys(PARTS, 0.0) | {f"cpu_{part}": 0.0 for part in PARTS}
        self._current |= {"images_evaluated": 0, "images_trained": 0, "steps": 0}
        self._began = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside is that part of the round."""
        wall, cpu = time.perf_counter(), self.cpu()
        yield
        self.add(name, time.perf_counter() - wall, self.cpu() - cpu)

    def add(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """That part of the round took so long."""
        self._current[name] += seconds
        self._current[f"cpu_{name}"] += cpu_seconds

    def count(self, **numbers: int) -> None:
        """Images and steps of the round."""
        for name, number in numbers.items():
            self._current[name] = self._current.get(name, 0) + number

    def say(self, **facts: Any) -> None:
        """What else is known of the round, e.g. its accuracy."""
        self._current |= facts

    def end(self) -> None:
        """The round is over."""
        self._current["total"] = time.perf_counter() - self._began
        self.finished.append(self._current)
        self._family = tree() if self.processes else []  # looked up between rounds, as it takes a while
        self._say("done")

    def rounds(self) -> Iterator[int]:
        """All rounds, the warm-up first."""
        self.ready()
        for index in range(self.rounds_in_all):
            self.begin()
            yield index
            self.end()

    def report(self, **more: Any) -> None:
        """Print what was measured."""
        counted = self.finished[1:] or self.finished
        names = [name for name, value in counted[0].items() if isinstance(value, int | float)]
        result = {
            "peer": self.peer,
            "workload": self.work.settings,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "numpy", *self.packages)},
            "threads": torch.get_num_threads(),
            "start_up_s": self.start_up_s,
            "warm_up": self.finished[0],
            "rounds": self.finished[1:],
            "median": {name: statistics.median(entry[name] for entry in counted) for name in names},
            "peak_bytes": peak_bytes(self.processes),
            "processes": self.processes,
        } | more
        print(json.dumps(result, allow_nan=False), file=self._out, flush=True)

    def cpu(self) -> float:
        """CPU seconds used so far."""
        return cpu_seconds(self._family) if self.processes else time.process_time()

    def _say(self, word: str) -> None:
        if self.arguments.paced:
            print(word, file=self._out, flush=True)


def parse(peer: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(peer)
    parser.add_argument("folder", type=Path, help="the workload, as written by `ipfl bench round --keep`")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as many as torch takes")
    parser.add_argument("--paced", action="store_true", help="wait for a line before each round")
    parser.add_argument("--no-evaluation", action="store_true", help="train only")
    return parser.parse_args()


def tree() -> list[int]:
    """This process and all that descend from it (Linux)."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def cpu_seconds(processes: list[int]) -> float:
    total = 0
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def peak_bytes(processes: bool) -> int:
    """The most memory held; of several processes the sum of what each held at most (Linux)."""
    total = 0
    for process in tree() if processes else [os.getpid()]:
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return total

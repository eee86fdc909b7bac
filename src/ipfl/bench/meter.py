"""Timing the parts of rounds in a process of its own, in step with the process that started it."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipfl.bench.machine import peak_bytes
from ipfl.errors import EngineError


class Meter:
    """Wall and CPU seconds of the parts of each round; the first round is the warm-up.

    With `paced`, says "ready" and "done" on standard output and waits for a line of standard input before
    each round (`ipfl.bench.processes.Paced`).
    """

    def __init__(self, rounds: int, *, paced: bool):
        self.finished: list[dict[str, Any]] = []
        self._rounds, self._paced = rounds, paced
        self._current: dict[str, Any] = {}

    def rounds(self) -> Iterator[int]:
        """All rounds, the warm-up first."""
        self._say("ready")
        for index in range(1 + self._rounds):
            if self._paced and not sys.stdin.readline():
                raise EngineError("standard input ended before the last round")
            self._current = {}
            began = time.perf_counter()
            yield index
            self._current["total"] = time.perf_counter() - began
            self.finished.append(self._current)
            self._say("done")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside is that part of the round."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.add(name, time.perf_counter() - wall, time.process_time() - cpu)

    def add(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """That part of the round took so long."""
        self._current[name] = self._current.get(name, 0.0) + seconds
        self._current[f"cpu_{name}"] = self._current.get(f"cpu_{name}", 0.0) + cpu_seconds

    def say(self, **facts: float) -> None:
        """What else is known of the round, e.g. how many images were evaluated."""
        self._current |= facts

    def report(self, **more: Any) -> dict[str, Any]:
        """Every round, and medians without the warm-up."""
        counted = self.finished[1:] or self.finished
        return {
            "versions": {"python": platform.python_version()},
            "warm_up": self.finished[0],
            "rounds": self.finished[1:],
            "median": {name: statistics.median(entry[name] for entry in counted) for name in counted[0]},
            "peak_bytes": peak_bytes(),
            **more,
        }

    def _say(self, word: str) -> None:
        if self._paced:
            print(word, flush=True)


def print_result(result: dict[str, Any]) -> None:
    """As the last line of standard output."""
    print(json.dumps(result, allow_nan=False), flush=True)

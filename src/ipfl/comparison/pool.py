"""Working off a grid in processes: one run each at a time, one run's end never another's.

A process that dies (out of memory, a crash in native code) costs the run it had; the others go on, and a new
process takes its place.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any

from ipfl.comparison.grid import Cell
from ipfl.comparison.worker import work
from ipfl.cores import usable_cores
from ipfl.plugins import loaded_files


@dataclass(frozen=True)
class Progress:
    """How far a grid is, told whenever a round or a run is over.

    `cell` is the run concerned and `rounds` how many of its rounds are done; `ended` says how it ended, if it
    did: run, resumed, kept, run again, or failed. `left_s` is the time left, once there is something to judge by.
    """

    cell: Cell
    rounds: int
    ended: str | None
    runs_done: int
    runs: int
    rounds_done: int
    rounds_total: int
    left_s: float | None


@dataclass(frozen=True)
class Failure:
    """A run that did not end well, and why."""

    cell: Cell
    reason: str


Watcher = Callable[[Progress], None]


class _Worker:
    """A process and the run it has."""

    def __init__(self, cell: Cell) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=work, args=(theirs, loaded_files()), daemon=True)
        with _interrupts_ignored():  # Ctrl-C reaches the whole terminal: only this process answers to it
            self.process.start()
        theirs.close()
        self.give(cell)

    def give(self, cell: Cell) -> None:
        """Have it do a run next."""
        self.cell = cell
        self.pipe.send((cell.config.to_toml(), str(cell.folder)))

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def run_all(cells: Sequence[Cell], workers: int, watch: Watcher, kept: Sequence[Cell] = ()) -> list[Failure]:
    """Run every cell, `workers` at a time (0: one per core), and say which failed.

    Args:
      cells: all of a grid.
      workers: processes.
      watch: told of every round and every run.
      kept: those of the cells that are known to be done.
    Raises:
      KeyboardInterrupt: after every process has been ended; all finished rounds are on disk.
    """
    done = {_key(cell) for cell in kept}
    waiting = [cell for cell in reversed(cells) if _key(cell) not in done]
    pace = _Pace(cells, max(1, min(workers or usable_cores(), len(waiting))), watch)
    for cell in kept:
        pace.run_ended(cell, "kept")
    failures: list[Failure] = []
    busy: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < pace.workers:
                busy.append(_Worker(waiting.pop()))
            for worker in _ready(busy):
                kind, content = _message(worker)
                cell = worker.cell
                if kind == "round":
                    pace.round_done(cell, content)
                    continue
                if kind != "done":
                    failures.append(Failure(cell, content))
                pace.run_ended(cell, content if kind == "done" else "failed")
                if kind != "died" and waiting:
                    worker.give(waiting.pop())
                else:
                    worker.end()
                    busy.remove(worker)
    finally:
        for worker in busy:
            worker.end()
    return failures


def _ready(busy: Sequence[_Worker]) -> list[_Worker]:
    """Those that have something to say; the end of a process is found at its pipe."""
    open_pipes: list[Connection] = [worker.pipe for worker in busy]
    ready = wait(open_pipes)
    return [worker for worker in busy if worker.pipe in ready]


def _message(worker: _Worker) -> tuple[str, Any]:
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hint = "; it may have run out of memory: try fewer --workers" if code == -signal.SIGKILL else ""
        return "died", f"its process {how}{hint}"
    return kind, content


class _Pace:
    """Counts rounds and runs, and judges the time left: rounds left of each method at that method's pace."""

    def __init__(self, cells: Sequence[Cell], workers: int, watch: Watcher):
        self.workers = workers
        self._watch = watch
        self._runs_done = 0
        self._rounds = dict.fromkeys(map(_key, cells), 0)
        self._totals = {_key(cell): cell.config.rounds for cell in cells}
        self._methods = {_key(cell): cell.method for cell in cells}
        self._last: dict[tuple[str, str, int], float] = {}
        self._spent: dict[str, list[float]] = {}

    def round_done(self, cell: Cell, rounds: int) -> None:
        key, now = _key(cell), monotonic()
        if key in self._last and rounds == self._rounds[key] + 1:
            self._spent.setdefault(cell.method, []).append(now - self._last[key])
        self._last[key], self._rounds[key] = now, rounds
        self._tell(cell, None)

    def run_ended(self, cell: Cell, how: str) -> None:
        self._runs_done += 1
        self._totals[_key(cell)] = self._rounds[_key(cell)] = cell.config.rounds
        self._tell(cell, how)

    def _left(self) -> float | None:
        if not self._spent:
            return None
        means = {method: sum(spent) / len(spent) for method, spent in self._spent.items()}
        usual = sum(means.values()) / len(means)
        left = sum(
            (self._totals[key] - done) * means.get(self._methods[key], usual)
            for key, done in self._rounds.items()
        )
        return left / self.workers

    def _tell(self, cell: Cell, ended: str | None) -> None:
        self._watch(
            Progress(
                cell,
                self._rounds[_key(cell)],
                ended,
                self._runs_done,
                len(self._rounds),
                sum(self._rounds.values()),
                sum(self._totals.values()),
                self._left(),
            )
        )


def _key(cell: Cell) -> tuple[str, str, int]:
    return cell.variant, cell.method, cell.seed


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Have a process started in here be deaf to Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

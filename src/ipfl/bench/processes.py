"""Measurements in processes of their own, so that each one's peak memory is its own.

`in_child` runs a module that prints one JSON object. A `Paced` process takes turns with others: it says "ready" once it
is set up, waits for a line before each round, says "done" after it, and prints its JSON object after the last.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, cast

from ipfl.errors import EngineError

Measurement = dict[str, Any]
PATIENCE_S = 15
"""How long a process that is to end may take about it."""


def in_child(module: str, arguments: Sequence[str], what: str) -> Measurement:
    """What `python -m module ARGUMENTS` prints.

    Raises:
      EngineError: it failed; says what was being measured, and its last words.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(_failed(what, done.returncode, done.stderr))
    return _parsed(done.stdout, what)


class Paced:
    """One system under measurement; a context manager, so that none is left behind."""

    def __init__(self, what: str, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self.what = what
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | dict(environment or {}),
        )
        self._asks, self._answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)

    def __enter__(self) -> "Paced":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._asks, self._answers, self._said):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def wait_until_ready(self) -> None:
        """Until it is set up."""
        self._expect("ready")

    def round(self) -> None:
        """One round, from start to end."""
        try:
            self._asks.write("go\n")
            self._asks.flush()
        except BrokenPipeError:
            raise self._error() from None
        self._expect("done")

    def result(self) -> Measurement:
        """What it measured, after its last round."""
        text = self._answers.read()
        if self._process.wait() != 0:
            raise self._error()
        return _parsed(text, self.what)

    def _expect(self, word: str) -> None:
        line = self._answers.readline().strip()
        if line != word:
            raise self._error(f"it said {line[:80]!r}, expected {word!r}" if line else None)

    def _error(self, reason: str | None = None) -> EngineError:
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        self._said.seek(0)
        said = self._said.read()
        return EngineError(
            f"measuring {self.what} failed: {reason}" if reason else _failed(self.what, code, said)
        )


def _failed(what: str, code: int | None, said: str) -> str:
    last = [line for line in said.strip().splitlines() if line.strip()][-1:] or [f"it ended with {code}"]
    return f"measuring {what} failed: {last[0]}"


def _parsed(text: str, what: str) -> Measurement:
    lines = text.strip().splitlines()
    try:
        measured = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise EngineError(f"measuring {what} failed: it printed no figures") from None
    if not isinstance(measured, dict):
        raise EngineError(f"measuring {what} failed: it printed no figures")
    return measured

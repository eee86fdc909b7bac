"""Flower's programs as processes of ours: where they are, what they get to know, and that they end with us."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ipfl.errors import ConfigError

STOPPING_S = 10
"""After so long a program that was asked to end is killed."""

# A program whose parent was killed would go on for ever, and a SuperNode would then fetch the messages of the one
# that takes its place. So each reads a pipe that nobody writes to, which ends when we do, however we end.
_GUARDED = """
import os, runpy, signal, sys, threading, time
def guard():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)
threading.Thread(target=guard, daemon=True).start()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def environment(home: Path) -> dict[str, str]:
    """What Flower's programs find in their environment: no telemetry, no look for updates, short waits, a home of ours.

    Settings of Flower's in this process's own environment are left out: they would be for something else.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    return {
        **kept,
        "PATH": f"{_folder()}{os.pathsep}{kept.get('PATH', os.defpath)}",  # they start one another by name
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PYTHONUNBUFFERED": "1",
    }


def program(name: str) -> str:
    """The path of one of Flower's programs, beside this Python.

    Raises:
      ConfigError: it is not installed.
    """
    path = _folder() / name
    if not path.is_file():
        raise ConfigError(
            f"a market over the network needs {name}, which is not installed: pip install 'ipfl[flower]'"
        )
    return str(path)


def start(command: Sequence[str], log: Path, home: Path) -> "subprocess.Popen[bytes]":
    """Start a program that ends when this process does; what it prints is appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _GUARDED, program(command[0]), *command[1:]],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(home),
            cwd=home,
            # Ctrl-C in a terminal goes to every process of it: ours ends the others, in order
            start_new_session=True,
        )


def end(process: "subprocess.Popen[bytes] | None") -> None:
    """End a program that `start` started; one that does not end when asked is killed."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()


def ask(command: Sequence[str], home: Path, timeout_s: float) -> tuple[int, str]:
    """Run one of Flower's commands to its end; its exit status and all that it printed."""
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(home),
        cwd=home,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _folder() -> Path:
    return Path(sys.executable).parent

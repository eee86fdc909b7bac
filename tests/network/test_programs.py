"""Flower's programs as processes: what they find in their environment, where they are, and that they end with us."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipfl.errors import ConfigError
from ipfl.network import programs


def test_a_program_knows_nothing_of_other_flower_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLWR_DATABASE", "elsewhere")
    found = programs.environment(tmp_path)
    assert "FLWR_DATABASE" not in found
    assert (found["FLWR_HOME"], found["FLWR_TELEMETRY_ENABLED"]) == (str(tmp_path), "0")


def test_a_program_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        ConfigError, match=r"flower-superlink, which is not installed: pip install 'ipfl\[flower\]'"
    ):
        programs.program("flower-superlink")


STARTS_ONE = """
import sys, time
from pathlib import Path
from ipfl.network import programs
folder = Path(sys.argv[1])
programs.program = lambda name: str(folder / name)
programs.start(["sleeper"], folder / "log", folder)
time.sleep(60)
"""


def test_a_program_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "sleeper").write_text("import os, time; print(os.getpid()); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", STARTS_ONE, str(tmp_path)]) as parent:
        end = time.monotonic() + 30
        while not (log := tmp_path / "log").exists() or not log.read_text().endswith("\n"):
            assert time.monotonic() < end
            time.sleep(0.05)
        pid = int(log.read_text())
        parent.send_signal(signal.SIGKILL)
    while _runs(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    # nobody may have taken note of its end yet
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Systems outside this package that do the same work: where they are, and how one is started.

A peer is a script NAME.py in a folder (in the repository: benchmarks/peers) that takes a workload's folder. Those that
stand on a framework of their own are run by an interpreter that has it.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ipfl.errors import ConfigError

FOLDER = Path("benchmarks/peers")
PYTHON = Path(".venv-peers/bin/python")


class Peer(NamedTuple):
    """A script; `method` is what it runs, `needs` the module it stands on (None: what this package needs too)."""

    name: str
    method: str
    needs: str | None = None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("research_loop", "ipfl"),
        Peer("plain_torch", "fedavg"),
        Peer("flower_sim", "fedavg", "flwr"),
        Peer("pfl_sim", "fedavg", "pfl"),
    )
}


def find_peers(names: Sequence[str], folder: Path | None, python: Path | None) -> dict[str, list[str]]:
    """The command that starts each peer, without its arguments.

    Args:
      names: of `PEERS`.
      folder: where the scripts are; None: benchmarks/peers of the working directory.
      python: what runs those with a framework of their own; None: .venv-peers of the working directory, or this
        interpreter where it has the framework.
    Raises:
      ConfigError: an unknown peer, no such script, or an interpreter without the framework; says what to do.
    """
    place = folder or FOLDER
    commands = {}
    for name in names:
        if name not in PEERS:
            raise ConfigError(f"unknown peer {name!r}; known: {', '.join(PEERS)}")
        script = place / f"{name}.py"
        if not script.is_file():
            raise ConfigError(
                f"peer {name}: there is no {script}; run this in the repository, or say where the peers are "
                "with --peers-folder"
            )
        commands[name] = [_interpreter(PEERS[name], python), str(script)]
    return commands


def _interpreter(peer: Peer, python: Path | None) -> str:
    if peer.needs is None:
        return sys.executable
    if python is None and importlib.util.find_spec(peer.needs) is not None:
        return sys.executable
    chosen = python or PYTHON
    remedy = "make one with `make peers`, or name another with --peers-python"
    if not chosen.is_file():
        raise ConfigError(
            f"peer {peer.name} needs {peer.needs}, and there is no interpreter {chosen}: {remedy}"
        )
    check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({peer.needs!r}) is None)"
    if subprocess.run([str(chosen), "-c", check], capture_output=True, check=False).returncode != 0:
        raise ConfigError(f"peer {peer.name} needs {peer.needs}, which {chosen} does not have: {remedy}")
    return str(chosen)

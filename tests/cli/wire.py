"""A market's commands in one process: what stands for Flower's programs at both ends, and files to run them with."""

import copy
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ipfl.engines.messages import REQUEST, opened
from ipfl.errors import NetworkError
from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.network.keys import read_participant_key
from network.markets import NAMES, World

PLENTY_S = 60.0
ME, *OTHERS = NAMES
JOIN = (
    "join", "localhost:8443", "--terms", f"{ME}.toml", "--data", f"data/{ME}.npz", "--key", f"keys/{ME}",
    "--ca", "keys/ca.crt",
)  # fmt: skip


def site(folder: Path, **kw: Any) -> World:
    """The files of a market that the commands need: certificates, and a port that is free."""
    world = World(folder, **{"rounds": 2, "steps": 2, **kw})
    make_authority(folder / "keys", "test")
    make_server_certificate(folder / "keys", ["market.example"])
    change(folder / "market.toml", "[network]", f"[network]\nport = {free_port()}")
    return world


def moved(world: World, folder: Path) -> World:
    """A copy of a market's files in another folder, which is quicker than making them."""
    shutil.copytree(world.folder, folder, dirs_exist_ok=True)
    files = {name: folder / path.relative_to(world.folder) for name, path in world.files.items()}
    there = copy.copy(world)
    there.folder, there.files, there.refused, there.said = folder, files, [], {}
    return there


def change(path: Path, old: str, new: str) -> None:
    """Write something else in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def let_nothing_start(monkeypatch: Any) -> None:
    """From now on a program of Flower's that is started fails the test."""
    for name in ("start", "ask"):
        monkeypatch.setattr(f"ipfl.network.programs.{name}", partial(_started, name))


def _started(name: str, command: Any, *_: Any) -> None:
    raise AssertionError(f"programs.{name} was called: {command}")


@dataclass
class Wire:
    """Brings requests to whoever is connected, by fingerprint; `watch` sees each once it is answered."""

    answers: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    watch: Callable[[dict[str, Any]], None] = lambda request: None
    hosts: list["HostEnd"] = field(default_factory=list)
    over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plug(self, monkeypatch: Any) -> "Wire":
        """Take the place of Flower's two ends."""
        let_nothing_start(monkeypatch)
        monkeypatch.setattr("ipfl.network.flower_host.FlowerHost", partial(HostEnd, self))
        monkeypatch.setattr("ipfl.network.flower_node.FlowerNode", partial(NodeEnd, self))
        monkeypatch.setattr("ipfl.network.hosting.POLL_S", 0.02)
        monkeypatch.setattr("ipfl.cli.join.POLL_S", 0.02)
        monkeypatch.setattr("ipfl.cli.join.DELIVERED_S", 0.1)
        return self

    def connect(self, world: World, *names: str) -> None:
        """Let participants take part without the command."""
        for name in names:
            self.answers[world.fingerprint(name)] = world.node(name).answer


class HostEnd:
    """Stands for `FlowerHost`."""

    def __init__(
        self,
        wire: Wire,
        folder: Path,
        keys: Path,
        host: str,
        port: int,
        *,
        expose_control: bool = False,
        log: Callable[[str], None] = lambda text: None,
    ):
        self.wire, self.folder, self.address = wire, folder, (host, port)
        self.public_keys: dict[str, str] = {}
        self.closed = False
        wire.hosts.append(self)

    def start(self, public_keys: dict[str, str]) -> None:
        self.folder.mkdir(exist_ok=True)
        self.public_keys = dict(public_keys)

    def online(self) -> set[str]:
        if self.wire.over:
            raise NetworkError("it is called off")
        return set(self.wire.answers)

    def exchange(self, messages, deadline_s, on_reply=None):
        replies, reasons = {}, {}
        for fingerprint, message in messages.items():
            with self.wire.lock:  # whoever leaves finishes its answer first
                answer = self.wire.answers.get(fingerprint)
                if answer is None:
                    reasons[fingerprint] = "is not connected to the market"
                    continue
                replies[fingerprint] = answer(message)
            if on_reply is not None:
                on_reply(fingerprint, replies[fingerprint])
            self.wire.watch(opened(REQUEST, message, lambda *_: True, 1 << 30).content)
        return replies, reasons

    def close(self) -> None:
        self.closed = True


class NodeEnd:
    """Stands for `FlowerNode`."""

    def __init__(self, wire: Wire, folder: Path, address: str, ca: Path, key: Path):
        self.wire, self.fingerprint = wire, read_participant_key(key).fingerprint

    def serve(self, answer, stop, on_state):
        with self.wire.lock:
            self.wire.answers[self.fingerprint] = answer
        on_state("connected")
        stop.wait(PLENTY_S)
        with self.wire.lock:
            del self.wire.answers[self.fingerprint]


class _InThread:
    """Does something in a thread; `result` waits for it, and raises what it raised."""

    def __init__(self, work: Callable[[], Any]):
        self._work, self._found, self._error = work, None, None
        self._thread = threading.Thread(target=self._do, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(PLENTY_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._found

    def _do(self) -> None:
        try:
            self._found = self._work()
        except BaseException as error:
            self._error = error


def in_thread(work: Callable[[], Any]) -> _InThread:
    """Do something in a thread meanwhile."""
    return _InThread(work)


def call_off(wire: Wire, operator: _InThread) -> None:
    """End a market that waits for somebody who will not come."""
    wire.over = True
    try:
        operator.result()
    except NetworkError:
        return
    raise AssertionError("it did not wait")


def hosting(world: World, wire: Wire, **kw: Any) -> _InThread:
    """The operator, at work in a thread."""
    end = HostEnd(wire, world.folder / "market.network", world.folder / "keys", "127.0.0.1", 1)
    return in_thread(lambda: world.host(end, **kw))

"""What the network over Flower does without its processes: records, frames, the relay's loop, and sentences."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from ipfl.errors import ConfigError, NetworkError
from ipfl.network import programs
from ipfl.network.addresses import split_address
from ipfl.network.flower_host import FlowerHost, turned_away
from ipfl.network.flower_node import certificate_sentence, check_clock, connected, is_sending, refusal
from ipfl.network.keys import make_participant_key

pytest.importorskip("flwr")
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from ipfl.engines import flower


@pytest.mark.parametrize("body", [b"", b"a", bytes(range(256)), os.urandom(6_000_000)], ids=len)
def test_bytes_come_back_from_a_record(body: bytes) -> None:
    assert flower.from_record(flower.to_record(body)) == body


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (flower.to_error("is busy"), "is busy"),
        (RecordDict({}), "not of this market"),
        (RecordDict({"body": ConfigRecord({"body": b"x"})}), "not of this market"),
    ],
)
def test_a_record_without_bytes_is_refused_with_its_reason(record: RecordDict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        flower.from_record(record)


def test_the_fingerprint_of_flowers_key_is_that_of_ours(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    key = make_participant_key(tmp_path / "key")
    pem = load_ssh_public_key(key.public_text.encode()).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    assert flower.fingerprint(pem) == key.fingerprint


@pytest.mark.parametrize("body", [None, b"", b"body"])
def test_frames_arrive_as_sent(body: bytes | None) -> None:
    near, far = Pipe()
    with near, far:
        flower.send_frame(near, {"do": "it"}, body)
        assert flower.receive_frame(far) == ({"do": "it"}, body or b"")
        assert not far.poll(0)


def test_what_is_no_frame_is_refused() -> None:
    near, far = Pipe()
    with near, far:
        near.send_bytes(json.dumps([1]).encode())
        with pytest.raises(ValueError, match="a frame's head is an object"):
            flower.receive_frame(far)


# ---------------------------------------------------------------- the relay


class FakeGrid(Grid):
    """Answers as `answers` says, by the node's number, each so many looks after its message was pushed."""

    def __init__(self, keys: dict[str, bytes], answers: dict[int, list[tuple[int, bytes | int]]]):
        self._keys, self._answers = keys, answers
        self._looks = 0
        self.pushed: list[Message] = []

    def get_nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(node_id=node_id + 1, public_key=pem, status="online")
            for node_id, pem in enumerate(self._keys.values())
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        message.metadata.__dict__["_message_id"] = f"message {message.metadata.dst_node_id}"
        self.pushed.append(message)
        return [message.metadata.message_id]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self._looks += 1
        return [
            Message(Error(what) if isinstance(what, int) else flower.to_record(what), reply_to=message)
            for message in self.pushed
            for looks, what in self._answers.get(message.metadata.dst_node_id - 1, [])
            if looks == self._looks
        ]

    def set_run(self, *_: Any) -> None: ...
    def create_message(self, *_: Any) -> Any: ...
    def get_node_ids(self) -> Any: ...
    def send_and_receive(self, *_: Any, **__: Any) -> Any: ...

    @property
    def run(self) -> Any: ...


@pytest.fixture(autouse=True)
def in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages can be made in a task of Flower's only."""
    for name in ("task_id", "run_id", "node_id"):
        monkeypatch.setattr(f"flwr.supercore.task_identity.TaskIdentity._{name}", 1)


def pem(body: bytes) -> bytes:
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(body) + b"\n-----END PUBLIC KEY-----\n"


KEYS = {name: pem(name.encode()) for name in ("north", "south", "east")}
NORTH, SOUTH, EAST = (flower.fingerprint(key) for key in KEYS.values())


def outcomes(grid: FakeGrid, names: Iterable[str], time_s: float) -> list[tuple[str, bytes | str]]:
    messages = {name: name.encode() for name in names}
    return list(flower.exchange(grid, messages, time.monotonic() + time_s))


def test_each_outcome_is_told_once_and_the_absent_at_once() -> None:
    answers = {0: [(1, b"first"), (2, b"again")], 1: [(2, flower.NODE_UNAVAILABLE)], 2: [(3, 2)]}
    told = outcomes(FakeGrid(KEYS, answers), ["nobody", NORTH, SOUTH, EAST], 10)
    assert told == [
        ("nobody", "is not connected to the market"),
        (NORTH, b"first"),
        (SOUTH, "lost its connection before its answer was there"),
        (EAST, "Flower could not bring its answer (error 2): no reason given"),
    ]


def test_the_silent_are_told_at_the_deadline_which_is_how_long_messages_last() -> None:
    grid, began = FakeGrid(KEYS, {0: [(1, b"here")]}), time.monotonic()
    assert outcomes(grid, [NORTH, SOUTH], 0.5) == [(NORTH, b"here"), (SOUTH, "did not answer in time")]
    assert 0.4 < time.monotonic() - began < 1.5
    assert all(0 < message.metadata.ttl <= 0.5 for message in grid.pushed)


def test_nobody_is_asked_when_the_time_is_over() -> None:
    grid = FakeGrid(KEYS, {})
    ((_, reason),) = outcomes(grid, [NORTH], 0)
    assert "was not asked: the time was over" in str(reason)
    assert grid.pushed == []


def test_the_relay_serves_frames_until_the_operator_closes() -> None:
    near, far = Pipe()
    grid: Any = FakeGrid(KEYS, {0: [(1, b"answer")]})
    with far, near:
        thread = threading.Thread(target=_serve, args=(grid, far))
        thread.start()
        flower.send_frame(near, {"do": "nodes"})
        assert flower.receive_frame(near) == ({"nodes": sorted([NORTH, SOUTH, EAST])}, b"")
        flower.send_frame(near, {"do": "exchange", "deadline_s": 5, "count": 2})
        flower.send_frame(near, {"to": NORTH}, b"message")
        flower.send_frame(near, {"to": "nobody"}, b"message")
        assert [flower.receive_frame(near) for _ in range(3)] == [
            ({"from": "nobody", "reason": flower.ABSENT}, b""),
            ({"from": NORTH}, b"answer"),
            ({"end": True}, b""),
        ]
        near.close()
        thread.join(5)
        assert not thread.is_alive()


def _serve(grid: Any, connection: Connection) -> None:
    with pytest.raises(EOFError):
        flower.serve_operator(grid, connection)


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("said", "is_connected", "sending"),
    [
        ("", False, False),
        ("SuperNode ID: 1", True, False),
        ("SuperNode ID: 1\nReceiving: query.market message\nReceived successfully", True, True),
        ("SuperNode ID: 1\nReceiving: query.market message\nSent successfully", True, False),
        ("SuperNode ID: 1\nConnection attempt failed, retrying in 0.30 seconds", False, False),
        ("Connection attempt failed, retrying\nConnection successful after 0.89 seconds", True, False),
    ],
)
def test_the_log_tells_whether_a_supernode_is_connected_and_sending(
    said: str, is_connected: bool, sending: bool
) -> None:
    assert (connected(said), is_sending(said)) == (is_connected, sending)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR : Exit Code: 606\nincompatible", "runs another version of Flower"),
        (
            "ERROR : Exit Code: 302\nUnable to parse the private key file.",
            "p0 is no key that Flower can read",
        ),
        ("ERROR : Exit Code: 305\n[code: 2004] Failed to activate SuperNode.", ""),
    ],
)
def test_an_end_that_trying_again_would_not_help_has_a_sentence(said: str, sentence: str) -> None:
    found = refusal(said, "market.example:443", Path("p0"))
    assert sentence in found
    assert bool(sentence) == bool(found)


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("certificate has expired", "has expired: the operator has to renew it"),
        ("certificate is not yet valid", "is not valid yet: check this machine's clock"),
        ("Hostname mismatch, certificate is not valid for 'a'", "is not for market.example: use the address"),
        ("IP address mismatch, certificate is not valid for '::1'", "is not for market.example"),
        ("unable to get local issuer certificate", "is not signed by the authority of ca.crt"),
        ("self-signed certificate in certificate chain", "is not signed by the authority of ca.crt"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_one_sentence(reason: str, sentence: str) -> None:
    assert sentence in certificate_sentence(reason, "market.example:443", Path("ca.crt"))


@pytest.mark.parametrize(("ahead_s", "apart"), [(7, "7 s ahead of"), (-310, "310 s behind")])
def test_clocks_too_far_apart_are_told(ahead_s: float, apart: str) -> None:
    with pytest.raises(NetworkError, match=apart):
        check_clock(1_800_000_000 + ahead_s, 1_800_000_000, "market.example:443")


@pytest.mark.parametrize("ahead_s", [0, 4.9, -300])
def test_clocks_near_enough_are_not(ahead_s: float) -> None:
    check_clock(1_800_000_000 + ahead_s, 1_800_000_000, "market.example:443")


@pytest.mark.parametrize("address", ["market.example", "https://market.example:1", ":1", "a:0", "a:x", "::1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="address: "):
        split_address(address)


# ---------------------------------------------------------------- the operator's end, before it starts


def test_a_host_that_others_reach_is_refused_unless_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control interface, which has no password"):
        FlowerHost(tmp_path, tmp_path, host="0.0.0.0")
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    FlowerHost(tmp_path, tmp_path, host="0.0.0.0", expose_control=True)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").touch()
    with pytest.raises(ConfigError, match=r"holds no server\.crt"):
        FlowerHost(tmp_path, tmp_path)


def test_without_start_there_is_nothing_to_ask(tmp_path: Path) -> None:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    host = FlowerHost(tmp_path, tmp_path)
    with pytest.raises(NetworkError, match="call start"):
        host.online()
    host.close()
    assert host.pids() == {}


# ---------------------------------------------------------------- processes


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


def test_keys_that_the_superlink_turned_away_are_read_from_its_log(tmp_path: Path) -> None:
    key = make_participant_key(tmp_path / "stranger")
    pem = load_ssh_public_key(key.public_text.encode()).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    line = f"ERROR: [/v1/fleet/activate-node][ApiError:2004] Attempted to register SuperNode with public key: {pem!r}"
    assert turned_away(f"{line}, exception: none\nINFO: nothing\n{line}\n") == [key.fingerprint] * 2
    assert turned_away(line.replace("MHYw", "%%%%")) == []
    assert turned_away("INFO: [ApiError:2004]") == []


def test_a_message_that_is_not_handed_over_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "FETCH_S", 0.1)
    never = threading.Event()
    with pytest.raises(ConnectionError, match="did not hand over a message"):
        flower._in_time(never.wait)
    never.set()
    assert flower._in_time(lambda: "here") == "here"
    with pytest.raises(KeyError):
        flower._in_time(lambda: {}["nothing"])

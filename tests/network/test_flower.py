"""What the network over Flower does without its processes: records, frames, the relay's loop."""

import base64
import json
import os
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

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


def test_a_message_that_is_not_handed_over_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "FETCH_S", 0.1)
    never = threading.Event()
    with pytest.raises(ConnectionError, match="did not hand over a message"):
        flower._in_time(never.wait)
    never.set()
    assert flower._in_time(lambda: "here") == "here"
    with pytest.raises(KeyError):
        flower._in_time(lambda: {}["nothing"])

"""What the network over Flower does without its processes: records, frames, the relay's loop."""

import ast
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

import ipfl
from ipfl.network.keys import make_participant_key

pytest.importorskip("flwr")
from flwr.app import ConfigRecord, RecordDict

from ipfl.engines import flower
from network.flower_grid import FakeGrid, in_a_task, pem

__all__ = ["in_a_task"]


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


def test_a_body_beyond_what_is_allowed_is_not_taken_in() -> None:
    near, far = Pipe()
    with near, far:
        flower.send_frame(near, {"do": "it"}, b"12345")
        assert flower.receive_frame(far, 5)[1] == b"12345"
        flower.send_frame(near, {"do": "it"}, b"123456")
        with pytest.raises(OSError, match="bad message length"):
            flower.receive_frame(far, 5)


def test_what_is_no_frame_is_refused() -> None:
    near, far = Pipe()
    with near, far:
        near.send_bytes(json.dumps([1]).encode())
        with pytest.raises(ValueError, match="a frame's head is an object"):
            flower.receive_frame(far)


# ---------------------------------------------------------------- the relay


KEYS = {name: pem(name.encode()) for name in ("north", "south", "east")}
NORTH, SOUTH, EAST = (flower.fingerprint(key) for key in KEYS.values())
MAX = 1000


def outcomes(grid: FakeGrid, names: Iterable[str], time_s: float) -> list[tuple[str, bytes | str]]:
    messages = {name: name.encode() for name in names}
    return list(flower.exchange(grid, messages, time.monotonic() + time_s, MAX))


def test_each_outcome_is_told_once_and_the_absent_at_once() -> None:
    answers = {0: [(1, b"first"), (2, b"again")], 1: [(2, flower.NODE_UNAVAILABLE)], 2: [(3, 2)]}
    told = outcomes(FakeGrid(KEYS, answers), ["nobody", NORTH, SOUTH, EAST], 10)
    assert told == [
        ("nobody", "is not connected to the market"),
        (NORTH, b"first"),
        (SOUTH, "lost its connection before its answer was there"),
        (EAST, "Flower could not bring its answer (error 2): no reason given"),
    ]


def test_a_message_that_flower_gives_up_when_its_time_is_over_was_not_answered() -> None:
    grid = FakeGrid(KEYS, {0: [(1, flower.MESSAGE_UNAVAILABLE)]})
    assert outcomes(grid, [NORTH], 10) == [(NORTH, "did not answer in time")]


def test_the_silent_are_told_at_the_deadline_which_is_how_long_messages_last() -> None:
    grid, began = FakeGrid(KEYS, {0: [(1, b"here")]}), time.monotonic()
    assert outcomes(grid, [NORTH, SOUTH], 0.5) == [(NORTH, b"here"), (SOUTH, "did not answer in time")]
    assert 0.4 < time.monotonic() - began < 1.5
    assert all(0 < message.metadata.ttl <= 0.5 for message in grid.pushed)


def test_an_answer_may_have_what_is_allowed_and_no_byte_more() -> None:
    grid = FakeGrid(KEYS, {0: [(1, bytes(MAX))], 1: [(1, bytes(MAX + 1))]})
    assert outcomes(grid, [NORTH, SOUTH], 10) == [
        (NORTH, bytes(MAX)),
        (SOUTH, "its answer has 1,001 bytes, allowed are 1,000"),
    ]


def test_a_reason_of_any_length_is_cut() -> None:
    grid = FakeGrid(KEYS, {0: [(1, flower.to_error("x" * 5000))]})
    ((_, reason),) = outcomes(grid, [NORTH], 10)
    assert reason == "x" * 300


def test_one_that_stops_in_the_middle_of_its_answer_keeps_nobody_waiting_and_is_dropped() -> None:
    grid = FakeGrid(KEYS, {0: [(1, b"half")], 1: [(1, b"whole")]})
    grid.client.unavailable.add(1)
    began = time.monotonic()
    told = outcomes(grid, [NORTH, SOUTH], 0.6)
    assert told == [(SOUTH, b"whole"), (NORTH, "did not answer in time")]
    assert time.monotonic() - began < 2
    assert grid.client.objects == {}  # Flower was told to keep nothing of either


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
        flower.send_frame(near, {"do": "exchange", "deadline_s": 5, "count": 2, "bytes_max": MAX})
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


def test_flower_is_imported_by_the_files_named_after_it_alone() -> None:
    found = {
        path.name
        for path in Path(ipfl.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.split(".")[0] == "flwr"
    }
    assert found == {"flower.py", "flower_replies.py", "flower_control.py"}


def test_a_relay_whose_parent_is_gone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, ended = [7, 7, 1], []
    monkeypatch.setattr(flower, "ORPHAN_POLL_S", 0.0)
    monkeypatch.setattr(os, "getppid", lambda: parents.pop(0))
    monkeypatch.setattr(os, "_exit", ended.append)
    flower._end_with(7)
    assert (parents, ended) == ([], [1])

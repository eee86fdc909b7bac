"""Replies taken from Flower: those of any size and any form do no harm, and Flower keeps nothing of them."""

import json
import time

import pytest

pytest.importorskip("flwr")
from flwr.app import Array, ArrayRecord, RecordDict

from ipfl.engines import flower
from network.flower_grid import FakeGrid, Said, in_a_task, pem

__all__ = ["in_a_task"]
KEY = pem(b"north")
NORTH = flower.fingerprint(KEY)


def outcome(said: Said, bytes_max: int, time_s: float = 10.0) -> tuple[FakeGrid, bytes | str]:
    grid = FakeGrid({"north": KEY}, {0: [(1, said)]})
    ((name, told),) = flower.exchange(grid, {NORTH: b"hello"}, time.monotonic() + time_s, bytes_max)
    assert name == NORTH
    assert grid.client.objects == {}
    return grid, told


def pieces(*contents: bytes) -> RecordDict:
    """A record of more arrays than one, each a piece."""
    arrays = {str(i): Array("uint8", (len(body),), "bytes", body) for i, body in enumerate(contents)}
    return RecordDict({"body": ArrayRecord(arrays)})


def test_of_a_reply_too_large_no_more_is_fetched_than_it_takes_to_know() -> None:
    body = b"".join(bytes([number]) * (5 << 20) for number in range(20))
    grid, told = outcome(body, 8 << 20)
    assert told == f"its answer has {2 * (5 << 20) + _heads(grid):,} bytes or more, allowed are 8,388,608"
    assert len(grid.client.pulled) == 2


def _heads(grid: FakeGrid) -> int:
    """What Flower writes on the pieces that were fetched."""
    return sum(grid.client.sizes[piece] - (5 << 20) for piece in grid.client.pulled)


def test_a_piece_named_many_times_counts_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = json.dumps

    def often(content: object, *arguments: object, **options: object) -> str:
        if isinstance(content, dict) and "arraychunk_ids" in content:
            content = {**content, "arraychunk_ids": [0] * 1000}
        return dumps(content, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("flwr.app.message.array.json.dumps", often)
    _, told = outcome(bytes(1 << 20), 8 << 20)
    assert isinstance(told, str)
    assert told.startswith("its answer has 1,048,")
    assert told.endswith("bytes or more, allowed are 8,388,608")


def test_a_reply_in_very_many_pieces_is_not_fetched() -> None:
    grid, told = outcome(pieces(*(bytes([number]) for number in range(100))), 2 << 20)
    assert told == "its answer is in 203 pieces, allowed are 66"
    assert grid.client.pulled == []


def test_what_flower_cannot_put_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flwr.app.message.array.json.dumps", lambda *_, **__: '{"arraychunk_ids": [7]}')
    assert outcome(b"body", 1000)[1] == "answered with a record that is not of this market"


def test_a_piece_that_flower_has_lost_ends_the_reply() -> None:
    grid = FakeGrid({"north": KEY}, {0: [(1, b"body")]})
    grid.client.lost = True
    ((_, told),) = flower.exchange(grid, {NORTH: b"hello"}, time.monotonic() + 10, 1000)
    assert told == "lost its connection before its answer was there"

"""The door by which the relay comes in: with its key, when it is asked for, and not after it is shut."""

import stat
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path

import pytest

from ipfl.network.door import Door


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path / "relay.log")
    yield door
    door.close()


def come_in(door: Door) -> Connection:
    return Client(str(door.place / "relay"), "AF_UNIX", authkey=(door.place / "key").read_bytes())


def test_who_has_the_key_comes_in(door: Door) -> None:
    with come_in(door) as relay:
        relay.send_bytes(b"here")
        found = door.next(10)
        assert found is not None
        with found:
            assert found.recv_bytes() == b"here"


def test_who_has_another_key_does_not_and_the_next_one_does(door: Door) -> None:
    with pytest.raises(AuthenticationError):
        Client(str(door.place / "relay"), "AF_UNIX", authkey=b"another")
    assert door.next(0.1) is None
    with come_in(door):
        found = door.next(10)
        assert found is not None
        found.close()


def test_who_came_unasked_is_sent_away(door: Door) -> None:
    with come_in(door) as early:
        found = door.next(10)
        assert found is not None
        door._came.put(found)  # as if it had come in just now
        door.forget()
        assert door.next(0.1) is None
        with pytest.raises((EOFError, ConnectionResetError)):
            early.recv_bytes()


def test_the_place_is_for_this_user_alone_and_gone_afterwards(tmp_path: Path) -> None:
    door = Door(tmp_path / "relay.log")
    assert stat.S_IMODE(door.place.stat().st_mode) == 0o700
    assert stat.S_IMODE((door.place / "key").stat().st_mode) == 0o600
    (door.place / "log").write_text("it failed")
    assert (tmp_path / "relay.log").read_text() == "it failed"
    door.close()
    assert not door.place.exists()
    assert (tmp_path / "relay.log").exists()

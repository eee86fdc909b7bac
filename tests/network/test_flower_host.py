"""The operator's end before it starts: what it refuses, and that there is nobody to ask yet."""

import threading
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import pytest

from ipfl.engines.exchange import LimitsReplies
from ipfl.errors import ConfigError, NetworkError
from ipfl.network.flower_host import FlowerHost


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


class Relay:
    """What the operator's process hears when it asks: replies, each with its reason or its bytes."""

    def __init__(self, host: FlowerHost, monkeypatch: pytest.MonkeyPatch, *replies: tuple[str, bytes]):
        flower = pytest.importorskip("ipfl.engines.flower")
        near, self._far = Pipe()
        self.asked: list[dict[str, object]] = []
        monkeypatch.setattr(host, "_relay", near)
        monkeypatch.setattr(host._superlink, "pid", lambda: 1)
        monkeypatch.setattr(host._superlink, "newly_turned_away", list)
        threading.Thread(target=self._serve, args=(flower, replies), daemon=True).start()

    def _serve(self, flower: Any, replies: tuple[tuple[str, bytes], ...]) -> None:
        self.asked.append(flower.receive_frame(self._far)[0])
        for _ in replies:
            flower.receive_frame(self._far)
        for name, body in replies:
            flower.send_frame(self._far, {"from": name}, body)
        flower.send_frame(self._far, {"end": True})


@pytest.fixture
def host(tmp_path: Path) -> FlowerHost:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    return FlowerHost(tmp_path, tmp_path)


def test_the_relay_is_told_how_large_a_reply_may_be_and_held_to_it(
    host: FlowerHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(host, LimitsReplies)
    host.reply_bytes_max = 5
    replies: dict[str, bytes] = {}
    relay = Relay(host, monkeypatch, ("north", b"12345"))
    assert host._ask({"north": b"hello"}, 10, replies, {}, None)
    assert replies == {"north": b"12345"}
    assert relay.asked[0]["bytes_max"] == 5

    Relay(host, monkeypatch, ("north", b"123456"))
    assert not host._ask({"north": b"hello"}, 10, replies, {}, None)
    assert replies == {"north": b"12345"}


def test_of_keys_turned_away_those_that_are_registered_are_no_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    log: list[str] = []
    host = FlowerHost(tmp_path, tmp_path, log=log.append)
    host._registered = {"north"}
    monkeypatch.setattr(host._superlink, "newly_turned_away", lambda: ["north", "nobody"])
    host._look_for_strangers()
    assert log == ["a key that is not registered wanted to connect: fingerprint nobody"]

"""A market's bytes over Flower as it is: a SuperLink and SuperNodes as processes, TLS and keys, on this machine."""

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ipfl.errors import NetworkError
from ipfl.network import programs
from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.network.flower_host import REPLY_BYTES_MAX, FlowerHost
from ipfl.network.flower_node import FlowerNode
from ipfl.network.keys import ParticipantKey, make_participant_key
from network.ports import free_port

pytest.importorskip("flwr")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PLENTY_S = 90.0


@dataclass
class Participant:
    """One that answers until it is stopped, in a thread."""

    node: FlowerNode
    key: ParticipantKey
    answer: Callable[[bytes], bytes] = bytes.upper
    states: list[str] = field(default_factory=list)
    error: Exception | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def join(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def leave(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(60)
            assert not self._thread.is_alive()

    def _serve(self) -> None:
        try:
            self.node.serve(lambda body: self.answer(body), self._stop, self.states.append)
        except Exception as error:
            self.error = error


@dataclass
class Market:
    folder: Path
    host: FlowerHost
    port: int
    participants: list[Participant]
    log: list[str]

    @property
    def fingerprints(self) -> list[str]:
        return [participant.key.fingerprint for participant in self.participants]

    def until_online(self, fingerprints: set[str]) -> None:
        waits_until(lambda: fingerprints <= self.host.online())


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market") / 'a "folder" of mine'
    make_authority(folder / "keys", "test")
    make_server_certificate(folder / "keys", ["localhost"])
    keys = {name: make_participant_key(folder / name) for name in ("north", "south")}
    port = free_port()
    log: list[str] = []
    host = FlowerHost(folder / "host", folder / "keys", port=port, log=log.append)
    participants = [
        Participant(node(folder, port, folder / f"{name}-node", folder / name), key)
        for name, key in keys.items()
    ]
    try:
        host.start({name: key.public_text for name, key in keys.items()})
        for participant in participants:
            participant.join()
        yield Market(folder, host, port, participants, log)
    finally:
        for participant in participants:
            participant.leave()
        host.close()


@pytest.fixture(autouse=True)
def all_are_online(market: Market) -> Iterator[None]:
    market.until_online(set(market.fingerprints))
    yield
    for participant in market.participants:
        participant.answer = bytes.upper


def test_replies_are_the_answers_to_each_ones_own_message(market: Market) -> None:
    heard: dict[str, bytes] = {}
    messages = {name: f"to {name}".encode() for name in market.fingerprints}
    replies, reasons = market.host.exchange(messages, PLENTY_S, heard.__setitem__)
    assert replies == {name: body.upper() for name, body in messages.items()} == heard
    assert reasons == {}


def test_twenty_megabytes_come_back_as_they_went(market: Market) -> None:
    body = os.urandom(20_000_000)
    for participant in market.participants:
        participant.answer = lambda body: body[::-1]
    replies, reasons = market.host.exchange(dict.fromkeys(market.fingerprints, body), PLENTY_S)
    assert reasons == {}
    assert all(reply == body[::-1] for reply in replies.values())


def test_of_an_answer_too_large_little_is_taken_in_and_the_next_one_comes(market: Market) -> None:
    first, second = market.fingerprints
    market.participants[0].answer = lambda body: os.urandom(150 << 20)
    market.host.reply_bytes_max, before = 10 << 20, database_bytes(market)
    try:
        replies, reasons = market.host.exchange({first: b"a", second: b"b"}, PLENTY_S)
        assert replies == {second: b"B"}
        assert re.fullmatch("its answer has [0-9,]+ bytes or more, allowed are 10,485,760", reasons[first])
        assert database_bytes(market) - before < 100 << 20  # what came before the relay saw it
        market.participants[0].answer = bytes.upper
        assert market.host.exchange({first: b"again"}, PLENTY_S) == ({first: b"AGAIN"}, {})
    finally:
        market.host.reply_bytes_max = REPLY_BYTES_MAX


def database_bytes(market: Market) -> int:
    return (market.folder / "host" / "state.db").stat().st_size


def test_nothing_is_a_message_too(market: Market) -> None:
    replies, reasons = market.host.exchange(dict.fromkeys(market.fingerprints, b""), PLENTY_S)
    assert (replies, reasons) == (dict.fromkeys(market.fingerprints, b""), {})


def test_a_key_that_nobody_has_is_told_at_once(market: Market) -> None:
    began = time.monotonic()
    replies, reasons = market.host.exchange({"0" * 64: b"hello"}, PLENTY_S)
    assert (replies, reasons) == ({}, {"0" * 64: "is not connected to the market"})
    assert time.monotonic() - began < 5


def test_an_answer_refused_is_told_with_its_reason_and_serving_goes_on(market: Market) -> None:
    def refuse(_: bytes) -> bytes:
        raise ValueError("has been asked that before")

    first, second = market.fingerprints
    market.participants[0].answer = refuse
    replies, reasons = market.host.exchange({first: b"a", second: b"b"}, PLENTY_S)
    assert (replies, reasons) == ({second: b"B"}, {first: "has been asked that before"})
    market.participants[0].answer = bytes.upper
    assert market.host.exchange({first: b"again"}, PLENTY_S) == ({first: b"AGAIN"}, {})


def test_an_answer_after_the_deadline_is_left_and_the_next_message_is_answered(market: Market) -> None:
    release = threading.Event()
    asked: list[bytes] = []

    def late(body: bytes) -> bytes:
        asked.append(body)
        release.wait(60)
        return body.upper()

    first, second = market.fingerprints
    market.participants[0].answer = late
    began = time.monotonic()
    replies, reasons = market.host.exchange({first: b"one", second: b"two"}, 8)
    assert 7 < time.monotonic() - began < 9.5
    assert (replies, reasons) == ({second: b"TWO"}, {first: "did not answer in time"})
    # sent while it is busy, and over before it is free: never delivered
    assert market.host.exchange({first: b"stale"}, 1)[0] == {}
    release.set()
    assert market.host.exchange({first: b"three"}, PLENTY_S) == ({first: b"THREE"}, {})
    assert asked == [b"one", b"three"]


def test_a_supernode_killed_is_silent_until_the_deadline_and_then_back_under_its_key(market: Market) -> None:
    first, second = market.fingerprints
    victim = market.participants[0]

    def die(body: bytes) -> bytes:
        pid = victim.node.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return body

    victim.answer = die
    began = time.monotonic()
    replies, reasons = market.host.exchange({first: b"one", second: b"two"}, 12)
    assert 11 < time.monotonic() - began < 13.5
    assert (replies, reasons) == ({second: b"TWO"}, {first: "did not answer in time"})
    victim.answer = bytes.upper
    assert victim.error is None
    waits_until(lambda: victim.states[-1] == "connected")
    assert market.host.exchange({first: b"back"}, PLENTY_S) == ({first: b"BACK"}, {})


@pytest.mark.parametrize("which", ["superlink", "relay"])
def test_what_is_killed_between_exchanges_is_there_at_the_next(market: Market, which: str) -> None:
    os.kill(market.host.pids()[which], signal.SIGKILL)
    messages = dict.fromkeys(market.fingerprints, b"again")
    assert market.host.exchange(messages, PLENTY_S) == (dict.fromkeys(messages, b"AGAIN"), {})


def test_a_superlink_killed_while_answers_are_made_is_started_and_asks_again(market: Market) -> None:
    first, second = market.fingerprints
    asked: list[bytes] = []
    orphan = Path(f"/proc/{market.host.pids()['relay']}")
    assert orphan.exists()

    def kill_once(body: bytes) -> bytes:
        asked.append(body)
        if len(asked) == 1:
            os.kill(market.host.pids()["superlink"], signal.SIGKILL)
        return body.upper()

    market.participants[0].answer = kill_once
    replies, reasons = market.host.exchange({first: b"one", second: b"two"}, 150)
    assert (replies, reasons) == ({first: b"ONE", second: b"TWO"}, {})
    waits_until(lambda: not orphan.exists())  # nothing goes on asking the one that was killed


def test_an_answer_given_while_stopping_is_sent(market: Market) -> None:
    first, victim = market.fingerprints[0], market.participants[0]

    def last(body: bytes) -> bytes:
        victim._stop.set()
        return body.upper()

    victim.answer = last
    assert market.host.exchange({first: b"last"}, PLENTY_S) == ({first: b"LAST"}, {})
    victim.leave()
    assert victim.error is None
    victim.join()


def test_one_that_leaves_is_known_to_have_left(market: Market) -> None:
    first, second = market.fingerprints
    market.participants[0].leave()
    try:
        assert market.host.online() == {second}
        assert market.host.exchange({first: b"hello"}, PLENTY_S)[1] == {
            first: "is not connected to the market"
        }
    finally:
        market.participants[0].join()


FOREIGN_APP = """
import time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

(Path({folder!r}) / f"ran-{{time.time_ns()}}").touch()
server_app = ServerApp()
client_app = ClientApp()

@server_app.main()
def main(grid, context):
    messages = [
        Message(RecordDict(), dst_node_id=node.node_id, message_type="query.market") for node in grid.get_nodes()
    ]
    replies = grid.send_and_receive(messages, timeout=60)
    said = [reply.content["error"]["reason"] for reply in replies]
    (Path({folder!r}) / "told").write_text("\\n".join(said))
"""


def test_an_app_that_is_not_the_markets_runs_on_no_participants_machine(
    market: Market, tmp_path: Path
) -> None:
    app, folder = tmp_path / "app", tmp_path / "ran"
    shutil.copytree(market.host._folder / "app", app)
    folder.mkdir()
    (app / "market" / "app.py").write_text(FOREIGN_APP.format(folder=str(folder)))
    status, said = programs.ask(["flwr", "run", str(app), "market"], market.host._folder, 60)
    assert status == 0, said
    waits_until((folder / "told").exists)
    waits_until(lambda: (folder / "told").read_text() != "")
    assert set((folder / "told").read_text().split("\n")) == {
        "answered with a record that is not of this market"
    }
    assert len(list(folder.glob("ran-*"))) == 1  # in the operator's own SuperLink, where its ServerApp is
    assert not list(market.folder.glob("*-node/apps"))
    messages = dict.fromkeys(market.fingerprints, b"all is well")
    assert market.host.exchange(messages, PLENTY_S) == (dict.fromkeys(messages, b"ALL IS WELL"), {})


def test_a_key_not_registered_is_told_in_a_sentence(market: Market, tmp_path: Path) -> None:
    key = make_participant_key(tmp_path / "stranger")
    ca = market.folder / "keys" / "ca.crt"
    stranger = FlowerNode(
        tmp_path / "node", f"localhost:{market.port}", ca, tmp_path / "stranger", patience_s=0
    )
    with pytest.raises(NetworkError, match="does not let this participant's key in: it is not registered"):
        stranger.serve(bytes.upper, threading.Event())
    assert stranger.pid() is None
    market.host.online()
    told = f"a key that is not registered wanted to connect: fingerprint {key.fingerprint}"
    assert [line for line in market.log if key.fingerprint in line] == [told]  # once, however often it tries


def test_another_authority_is_told_in_a_sentence(market: Market, tmp_path: Path) -> None:
    make_authority(tmp_path / "keys", "somebody else")
    other = FlowerNode(
        tmp_path / "node", f"localhost:{market.port}", tmp_path / "keys" / "ca.crt", market.folder / "north"
    )
    with pytest.raises(NetworkError, match=r"is not signed by the authority of .*ca\.crt"):
        other.serve(bytes.upper, threading.Event())


def test_an_address_that_the_certificate_is_not_for_is_told_in_a_sentence(
    market: Market, tmp_path: Path
) -> None:
    other = FlowerNode(
        tmp_path / "node",
        f"127.0.0.2:{market.port}",
        market.folder / "keys" / "ca.crt",
        market.folder / "north",
    )
    # the SuperLink listens at 127.0.0.1 alone, so what answers at 127.0.0.2 is a tunnel of ours
    with tunnel("127.0.0.2", market.port), pytest.raises(NetworkError, match=r"is not for 127\.0\.0\.2"):
        other.serve(bytes.upper, threading.Event())


def test_where_nothing_listens_it_is_tried_again(market: Market, tmp_path: Path) -> None:
    stop, states = threading.Event(), []

    def tell(state: str) -> None:
        states.append(state)
        if len(states) == 2:
            stop.set()

    port = free_port()
    node(market.folder, port, tmp_path / "node", market.folder / "north").serve(bytes.upper, stop, tell)
    assert states == [
        f"the market does not answer at localhost:{port} (connection refused); trying again in {wait_s} s"
        for wait_s in (1, 2)
    ]


def test_a_failure_of_the_participant_itself_ends_serving_and_is_told(market: Market) -> None:
    class BrokenError(Exception):
        pass

    def fail(_: bytes) -> bytes:
        raise BrokenError

    victim, (first, _) = market.participants[0], market.fingerprints
    victim.answer = fail
    reasons = market.host.exchange({first: b"hello"}, PLENTY_S)[1]
    assert reasons == {first: "could not answer: its own process failed"}
    victim.leave()
    assert isinstance(victim.error, BrokenError)
    victim.error = None
    victim.join()


def node(folder: Path, port: int, home: Path, key: Path) -> FlowerNode:
    return FlowerNode(home, f"localhost:{port}", folder / "keys" / "ca.crt", key)


def waits_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PLENTY_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


class tunnel:  # noqa: N801
    """Carries what comes at a host's port to 127.0.0.1's, one connection."""

    def __init__(self, host: str, port: int):
        self._listener, self._port = socket.create_server((host, port)), port

    def __enter__(self) -> None:
        threading.Thread(target=self._carry, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _carry(self) -> None:
        target = ("127.0.0.1", self._port)
        with suppress(OSError), self._listener.accept()[0] as near, socket.create_connection(target) as far:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join(5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

"""A participant's end of a market over Flower: its SuperNode, and what answers the messages that come to it.

The SuperNode keeps the connection: it signs every request with the participant's key, checks the market's certificate
and fetches messages. It is told to start no app: this process fetches the messages from it and answers them with
installed code, so that whoever runs the SuperLink cannot run programs of his own here.
"""

import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ipfl.errors import NetworkError
from ipfl.network import programs
from ipfl.network.addresses import split_address
from ipfl.network.reach import why_unreachable
from ipfl.network.supernode_log import connected, end_of, is_sending, key_not_let_in, refusal

BACKOFF_S = (1, 2, 5, 10, 30)
"""Waits before trying again; the last of them for ever."""
STEADY_S = 60
"""A SuperNode that has lived so long did start well: if it dies, the waits begin anew."""
STARTING_S = 60
SENDING_S = 20
"""An answer that takes longer to send is lost when this process has been told to stop."""
COUNTED_S = 75
"""A SuperNode that was killed is counted as connected for a minute, and its key is not let in meanwhile."""
NOT_YET_S = 120
"""So long a key that was never let in is tried: an operator that has just started is still registering keys."""


class FlowerNode:
    """A participant's end: its SuperNode, and the answers to what comes.

    Args:
      folder: working files: the SuperNode's log and Flower's own settings. Made, for its owner alone.
      address: HOST:PORT of the market.
      ca: certificate of the authority that the operator's certificate is signed by.
      key: the participant's private key, in OpenSSH's format.
      patience_s: so long a key that was never let in is tried again.
    Raises:
      ConfigError: the address is none.
    """

    def __init__(self, folder: Path, address: str, ca: Path, key: Path, patience_s: float = NOT_YET_S):
        self._folder, self._ca, self._key = folder.absolute(), ca.absolute(), key.absolute()
        split_address(address)  # what is no address is refused before anything is made
        self._address, self._patience_s = address, patience_s
        self._log = self._folder / "supernode.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._before = self._folder / "connected-before"
        self._refused_since: float | None = None
        self._told = ""

    def serve(
        self,
        answer: Callable[[bytes], bytes],
        stop: threading.Event,
        on_state: Callable[[str], None] | None = None,
    ) -> None:
        """Keep a SuperNode connected and answer every message, one at a time, until `stop` is set.

        Args:
          answer: gets the bytes of a message and gives those of the reply. The operator is told of a ValueError that
            it raises; anything else ends serving.
          stop: set by another thread or a signal's handler. An answer that has begun is finished first.
          on_state: told in a few words whenever the state changes: connected, or why it is not.
        Raises:
          NetworkError: the market does not let this participant in, or it is not the one its certificate should be.
          ConfigError: Flower is not installed.
          Exception: what `answer` raised.
        """
        programs.program("flower-supernode")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        failures = 0
        try:
            while not stop.is_set():
                started = time.monotonic()
                reason = why_unreachable(self._address, self._ca) or self._serve_once(answer, stop, on_state)
                if stop.is_set():
                    break
                failures = 0 if time.monotonic() - started > STEADY_S else failures
                wait_s = 5 if self._refused_since else BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                self._tell(on_state, f"{reason}; trying again in {wait_s} s")
                stop.wait(wait_s)
        finally:
            programs.end(self._process)
            self._process = None

    def pid(self) -> int | None:
        """The SuperNode's process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _serve_once(
        self, answer: Callable[[bytes], bytes], stop: threading.Event, on_state: Callable[[str], None] | None
    ) -> str:
        """Start a SuperNode and answer its messages until it ends; why it did."""
        from ipfl.engines import flower

        secret_file, secret = self._folder / "supernode.secret", secrets.token_bytes(32)
        secret_file.unlink(missing_ok=True)
        secret_file.touch(0o600)
        secret_file.write_bytes(secret)
        self._log.write_bytes(b"")
        port = _free_port()
        process = self._process = programs.start(self._command(port, secret_file), self._log, self._folder)
        answered = True
        try:
            if not self._connects(process, stop):
                return self._why_ended() if process.poll() is not None else f"no connection: see {self._log}"
            self._before.write_text(self._address)
            self._refused_since = None
            self._tell(on_state, "connected")
            watch = _Watch(process, self._said, lambda state: self._tell(on_state, state))
            flower.serve_tasks(
                f"127.0.0.1:{port}", secret, answer, lambda: stop.is_set() or not watch.lives()
            )
        except ConnectionError as error:
            answered = not isinstance(error, flower.NotHandedOverError)
            if process.poll() is None:
                return f"its SuperNode does not answer: see {self._log}"
        finally:
            if answered:
                self._send_what_is_answered(process)
            programs.end(process)
            secret_file.unlink(missing_ok=True)
        return "" if stop.is_set() else self._why_ended()

    def _command(self, port: int, secret_file: Path) -> list[str]:
        """With a secret that keeps other users of this machine from fetching the participant's messages."""
        command = ["flower-supernode", "--superlink", self._address, "--root-certificates", str(self._ca)]
        command += ["--auth-supernode-private-key", str(self._key), "--isolation", "process"]
        return [
            *command, "--superexec-auth-secret-file", str(secret_file), "--host", "127.0.0.1", "--port", str(port)
        ]  # fmt: skip

    def _connects(self, process: "subprocess.Popen[bytes]", stop: threading.Event) -> bool:
        end = time.monotonic() + STARTING_S
        while time.monotonic() < end and process.poll() is None and not stop.is_set():
            if connected(self._said()):
                return True
            stop.wait(0.1)
        return False

    def _send_what_is_answered(self, process: "subprocess.Popen[bytes]") -> None:
        """Leave the SuperNode the time to send an answer that it has been given just now."""
        end = time.monotonic() + SENDING_S
        while time.monotonic() < end and process.poll() is None and is_sending(self._said()):
            time.sleep(0.1)

    def _why_ended(self) -> str:
        """What the SuperNode's log tells of its end.

        Raises:
          NetworkError: trying again would not help.
        """
        said = self._said()
        if sentence := refusal(said, self._address, self._key):
            raise NetworkError(sentence)
        if not key_not_let_in(said):
            return f"its SuperNode ended: see {self._log}"
        self._refused_since = self._refused_since or time.monotonic()
        refused_s = time.monotonic() - self._refused_since
        if self._before.exists() and refused_s < COUNTED_S:
            return "the market still counts this key as connected, as it does for a minute after a crash"
        if not self._before.exists() and refused_s < self._patience_s:
            return (
                "the market does not know this key yet (if it never does, send the operator the public key)"
            )
        raise NetworkError(
            f"the market at {self._address} does not let this participant's key in: it is not registered, so send the "
            "operator the public key and join after that, or another program is connected with it"
        )

    def _said(self) -> str:
        return end_of(self._log)

    def _tell(self, on_state: Callable[[str], None] | None, state: str) -> None:
        if on_state is not None and state != self._told:
            on_state(state)
        self._told = state


class _Watch:
    """Looks now and then what a SuperNode says of its connection."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", said: Callable[[], str], tell: Callable[[str], None]
    ):
        self._process, self._said, self._tell = process, said, tell
        self._next = 0.0

    def lives(self) -> bool:
        if self._process.poll() is not None:
            return False
        if time.monotonic() > self._next:
            self._next = time.monotonic() + 1
            self._tell("connected" if connected(self._said()) else "the market does not answer, trying again")
        return True


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])

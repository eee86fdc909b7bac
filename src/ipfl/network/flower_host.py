"""The operator's end of a market over Flower: its SuperLink, the relay that runs in it, and the socket between.

The SuperLink's control interface, over which apps are run and keys registered, asks nobody who he is. It listens on
the same port as the rest, so the port is bound to this machine alone, and a proxy in front of it lets others reach
the participants' part. Other users of this machine reach the control interface nevertheless: run a market on a
machine that nobody else has an account on.
"""

import base64
import json
import multiprocessing.connection
import queue
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPSConnection
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ipfl.errors import ConfigError, KeyFileError, NetworkError
from ipfl.network import programs
from ipfl.network.addresses import is_loopback
from ipfl.network.keys import fingerprint_of_der, read_public_key

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STARTING_S = 120
"""So long a SuperLink and its relay may take to start: seconds on an idle machine, many more on a busy one."""
WORTH_S = 5.0
"""With less time left nothing is started again: what it takes would be all of it, and more."""
GRACE_S = 1.0
"""So long after the deadline the relay may still say who has been silent."""
_APP = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "market"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "ipfl"

[tool.flwr.app.components]
serverapp = "market.app:server_app"
clientapp = "market.app:client_app"

[tool.flwr.app.config]
place = ""
"""


class FlowerHost:
    """The operator's end: SuperLink, the relay, and the socket to it.

    Args:
      folder: working files: the SuperLink's database, logs, Flower's own settings. Made, for its owner alone.
      keys: holds ca.crt, server.crt and server.key.
      host: to listen at. Whoever reaches it reaches the control interface.
      port: to listen at.
      expose_control: listen at a host that other machines reach, although they reach the control interface then.
      log: hears of keys that wanted to connect and are not registered.
    Raises:
      ConfigError: the host is not this machine's own and `expose_control` is not given, or a key is missing.
    """

    def __init__(
        self,
        folder: Path,
        keys: Path,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        expose_control: bool = False,
        log: Callable[[str], None] = lambda text: None,
    ):
        if not is_loopback(host) and not expose_control:
            raise ConfigError(
                f"host {host} is reached from other machines, and whoever reaches it can run programs on this one "
                "through Flower's control interface, which has no password: listen at 127.0.0.1, with a proxy before it"
            )
        missing = [name for name in ("ca.crt", "server.crt", "server.key") if not (keys / name).is_file()]
        if missing:
            raise ConfigError(f"{keys} holds no {missing[0]}, which the market's address needs")
        self._folder, self._keys = folder.absolute(), keys.absolute()
        self._host, self._port = host, port
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._superlink: subprocess.Popen[bytes] | None = None
        self._door: _Door | None = None
        self._relay: Connection | None = None
        self._relay_pid = 0
        self._run = ""
        self._log, self._registered, self._seen = log, set[str](), 0

    def start(self, public_keys: Mapping[str, str]) -> None:
        """Start the SuperLink, register keys that are not yet, and start the relay.

        Args:
          public_keys: OpenSSH's line of each participant's public key, by the participant's name.
        Raises:
          KeyFileError: what is given is no participant's public key.
          ConfigError: Flower is not installed.
          NetworkError: something did not start; the sentence says what, and which log tells more.
        """
        registered = {
            read_public_key(text, name).fingerprint: (name, text) for name, text in public_keys.items()
        }
        self._registered = set(registered)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        log = self._folder / "superlink.log"
        self._seen = log.stat().st_size if log.exists() else 0
        self._write_settings()
        try:
            self._start_superlink()
            self._register(registered)
            self._door = _Door(self._folder)
            self._start_relay()
        except BaseException:
            self.close()
            raise

    def online(self) -> set[str]:
        """Fingerprints of those that can be reached now. One that died without a word stays for up to a minute.

        Raises:
          NetworkError: the SuperLink or the relay could not be started again.
        """
        self._revive()
        answer = self._nodes()
        if answer is None:
            self._revive()
            answer = self._nodes()
        self._tell_of_strangers()
        return answer or set()

    def _tell_of_strangers(self) -> None:
        """Log the keys, once each, that the SuperLink has turned away since this was last looked at."""
        with (self._folder / "superlink.log").open("rb") as file:
            file.seek(self._seen)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._seen += len(whole)
        for stranger in turned_away(whole.decode("utf-8", "replace")):
            if stranger not in self._registered:
                self._registered.add(stranger)
                self._log(f"a key that is not registered wanted to connect: fingerprint {stranger}")

    def exchange(
        self,
        messages: Mapping[str, bytes],
        deadline_s: float,
        on_reply: Callable[[str, bytes], None] | None = None,
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Send each its message and wait for the replies.

        If the SuperLink or the relay dies meanwhile it is started again, once, and those that have not answered are
        asked again in what is left of the time. So one may be asked twice: participants know a message they have had.

        Args:
          messages: by fingerprint.
          deadline_s: from now, not counting what it takes to start again what had died before.
          on_reply: told each reply as it comes.
        Returns:
          Replies by fingerprint, and for all others the reason why there is none.
        Raises:
          NetworkError: the SuperLink or the relay could not be started again.
        """
        self._revive()
        deadline = time.monotonic() + deadline_s
        replies: dict[str, bytes] = {}
        reasons: dict[str, str] = {}
        for attempt in range(2):
            open_ = {name: body for name, body in messages.items() if name not in replies}
            left_s = deadline - time.monotonic()
            if not open_ or left_s <= 0:
                break
            reasons.clear()
            if self._ask(open_, left_s, replies, reasons, on_reply):
                break
            if attempt == 0 and deadline - time.monotonic() > WORTH_S:
                self._revive()
        for name in messages:
            if name not in replies:
                reasons.setdefault(name, "was not heard of: the operator's own SuperLink had stopped")
        return replies, reasons

    def close(self) -> None:
        """Stop the relay and the SuperLink: only what this object started. Participants' programs go on."""
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        if self._run and self._superlink is not None and self._superlink.poll() is None:
            with suppress(subprocess.TimeoutExpired, ConfigError):
                programs.ask(["flwr", "stop", self._run, "market"], self._folder, 30)
        programs.end(self._superlink)
        self._superlink = None
        self._run = ""
        if self._door is not None:
            self._door.close()
            self._door = None

    def pids(self) -> dict[str, int]:
        """The processes that this object started and that live."""
        found = {}
        if self._superlink is not None and self._superlink.poll() is None:
            found["superlink"] = self._superlink.pid
        if self._relay is not None:
            found["relay"] = self._relay_pid
        return found

    # ---------------------------------------------------------------- starting

    def _write_settings(self) -> None:
        (self._folder / "config.toml").write_text(
            f'[superlink]\ndefault = "market"\n\n[superlink.market]\naddress = {json.dumps(self._address)}\n'
            f"root-certificates = {json.dumps(str(self._keys / 'ca.crt'))}\n"
        )
        package = self._folder / "app" / "market"
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "pyproject.toml").write_text(_APP.lstrip())
        (package / "__init__.py").write_text("")
        (package / "app.py").write_text((files("ipfl.engines") / "flower.py").read_text())

    def _start_superlink(self) -> None:
        log = self._folder / "superlink.log"
        command = [
            "flower-superlink",
            "--host",
            self._host,
            "--port",
            str(self._port),
            "--enable-supernode-auth",
        ]
        command += ["--database", str(self._folder / "state.db"), "--disable-runtime-dependency-installation"]
        command += ["--ssl-ca-certfile", str(self._keys / "ca.crt")]
        command += ["--ssl-certfile", str(self._keys / "server.crt")]
        command += ["--ssl-keyfile", str(self._keys / "server.key")]
        _check_free(self._host, self._port)
        self._superlink = programs.start(command, log, self._folder)
        end = time.monotonic() + STARTING_S
        while not self._is_healthy():
            if self._superlink.poll() is not None:
                raise NetworkError(f"Flower's SuperLink ended instead of starting; its log tells why: {log}")
            if time.monotonic() > end:
                programs.end(self._superlink)
                raise NetworkError(
                    f"Flower's SuperLink did not answer at {self._address} for {STARTING_S} s: see {log}"
                )
            time.sleep(0.1)

    def _is_healthy(self) -> bool:
        context = ssl.create_default_context(cafile=self._keys / "ca.crt")
        context.check_hostname = (
            False  # the certificate is for the name that others know, which may not be this one
        )
        connection = HTTPSConnection(self._host, self._port, context=context, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _register(self, keys: Mapping[str, tuple[str, str]]) -> None:
        known_file, known = self._folder / "registered.json", set()
        if known_file.is_file():
            with suppress(ValueError):
                known = set(json.loads(known_file.read_text()))
        for fingerprint, (name, text) in keys.items():
            if fingerprint in known:
                continue
            public = self._folder / "registering.pub"
            public.write_text(text.strip() + "\n")
            command = ["flwr", "supernode", "register", str(public), "market", f"--name={name}"]
            status, said = programs.ask(command, self._folder, STARTING_S)
            if status != 0 and "already in use" not in said:
                raise NetworkError(f"Flower did not register the key of {name}: {_last_line(said)}")
            known.add(fingerprint)
            known_file.write_text(json.dumps(sorted(known)))

    def _start_relay(self) -> None:
        door = self._door
        if door is None:
            raise NetworkError("the host has not been started: call start")
        setting = f"place={json.dumps(str(door.place))}"
        command = ["flwr", "run", str(self._folder / "app"), "market", "--run-config", setting]
        command += ["--format", "json"]
        door.forget()
        status, said = programs.ask(command, self._folder, STARTING_S)
        found = re.search(r'"run-id":\s*"?(\d+)', said)
        if status != 0 or not found:
            raise NetworkError(f"Flower did not take the market's relay: {_last_line(said)}")
        self._run = found[1]
        self._relay = door.next(STARTING_S)
        try:
            head = self._next_frame(time.monotonic() + STARTING_S)
        except (OSError, EOFError):
            head = None
        if head is None:
            self._drop_relay()
            raise NetworkError(
                f"the market's relay did not start within {STARTING_S} s: "
                f"see superlink.log and relay.log in {self._folder}"
            )
        self._relay_pid = int(str(head[0]["pid"]))

    def _revive(self) -> None:
        """Start again what has died; nothing if all is well."""
        if self._superlink is None:
            raise NetworkError("the host has not been started: call start")
        if self._superlink.poll() is not None:
            self._drop_relay()
            programs.end(self._superlink)
            self._start_superlink()
        if self._relay is not None:
            with suppress(OSError, EOFError):
                if not self._relay.poll(0):
                    return
            # between two requests the relay has nothing to say: it has ended
            self._drop_relay()
        self._start_relay()

    def _drop_relay(self) -> None:
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    # ---------------------------------------------------------------- asking the relay

    def _nodes(self) -> set[str] | None:
        """None if the relay is gone."""
        from ipfl.engines import flower

        try:
            flower.send_frame(self._connected(), {"do": "nodes"})
            head = self._next_frame(time.monotonic() + 30)
        except (OSError, EOFError):
            head = None
        if head is None:
            self._drop_relay()
            return None
        listed = head[0]["nodes"]
        return set(listed) if isinstance(listed, list) else set()

    def _ask(
        self,
        messages: Mapping[str, bytes],
        left_s: float,
        replies: dict[str, bytes],
        reasons: dict[str, str],
        on_reply: Callable[[str, bytes], None] | None,
    ) -> bool:
        """One attempt; False if the relay or the SuperLink was lost on the way."""
        from ipfl.engines import flower

        end = time.monotonic() + left_s + GRACE_S
        try:
            relay = self._connected()
            flower.send_frame(relay, {"do": "exchange", "deadline_s": left_s, "count": len(messages)})
            for name, body in messages.items():
                flower.send_frame(relay, {"to": name}, body)
            while frame := self._next_frame(end):
                head, body = frame
                if head.get("end"):
                    return True
                name = str(head["from"])
                if "reason" in head:
                    reasons[name] = str(head["reason"])
                else:
                    replies[name] = body
                    if on_reply is not None:
                        on_reply(name, body)
        except (OSError, EOFError):
            pass
        self._drop_relay()
        return False

    def _next_frame(self, end: float) -> tuple[dict[str, object], bytes] | None:
        """None at the end of the time, or if the SuperLink has died: the relay does not notice that for long."""
        from ipfl.engines import flower

        relay = self._connected()
        while time.monotonic() < end:
            if relay.poll(0.2):
                return flower.receive_frame(relay)
            if self._superlink is None or self._superlink.poll() is not None:
                return None
        return None

    def _connected(self) -> "Connection":
        if self._relay is None:
            raise EOFError
        return self._relay


class _Door:
    """Where the relay comes in: a socket of the file system, for this user alone, and a key made for this time."""

    def __init__(self, folder: Path):
        # a socket's path may be some hundred letters long at most, which a folder's own often is, and what is said to
        # Flower on its command line may hold no quotes
        self.place = Path(tempfile.mkdtemp(prefix="ipfl-"))
        self._path = str(self.place / "relay")
        key, key_file = secrets.token_bytes(32), self.place / "key"
        key_file.touch(0o600)
        key_file.write_bytes(key)
        (self.place / "log").symlink_to(folder / "relay.log")
        self._listener = multiprocessing.connection.Listener(self._path, "AF_UNIX", authkey=key)
        self._came: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._closing = False
        self._waiter = threading.Thread(target=self._wait, daemon=True, name="relay's door")
        self._waiter.start()

    def next(self, timeout_s: float) -> "Connection | None":
        """The relay that has come in, or comes in within the time."""
        with suppress(queue.Empty):
            return self._came.get(timeout=timeout_s)
        return None

    def forget(self) -> None:
        """Send away whoever has come in without being asked for."""
        with suppress(queue.Empty):
            while True:
                self._came.get_nowait().close()

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing = True
        with suppress(OSError), socket.socket(socket.AF_UNIX) as knock:  # accepting is not ended by closing
            knock.connect(self._path)
        self._waiter.join(5)
        self._listener.close()
        self.forget()
        shutil.rmtree(self.place, ignore_errors=True)

    def _wait(self) -> None:
        while not self._closing:
            with suppress(OSError, EOFError, multiprocessing.AuthenticationError):
                self._came.put(self._listener.accept())


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise NetworkError(
            f"cannot listen at {host}, port {port} ({error.strerror}): another program may have it; give another port"
        ) from None


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def turned_away(said: str) -> list[str]:
    """Fingerprints of the keys that a SuperLink's log says it does not know, in order."""
    found = []
    for text in re.findall(
        r"ApiError:2004\].*?b'-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", said
    ):
        with suppress(ValueError, KeyFileError):  # a stranger can have sent anything
            found.append(fingerprint_of_der(base64.b64decode(text.replace("\\n", ""))))
    return found

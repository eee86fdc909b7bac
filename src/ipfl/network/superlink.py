"""Flower's SuperLink as a process of the operator's: started, given keys and the app to run, asked whom it turned away.

The SuperLink's control interface, over which apps are run and keys registered, asks nobody who he is. It listens on
the same port as the rest, so the port is bound to this machine alone, and a proxy in front of it lets others reach
the participants' part. Other users of this machine reach the control interface nevertheless: run a market on a
machine that nobody else has an account on.
"""

import base64
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPSConnection
from importlib.resources import files
from pathlib import Path

from ipfl.errors import ConfigError, KeyFileError, NetworkError
from ipfl.network import programs
from ipfl.network.addresses import is_loopback, reached_at
from ipfl.network.keys import fingerprint_of_der
from ipfl.network.log_file import LogReader, keep_short

STARTING_S = 120
"""So long a SuperLink and its relay may take to start: seconds on an idle machine, many more on a busy one."""
APP_ENDING_S = 30
"""So long Flower may take to stop the app before the SuperLink is ended all the same."""
DATABASE = "state.db"
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


class SuperLink:
    """The SuperLink of one market, and the app that runs in it.

    Args:
      folder: working files: its database and log, Flower's own settings. Made, for its owner alone.
      keys: holds ca.crt, server.crt and server.key.
      host: to listen at. Whoever reaches it reaches the control interface.
      port: to listen at.
      expose_control: listen at a host that other machines reach, although they reach the control interface then.
    Raises:
      ConfigError: the host is not this machine's own and `expose_control` is not given, or a key is missing.
    """

    def __init__(self, folder: Path, keys: Path, host: str, port: int, *, expose_control: bool = False):
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
        near = reached_at(host)
        self._address = f"[{near}]:{port}" if ":" in near else f"{near}:{port}"
        self._log = self._folder / "superlink.log"
        self._log_reader = LogReader(self._log)
        self._process: subprocess.Popen[bytes] | None = None
        self._run = ""

    def start(self, keys: Mapping[str, tuple[str, str]]) -> None:
        """Start it for the first time; it lets in these keys and no others, and holds no message of before.

        Args:
          keys: the name of each participant and OpenSSH's line of its public key, by the key's fingerprint.
        Raises:
          ConfigError: Flower is not installed.
          NetworkError: it did not start or took no key; the sentence says which log tells more.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        keep_short(self._log)
        self._log_reader = LogReader(self._log)
        self._write_settings()
        self._forget()
        self._launch()
        self._register(keys)

    def restart(self) -> None:
        """Start it again after it has died; it remembers the keys.

        Raises:
          NetworkError: it did not start; the sentence says which log tells more.
        """
        programs.end(self._process)
        self._launch()

    def pid(self) -> int | None:
        """Its process; None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run_app(self, place: Path) -> None:
        """Have it run the market's relay.

        Args:
          place: the folder where the relay finds its socket.
        Raises:
          NetworkError: it did not take the app.
        """
        setting = f"place={json.dumps(str(place))}"
        command = ["flwr", "run", str(self._folder / "app"), "market", "--run-config", setting]
        command += ["--format", "json"]
        status, said = programs.ask(command, self._folder, STARTING_S)
        found = re.search(r'"run-id":\s*"?(\d+)', said)
        if status != 0 or not found:
            raise NetworkError(f"Flower did not take the market's relay: {_last_line(said)}")
        self._run = found[1]

    def newly_turned_away(self) -> list[str]:
        """Fingerprints of the keys that it has turned away since this was last asked, as often as it did."""
        return turned_away(self._log_reader.new_lines())

    def close(self) -> None:
        """Stop the app and the process, if this object started them."""
        if self._run and self.pid() is not None:
            with suppress(subprocess.TimeoutExpired, ConfigError):
                programs.ask(["flwr", "stop", self._run, "market"], self._folder, APP_ENDING_S)
        programs.end(self._process)
        self._process = None
        self._run = ""

    # ---------------------------------------------------------------- starting

    def _write_settings(self) -> None:
        (self._folder / "config.toml").write_text(
            f'[superlink]\ndefault = "market"\n\n[superlink.market]\naddress = {_in_toml(self._address)}\n'
            f"root-certificates = {_in_toml(str(self._keys / 'ca.crt'))}\n",
            encoding="utf-8",
        )
        package = self._folder / "app" / "market"
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "pyproject.toml").write_text(_APP.lstrip())
        (package / "__init__.py").write_text("")
        for name, copied in (("flower.py", "app.py"), ("flower_replies.py", "flower_replies.py")):
            (package / copied).write_text((files("ipfl.engines") / name).read_text("utf-8"), encoding="utf-8")

    def _launch(self) -> None:
        _check_free(self._host, self._port)
        self._process = programs.start(self._command(), self._log, self._folder)
        end = time.monotonic() + STARTING_S
        while not self._is_healthy():
            if self._process.poll() is not None:
                raise NetworkError(
                    f"Flower's SuperLink ended instead of starting; its log tells why: {self._log}"
                )
            if time.monotonic() > end:
                programs.end(self._process)
                raise NetworkError(
                    f"Flower's SuperLink did not answer at {self._address} for {STARTING_S} s: see {self._log}"
                )
            time.sleep(0.1)

    def _command(self) -> list[str]:
        command = ["flower-superlink", "--host", self._host, "--port", str(self._port)]
        command += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        command += ["--database", str(self._folder / DATABASE)]
        command += ["--ssl-ca-certfile", str(self._keys / "ca.crt")]
        command += ["--ssl-certfile", str(self._keys / "server.crt")]
        command += ["--ssl-keyfile", str(self._keys / "server.key")]
        return command

    def _is_healthy(self) -> bool:
        context = ssl.create_default_context(cafile=self._keys / "ca.crt")
        # the certificate is for the name that others know, which may not be this one
        context.check_hostname = False
        connection = HTTPSConnection(self._host, self._port, context=context, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _forget(self) -> None:
        """Begin with an empty database: with no key that is not let in now, and none of the messages it has carried."""
        for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
            (self._folder / name).unlink(missing_ok=True)

    def _register(self, keys: Mapping[str, tuple[str, str]]) -> None:
        from ipfl.engines import flower_control

        lines = {name: line.strip() for name, line in keys.values()}
        flower_control.register(self._address, self._keys / "ca.crt", lines)


def turned_away(said: str) -> list[str]:
    """Fingerprints of the keys that a SuperLink's log says it does not know, in order."""
    found = []
    for text in re.findall(
        r"ApiError:2004\].*?b'-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", said
    ):
        with suppress(ValueError, KeyFileError):  # a stranger can have sent anything
            found.append(fingerprint_of_der(base64.b64decode(text.replace("\\n", ""))))
    return found


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise NetworkError(
            f"cannot listen at {host}, port {port} ({error.strerror}): another program may have it; give another port"
        ) from None


def _in_toml(text: str) -> str:
    """A text as a string of TOML's, which knows no halves of letters as JSON's escapes do.

    >>> _in_toml('a "folder" of \U0001f4c8')
    '"a \\\\"folder\\\\" of \U0001f4c8"'
    """
    return json.dumps(text, ensure_ascii=False)


def _last_line(said: str) -> str:
    """The last line that says something; Flower draws boxes around what it says."""
    lines = [line.strip(" \t│┃|╭╮╰╯─━") for line in said.splitlines()]
    lines = [line for line in lines if any(letter.isalpha() for letter in line)]
    return lines[-1] if lines else "it said nothing"

"""The operator's end of a market over Flower: the relay that runs in a SuperLink is asked, and what died is revived.

Flower lets a program reach participants from inside a SuperLink only. So a relay runs there (`engines.flower`), comes
in by a socket (`network.door`), and sends what the operator's process hands it.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from ipfl.errors import NetworkError
from ipfl.network.door import Door
from ipfl.network.keys import read_public_key
from ipfl.network.log_file import keep_short
from ipfl.network.strangers import Strangers
from ipfl.network.superlink import STARTING_S, SuperLink

LISTING_S = 30
"""So long the relay may take to say who is connected."""
WORTH_S = 5.0
"""With less time left nothing is started again: what it takes would be all of it, and more."""
GRACE_S = 1.0
"""So long after the deadline the relay may still say who has been silent."""
REPLY_BYTES_MAX = 1 << 30
RELAY_LOG_BYTES_MAX = 1 << 20


class FlowerHost:
    """The operator's end: SuperLink, the relay, and the socket to it.

    Args:
      folder: working files: the SuperLink's database, logs, Flower's own settings. Made, for its owner alone.
      keys: holds ca.crt, server.crt and server.key.
      host: to listen at. Whoever reaches it reaches the control interface.
      port: to listen at.
      expose_control: listen at a host that other machines reach, although they reach the control interface then.
      log: hears of keys that wanted to connect and are not registered.
    Attributes:
      reply_bytes_max: no more than this is taken in of a reply; whoever knows the market's model says less.
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
        self._folder = folder.absolute()
        self._superlink = SuperLink(folder, keys, host, port, expose_control=expose_control)
        self._door: Door | None = None
        self._relay: Connection | None = None
        self._relay_pid = 0
        self._strangers, self._registered = Strangers(log), set[str]()
        self.reply_bytes_max = REPLY_BYTES_MAX

    def start(self, public_keys: Mapping[str, str]) -> None:
        """Start the SuperLink, register the keys, and start the relay.

        Args:
          public_keys: OpenSSH's line of each participant's public key, by the participant's name.
        Raises:
          KeyFileError: what is given is no participant's public key.
          ConfigError: Flower is not installed.
          NetworkError: something did not start; the sentence says what, and which log tells more.
        """
        keys = {read_public_key(text, name).fingerprint: (name, text) for name, text in public_keys.items()}
        self._registered = set(keys)
        try:
            self._superlink.start(keys)
            self._door = Door(self._folder / "relay.log")
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
        self._look_for_strangers()
        return answer or set()

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
        self._drop_relay()
        self._superlink.close()
        if self._door is not None:
            self._door.close()
            self._door = None

    def pids(self) -> dict[str, int]:
        """The processes that this object started and that live."""
        found = {}
        if (pid := self._superlink.pid()) is not None:
            found["superlink"] = pid
        if self._relay is not None:
            found["relay"] = self._relay_pid
        return found

    # ---------------------------------------------------------------- starting

    def _start_relay(self) -> None:
        door = self._opened()
        door.forget()
        keep_short(self._folder / "relay.log", RELAY_LOG_BYTES_MAX)
        self._superlink.run_app(door.place)
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
        self._opened()
        if self._superlink.pid() is None:
            self._drop_relay()
            self._superlink.restart()
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

    def _opened(self) -> Door:
        if self._door is None:
            raise NetworkError("the host has not been started: call start")
        return self._door

    # ---------------------------------------------------------------- asking the relay

    def _look_for_strangers(self) -> None:
        """Have the log told of keys that were turned away, but for those that came while they were registered."""
        turned_away = self._superlink.newly_turned_away()
        self._strangers.came(key for key in turned_away if key not in self._registered)

    def _nodes(self) -> set[str] | None:
        """None if the relay is gone."""
        from ipfl.engines import flower

        try:
            flower.send_frame(self._connected(), {"do": "nodes"})
            head = self._next_frame(time.monotonic() + LISTING_S)
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
            head = {"deadline_s": left_s, "count": len(messages), "bytes_max": self.reply_bytes_max}
            flower.send_frame(relay, {"do": "exchange", **head})
            for name, body in messages.items():
                flower.send_frame(relay, {"to": name}, body)
            while frame := self._next_frame(end):
                told, body = frame
                if told.get("end"):
                    return True
                name = str(told["from"])
                if "reason" in told:
                    reasons[name] = str(told["reason"])
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
                return flower.receive_frame(relay, self.reply_bytes_max)
            self._look_for_strangers()  # the log may grow fast
            if self._superlink.pid() is None:
                return None
        return None

    def _connected(self) -> Connection:
        if self._relay is None:
            raise EOFError
        return self._relay

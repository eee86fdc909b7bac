"""The door by which the market's relay, a process that Flower starts, comes to the operator's own."""

import multiprocessing
import queue
import secrets
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path


class Door:
    """A socket of the file system, for this user alone, and a key made for this time.

    Args:
      log: file that gets what the relay has to say when it fails.
    """

    def __init__(self, log: Path):
        # a socket's path may be some hundred letters long at most, which a folder's own often is, and what is said to
        # Flower on its command line may hold no quotes
        self.place = Path(tempfile.mkdtemp(prefix="ipfl-"))
        self._path = str(self.place / "relay")
        key, key_file = secrets.token_bytes(32), self.place / "key"
        key_file.touch(0o600)
        key_file.write_bytes(key)
        (self.place / "log").symlink_to(log)
        self._listener = Listener(self._path, "AF_UNIX", authkey=key)
        self._came: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._closing = False
        self._waiter = threading.Thread(target=self._wait, daemon=True, name="relay's door")
        self._waiter.start()

    def next(self, timeout_s: float) -> Connection | None:
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

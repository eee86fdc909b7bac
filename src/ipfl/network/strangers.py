"""Keys that are not registered and wanted to connect: the first of them by name, then how many, for anybody can try."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime

NAMED_MAX = 20
PAUSE_S = 60.0
"""Between two lines that say how many more there were."""
COUNTED_MAX = 10_000
"""More than these are not told apart until the next line."""


class Strangers:
    """What is told of them.

    Args:
      log: gets a line per key while they are few, and a line a minute at most afterwards.
      clock: in seconds since 1970.
    """

    def __init__(self, log: Callable[[str], None], clock: Callable[[], float] = time.time):
        self._log, self._clock = log, clock
        self._named, self._counted = set[str](), set[str]()
        self._since, self._told_at = 0.0, -PAUSE_S

    def came(self, fingerprints: Iterable[str]) -> None:
        """Take in those that have been turned away, and say what is due; to be called also when none were."""
        for fingerprint in fingerprints:
            if fingerprint in self._named:
                continue
            if len(self._named) < NAMED_MAX:
                self._named.add(fingerprint)
                self._log(f"a key that is not registered wanted to connect: fingerprint {fingerprint}")
                continue
            if not self._counted:
                self._since = self._clock()
            if len(self._counted) < COUNTED_MAX:
                self._counted.add(fingerprint)
        if self._counted and self._clock() - self._told_at >= PAUSE_S:
            self._told_at = self._clock()
            since = datetime.fromtimestamp(self._since).astimezone()
            num_keys = len(self._counted)
            more = f"{num_keys} or more" if num_keys == COUNTED_MAX else f"{num_keys} more"
            keys = "key that is" if num_keys == 1 else "keys that are"
            self._log(f"and {more} {keys} not registered, since {since:%H:%M}")
            self._counted.clear()

"""A log that another program appends to: read as it grows, and kept from growing for ever."""

import os
from pathlib import Path

BYTES_MAX = 50 << 20
KEPT_BYTES = 1 << 20
"""Of a log that is emptied, its end is kept beside it."""
READ_BYTES = 8 << 20
"""So much is read at a time."""


def keep_short(path: Path, bytes_max: int = BYTES_MAX) -> bool:
    """Empty a log that has more bytes than this; its end is then in a file beside it, with `.before` to its name.

    The program that writes it goes on at its new end, because it appends. What it writes in between is lost.

    Returns:
      Whether it was emptied.
    """
    if not path.exists() or path.stat().st_size <= bytes_max:
        return False
    with path.open("rb") as file:
        file.seek(-min(KEPT_BYTES, bytes_max), os.SEEK_END)
        path.with_name(f"{path.name}.before").write_bytes(file.read(KEPT_BYTES))
    os.truncate(path, 0)
    return True


class LogReader:
    """Reads the lines that a program adds to its log from now on."""

    def __init__(self, path: Path):
        self._path = path
        self._read_bytes = path.stat().st_size if path.exists() else 0

    def new_lines(self) -> str:
        """Whole lines that have been added since this was last asked, or as many of them as are read at a time."""
        if keep_short(self._path):
            self._read_bytes = 0
        if not self._path.exists():
            return ""
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read(READ_BYTES)
        whole = new[: new.rfind(b"\n") + 1]
        if not whole and len(new) == READ_BYTES:
            whole = new  # a line without end is passed over
        self._read_bytes += len(whole)
        return whole.decode("utf-8", "replace")

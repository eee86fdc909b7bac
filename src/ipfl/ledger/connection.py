"""Opening ledger.db: one process, one connection, and SQLite's errors in words.

SQLite in WAL mode with synchronous=FULL. The lock is exclusive: there is never a second connection, neither of ours nor
of anybody's, so a fault of SQLite before 3.51.3 that can damage a WAL shared by several connections has no occasion.
Those who want to read a ledger wait until the run is done or paused.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipfl.disk import sync_folder
from ipfl.errors import LedgerError
from ipfl.ledger.schema import OLDEST_SQLITE, PRAGMAS

Connect = Callable[[str], Any]
"""From a path to a connection that leaves transactions to us; sqlite3's, unless a test brings another."""


def connected(path: Path, connect: Connect | None) -> Any:
    """A connection to a ledger, or to a new file.

    Raises:
      LedgerError: it is in use, damaged, or cannot be made.
    """
    if connect is None and sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise LedgerError(
            f"this Python has SQLite {sqlite3.sqlite_version}, the ledger needs {needed} or newer: use a newer Python"
        )
    with explained(path):
        new = not path.exists()
        connection = (connect or by_sqlite3)(str(path))
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma).fetchall()
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except BaseException:
            connection.close()
            raise
        if new:
            sync_folder(path.parent)
    return connection


def archived(path: Path) -> sqlite3.Connection | None:
    """A connection to a ledger that nobody can write to, on a read-only medium say; None where it can be written."""
    wal = path.with_name(f"{path.name}-wal")
    if (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)) or wal.exists():
        return None
    with explained(path):
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
        )


def by_sqlite3(path: str) -> sqlite3.Connection:
    """Python's own SQLite."""
    return sqlite3.connect(path, isolation_level=None, timeout=0.5)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of SQLite as one sentence of ours."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise LedgerError(_sentence(path, error)) from error


def _sentence(path: Path, error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError):
        return f"cannot write {path}: {error.strerror}; free space or choose another --out"
    if "locked" in text or "busy" in text:
        return f"{path} is in use by another process: wait until that run is done, or pause it with Ctrl-C"
    if "full" in text or getattr(error, "sqlite_errorname", "").startswith("SQLITE_IOERR"):
        return f"cannot write {path}: {text}; free space, then `ipfl run --resume {path.parent}`"
    if "unable to open" in text or "readonly" in text:
        return f"cannot open {path}: {text}; make the folder and the file writable"
    if isinstance(error, sqlite3.IntegrityError):
        return f"{path} refused a posting: {text}"
    return f"{path} is damaged ({text}): restore it; `ipfl doctor {path.parent}` says what else is there"

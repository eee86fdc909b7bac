"""Looking at a run that nobody is running, without changing a byte of it."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ipfl.errors import IpflError, LedgerError, RunFolderError
from ipfl.ledger import Ledger, Receipt, Verification, verify
from ipfl.upkeep.folder import LEDGER

_UNFINISHED = (f"{LEDGER}-wal", f"{LEDGER}-journal")
"""What SQLite leaves beside a ledger that was not closed."""


@contextmanager
def shared(folder: Path) -> Iterator[bool]:
    """Keep others from running in a folder while it is read; False if somebody runs in it already."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def reading(folder: Path) -> Iterator[Ledger]:
    """The ledger of a run folder, to be read only.

    Raises:
      LedgerError: there is none, it is none, or it is damaged.
      RunFolderError: the run goes on.
    """
    with shared(folder) as idle:
        if not idle:
            raise RunFolderError(f"{folder} is in use: wait until that run is done, or pause it with Ctrl-C")
        with unchanged(folder) as ledger:
            yield ledger


@contextmanager
def unchanged(folder: Path) -> Iterator[Ledger]:
    """The ledger of a folder that is `shared`; whatever is read, the folder stays as it is.

    SQLite takes in what a crash left as soon as it opens a file for writing, and makes an empty file a database. So a
    ledger that was not closed is read in a copy, any other as if it were on a read-only medium.
    """
    path = folder / LEDGER
    left = [name for name in _UNFINISHED if (folder / name).is_file()]
    if not left:
        with Ledger.open(path, lambda _: _read_only(path)) as ledger:
            yield ledger
        return
    with TemporaryDirectory(prefix="ipfl-") as place:
        for name in (LEDGER, *left):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(place, name))
        with Ledger.open(
            path, lambda _: sqlite3.connect(Path(place, LEDGER), isolation_level=None)
        ) as ledger:
            yield ledger


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


def verified(
    ledger: Ledger,
    receipts: Sequence[Receipt] = (),
    key: str | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Verification:
    """`ledger.verify` of a ledger that may hold anything.

    Raises:
      LedgerError: the file cannot be read at all.
    """
    try:
        return verify(ledger, receipts, key, tell)
    except IpflError:
        raise
    except Exception as error:  # whoever changed a ledger can have written anything there
        raise LedgerError(
            f"{ledger.path} is damaged: its entries are not as ipfl writes them ({error or type(error).__name__})"
        ) from None

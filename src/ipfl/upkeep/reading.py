"""Looking at a run that nobody is running, without changing a byte of it."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ipfl.errors import IpflError, LedgerError
from ipfl.ledger import Fault, Ledger, Receipt, Verification, verify
from ipfl.plugins import load_installed
from ipfl.upkeep.folder import LEDGER, in_use

_UNFINISHED = (f"{LEDGER}-wal", f"{LEDGER}-journal")
"""What SQLite leaves beside a ledger that was not closed."""
_LONGEST = 500
"""More letters than this are not printed of one sentence."""


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
            raise in_use(folder)
        with unchanged(folder) as ledger:
            yield ledger


@contextmanager
def unchanged(folder: Path) -> Iterator[Ledger]:
    """The ledger of a folder that is `shared`; whatever is read, the folder stays as it is.

    SQLite takes in what a crash left as soon as it opens a file for writing, and makes an empty file a database. So a
    ledger that was not closed is read in a copy, any other as if it were on a read-only medium.
    """
    path = folder / LEDGER
    left = [name for name in _UNFINISHED if path.is_file() and (folder / name).is_file()]
    if not left:
        with Ledger.open(path, lambda _: _read_only(path)) as ledger:
            yield ledger
        return
    with TemporaryDirectory(prefix="ipfl-") as place:
        for name in (LEDGER, *left):
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
      ConfigError: an installed plug-in fails.
    """
    load_installed()  # prices may follow from a gain curve that is plugged in
    try:
        found = verify(ledger, receipts, key, tell)
    except IpflError as error:
        raise LedgerError(plain(str(error))) from None
    except Exception as error:  # whoever changed a ledger can have written anything there
        what = plain(str(error)) or type(error).__name__
        raise LedgerError(
            f"{ledger.path} is damaged: its entries are not as ipfl writes them ({what})"
        ) from None
    faults = tuple(Fault(law, plain(sentence)) for law, sentence in found.faults)
    return replace(found, faults=faults)


def plain(text: str) -> str:
    """A sentence that may quote what stands in a damaged file, as one printable line that is not too long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."

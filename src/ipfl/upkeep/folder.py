"""Opening a run folder for writing: a new one, one to be replaced, or one to be gone on with."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipfl.errors import RunFolderError
from ipfl.ledger import Draft, Ledger, Mark
from ipfl.run_folder import EDGE_COLUMNS, LEDGER_COLUMNS, append_lines, write_json, write_text

NEEDED = ("own_task", "torch", "numpy", "run_digest", "operator_key")
"""What environment.json must have for a run to go on."""
GROWING = ("rounds.jsonl", "edges.csv", "ledger.csv")
"""The files that grow by every round; the ledger remembers how far, and what they held."""
LEDGER = "ledger.db"
LEDGER_FILES = (LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", f"{LEDGER}-journal")
OWN_FILES = (
    "config.toml",
    "environment.json",
    "partition.json",
    "summary.json",
    "report.html",
    *GROWING,
    *LEDGER_FILES,
)
OWN_FOLDERS = ("participants", "checkpoints", "distances", "receipts")
OPTIONAL_FOLDERS = ("tracking",)
"""What a run folder may hold besides: what trackers keep."""
HEADERS = {
    "rounds.jsonl": b"",
    "edges.csv": f"{','.join(EDGE_COLUMNS)}\n".encode(),
    "ledger.csv": f"{','.join(LEDGER_COLUMNS)}\n".encode(),
}
CHUNK = 1 << 20
TRIES, PAUSE_S = 5, 0.05

Marks = dict[str, tuple[int, str]]
"""Of each growing file: bytes written so far, and their SHA-256."""

FIRST_SIGNS = ("config.toml", "environment.json", ".environment.json.tmp")
"""One of these is in every folder that a run was to be in: the first written and last removed, and config.toml."""


def next_free_folder(parent: Path, name: str) -> Path:
    """Make `parent/name-001`, or the first number that is not taken."""
    number = 1
    while True:
        folder = parent / f"{name}-{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise _cannot_make(folder, error) from error
        else:
            return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the folder for this process alone; the lock goes with the process, however it ends.

    Raises:
      RunFolderError: another process is running or resuming it, or it cannot be made or read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _cannot_make(folder, error) from error
    try:
        if not _locked(descriptor):
            raise in_use(folder)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock; whoever only looks whether it is taken (`ipfl doctor`, `ipfl serve`) has it for an instant."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE_S)
        else:
            return True
    return False


def in_use(folder: Path) -> RunFolderError:
    """The error that says that somebody runs in a folder."""
    return RunFolderError(
        f"{folder} is in use by another process: wait until that one ends, or pause it with Ctrl-C"
    )


def check_vacant(folder: Path, force: bool) -> None:
    """Refuse a folder that holds anything, unless it is a run folder and `force` allows to replace it.

    Raises:
      RunFolderError: the folder is in the way, or is no folder; nothing has been changed.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: give another --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not force:
        raise RunFolderError(
            f"{folder} is not empty: go on with it (--resume {folder}), replace it (--force), or give another --out"
        )
    names = sorted(path.name for path in folder.iterdir())
    own = {*OWN_FILES, *OWN_FOLDERS, *OPTIONAL_FOLDERS, *map(_temporary, OWN_FILES)}
    strangers = [name for name in names if name not in own]
    if strangers or not set(FIRST_SIGNS) & set(names):
        what = f"it holds {strangers[0]!r}" if strangers else "it has no config.toml"
        raise RunFolderError(
            f"--force replaces run folders only, and {folder} is none ({what}): give another --out"
        )


def create(folder: Path, config_text: str, environment: dict[str, object], first: Sequence[Draft]) -> None:
    """Write the first files of a run; an old run in the same place is removed first (see `check_vacant`).

    config.toml goes first and comes last: with it the folder can be resumed, without it only replaced. `first` are the
    entries that open the ledger.
    """
    try:
        for name in OWN_FILES:
            if name != "environment.json":
                (folder / name).unlink(missing_ok=True)
            (folder / _temporary(name)).unlink(missing_ok=True)
        for name in (*OWN_FOLDERS, *OPTIONAL_FOLDERS):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    except OSError as error:
        raise _cannot_make(folder, error) from error
    write_json(folder / "environment.json", environment)
    try:
        for name in OWN_FOLDERS:
            (folder / name).mkdir()
    except OSError as error:
        raise _cannot_make(folder, error) from error
    for name, header in HEADERS.items():
        write_text(folder / name, header.decode())
    Ledger.create(folder / LEDGER, first).close()
    write_text(folder / "config.toml", config_text)


START: Marks = {name: (len(header), hashlib.sha256(header).hexdigest()) for name, header in HEADERS.items()}
"""How far the growing files have come before the first round."""


class GrowingFiles:
    """The files of a run folder that grow by whole rounds, with a running digest of what was written to them."""

    def __init__(self, folder: Path, marks: Marks | None):
        """Go on from `marks`, the ledger's of a round (None: from the headers); what was written after them is cut off.

        Raises:
          RunFolderError: what stands before the marks was changed since, or is gone; nothing has been cut then.
        """
        self._folder = folder
        self._lengths: dict[str, int] = {}
        self._digests = self.check(folder, marks)
        for name in GROWING:
            self._lengths[name] = (START if marks is None else marks)[name][0]
        for name in GROWING:
            try:
                with (folder / name).open("r+b") as file:
                    file.truncate(self._lengths[name])
            except OSError as error:
                raise RunFolderError(
                    f"cannot write {folder / name}: {error.strerror}; make it writable"
                ) from error

    @staticmethod
    def check(folder: Path, marks: Marks | None, names: Sequence[str] = GROWING) -> dict[str, Any]:
        """The digests of what stands before the marks, still open to more.

        Raises:
          RunFolderError: it was changed since, or is gone; or the ledger lacks a mark.
        """
        digests = {}
        for name in names:
            if marks is not None and name not in marks:
                raise RunFolderError(
                    f"{folder / LEDGER} does not say how far {name} had come: it was changed after it was written; "
                    "restore it, or start the run again with --force"
                )
            length, expected = START[name] if marks is None else marks[name]
            digest = _digest_of_start(folder / name, length)
            if digest.hexdigest() != expected:
                raise RunFolderError(
                    f"the first {length} bytes of {folder / name} are not those that were written: it was changed "
                    "since; restore it, or start the run again with --force"
                )
            digests[name] = digest
        return digests

    def append(self, name: str, rows: list[str]) -> None:
        """Append whole lines to one of the files."""
        if rows:
            content = append_lines(self._folder / name, rows)
            self._lengths[name] += len(content)
            self._digests[name].update(content)

    def marks(self) -> list[Mark]:
        """How far each file has come, for the ledger."""
        return [Mark(name, self._lengths[name], self._digests[name].hexdigest()) for name in GROWING]


def _digest_of_start(path: Path, length: int) -> Any:
    """The SHA-256, still open to more, of the first `length` bytes of a file, or of all if it has fewer."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while length > 0 and (chunk := file.read(min(CHUNK, length))):
                digest.update(chunk)
                length -= len(chunk)
    except OSError as error:
        raise RunFolderError(
            f"cannot read {path}: {error.strerror}; restore it, or start the run again with --force"
        ) from error
    return digest


def _temporary(name: str) -> str:
    return f".{name}.tmp"


def _cannot_make(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(f"cannot make run folder {folder}: {error.strerror}; give another --out")

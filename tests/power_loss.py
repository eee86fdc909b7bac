"""Power cuts, simulated: what a disk may hold when the current fails, at every moment of a run that books rounds.

SQLite writes through a layer of its own (a VFS) that records every write, truncation, sync and deletion in order. What
was synced is on the disk; of what was not, any part may be, sector by sector. Files count as made and deleted at once,
so this model says nothing about rollback journals, which the ledger uses only while it is made.
"""

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from ipfl.errors import LedgerError
from ipfl.ledger import Booking, Entry, Ledger, opening
from ledger.rounds import RUN, booking, name, record

SECTOR = 512
"""Bytes that a disk writes wholly or not at all."""
ROUNDS = 8
CHECKPOINT_PAGES = 25
"""Few, so that the log is copied into the database several times in a run."""
PARTICIPANTS = 3
ATTACHED = ("bids", "distances")


class Operation(NamedTuple):
    """What was done to a file ("ledger.db-wal"); `acknowledge` is of none: a posting has returned."""

    kind: str
    file: str = ""
    offset: int = 0
    content: bytes = b""


class Figures(NamedTuple):
    """How many different images were opened, in how many an acknowledged round was lost, and how many were corrupt."""

    images: int
    lost: int
    corrupt: int


@dataclass
class Recording:
    """A run as the disk saw it, and what its ledger held in the end."""

    operations: list[Operation] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Number of the newest entry after each posting; the first is that of the opening."""


class RecordingVfs(apsw.VFS):
    """The file system, which notes in a list what is done to it and spares itself the waiting for the disk."""

    def __init__(self, operations: list[Operation]):
        self.vfs_name, self.operations = f"recording-{id(self)}", operations
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "RecordingFile":  # noqa: N802
        return RecordingFile(name, flags, self.operations)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.operations.append(Operation("delete", Path(filename).name))


class RecordingFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], operations: list[Operation]):
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.file, self.operations = Path(path).name if path else "", operations
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self.operations.append(Operation("write", self.file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self.operations.append(Operation("truncate", self.file, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.operations.append(Operation("sync", self.file))


def recorded(synchronous: str) -> Recording:
    """Make a ledger and book some rounds, under a setting of `PRAGMA synchronous`."""
    found = Recording()
    found.bookings = [Booking(opening(RUN, [*map(name, range(PARTICIPANTS))], {}), {})]
    found.bookings += [
        booking(record(60 + index, index, m=PARTICIPANTS, rule="subsidised")) for index in range(ROUNDS)
    ]
    vfs = RecordingVfs(found.operations)

    class Connection(apsw.Connection):
        def execute(self, statement: str, *values: Any) -> Any:
            asked = statement.replace("synchronous = FULL", f"synchronous = {synchronous}")
            return super().execute(asked, *values)

    def connect(path: str) -> Connection:
        connection = Connection(path, vfs=vfs.vfs_name)
        connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        return connection

    folder = Path(tempfile.mkdtemp())
    try:
        with Ledger.create(folder / "ledger.db", found.bookings[0].drafts, connect) as ledger:
            for place, each in enumerate(found.bookings):
                if place:
                    ledger.post(*each)
                found.operations.append(Operation("acknowledge"))
                found.ends.append(ledger.head()[0])
            found.entries = list(ledger.entries())
    finally:
        shutil.rmtree(folder)
        vfs.unregister()
    return found


def images(
    operations: Sequence[Operation], every: int = 1, draws: int = 1, seed: int = 0
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """What the disk may hold after each operation (after every n-th), and how many postings had returned by then.

    Without all that was not synced; and, as often as is said, with its beginning, and with any of its sectors.
    """
    luck = random.Random(seed)
    disk: dict[str, bytes] = {}
    waiting: list[Operation] = []
    acknowledged, seen = 0, set[int]()
    for place, operation in enumerate(operations):
        if operation.kind == "acknowledge":
            acknowledged += 1
        elif operation.kind == "sync":
            disk = _after(disk, [each for each in waiting if each.file == operation.file])
            waiting = [each for each in waiting if each.file != operation.file]
        elif operation.kind == "delete":
            disk.pop(operation.file, None)
            waiting = [each for each in waiting if each.file != operation.file]
        else:
            waiting += _sectors(operation)
        if place % every:
            continue
        survived = [waiting[:0]]
        for _ in range(draws):
            survived.append(waiting[: luck.randint(0, len(waiting))])
            survived.append([each for each in waiting if luck.random() < 0.5])
        for written in survived:
            image = _after(disk, written)
            fingerprint = hash((acknowledged, *sorted(image.items())))
            if fingerprint not in seen:
                seen.add(fingerprint)
                yield acknowledged, image


def power_loss(synchronous: str = "FULL", every: int = 1, draws: int = 1, seed: int = 0) -> Figures:
    """Cut the power after every n-th operation of a run, and open what the disk may hold then (see `images`)."""
    run = recorded(synchronous)
    counted = {"sound": 0, "lost": 0, "corrupt": 0}
    for acknowledged, image in images(run.operations, every, draws, seed):
        folder = Path(tempfile.mkdtemp())
        try:
            for file, content in image.items():
                (folder / file).write_bytes(content)
            counted[_judged(folder / "ledger.db", run, acknowledged)] += 1
        finally:
            shutil.rmtree(folder)
    return Figures(sum(counted.values()), counted["lost"], counted["corrupt"])


def _judged(path: Path, run: Recording, acknowledged: int) -> str:
    """Whether it holds whole postings, all that were acknowledged, and takes the next one as if nothing had been."""
    try:
        ledger = Ledger.open(path)
    except LedgerError as error:
        if "is missing" not in str(error) and "an empty one" not in str(error):
            return "corrupt"
        if acknowledged:
            return "lost"
        ledger = Ledger.create(path, run.bookings[0].drafts)  # what starting the run again does
    with ledger:
        try:
            entries = list(ledger.entries())
            if len(entries) not in run.ends or entries != run.entries[: len(entries)] or ledger.faults():
                return "corrupt"
            for digest in (
                entry.terms[part] for entry in entries for part in ATTACHED if part in entry.terms
            ):
                ledger.attachment(digest)
            booked = run.ends.index(len(entries)) + 1
            for each in run.bookings[booked : booked + 1]:
                ledger.post(*each)
                if ledger.head() != _head(run, booked):
                    return "corrupt"
        except LedgerError:
            return "corrupt"
    return "sound" if booked >= acknowledged else "lost"


def _head(run: Recording, posting: int) -> tuple[int, str]:
    entry = run.entries[run.ends[posting] - 1]
    return entry.seq, entry.hash


def _sectors(operation: Operation) -> list[Operation]:
    """A write as writes of one sector each."""
    if operation.kind != "write":
        return [operation]
    parts, start, end = [], operation.offset, operation.offset + len(operation.content)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        content = operation.content[start - operation.offset : stop - operation.offset]
        parts.append(Operation("write", operation.file, start, content))
        start = stop
    return parts


def _after(disk: dict[str, bytes], operations: Sequence[Operation]) -> dict[str, bytes]:
    """The files after some writes and truncations."""
    changed = {operation.file: bytearray(disk.get(operation.file, b"")) for operation in operations}
    for kind, file, offset, content in operations:
        held = changed[file]
        if kind == "truncate":
            del held[offset:]
        else:
            held.extend(bytes(max(0, offset - len(held))))
            held[offset : offset + len(content)] = content
    return disk | {file: bytes(held) for file, held in changed.items()}

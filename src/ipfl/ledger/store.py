"""The store: ledger.db, written by one process through one connection, every commit flushed to the disk.

Who opens it and how: `ipfl.ledger.connection`. What makes it append-only: `ipfl.ledger.schema`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ipfl.errors import LedgerError, check
from ipfl.faults import point
from ipfl.ledger.connection import Connect, archived, connected, explained
from ipfl.ledger.entries import GENESIS, Draft, Entry, canonical, chained, same_or_refuse, text_of
from ipfl.ledger.schema import APPLICATION_ID, STATEMENTS, VERSION

_KEYS_AT_ONCE = 500


class Mark(NamedTuple):
    """How far a growing file of the run folder had come when a round was booked, and what it held."""

    file: str
    length: int
    digest: str


def digest_of(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Ledger:
    """An open ledger. `with Ledger.open(path) as ledger: ...`"""

    def __init__(self, connection: Any, path: Path):
        self._db, self.path = connection, path

    @classmethod
    def create(cls, path: Path, drafts: Sequence[Draft], connect: Connect | None = None) -> "Ledger":
        """Make a ledger that holds some first entries; a ledger without any, left by a crash, is made anew.

        Raises:
          LedgerError: there is one already, or the place cannot be written.
        """
        connection = connected(path, connect)
        ledger = cls(connection, path)
        try:
            with explained(path):
                if _tables(connection):
                    raise LedgerError(f"{path} is there already: resume the run, or give another --out")
                with ledger._transaction():
                    for statement in STATEMENTS:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                    ledger._append(drafts)
        except BaseException:
            connection.close()
            raise
        return ledger

    @classmethod
    def open(cls, path: Path, connect: Connect | None = None) -> "Ledger":
        """Open a ledger to read it or to go on with it; what a crash left behind is taken in or undone.

        Raises:
          LedgerError: there is none, it is none, it is damaged, of another version, or in use.
        """
        if not path.is_file():
            raise LedgerError(
                f"{path} is missing: it is no run folder, or the run did not begin; start it again"
            )
        connection = archived(path) if connect is None else None
        connection = connection or connected(path, connect)
        try:
            with explained(path):
                kind = connection.execute("PRAGMA application_id").fetchone()[0]
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if kind != APPLICATION_ID:
                    raise LedgerError(
                        f"{path} is no ledger of ipfl, or an empty one: `ipfl doctor` says what to do"
                    )
                if version != VERSION:
                    raise LedgerError(
                        f"{path} has version {version}, this ipfl reads version {VERSION}: use the ipfl that wrote it"
                    )
        except LedgerError:
            connection.close()
            raise
        return cls(connection, path)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    # ------------------------------------------------------------ writing

    def post(
        self,
        drafts: Sequence[Draft],
        attachments: Mapping[str, bytes] | None = None,
        marks: Sequence[Mark] = (),
    ) -> list[Entry]:
        """Book entries, all or none; return them as they stand in the ledger.

        An entry whose key is booked already with the same content is left as it is.

        Args:
          drafts: what to book, in order.
          attachments: what their terms refer to by SHA-256, by that digest.
          marks: kept for the round of the last draft, outside the chain.
        Raises:
          LedgerError: a key is booked with another content, or the disk refuses; nothing is changed then.
        """
        with explained(self.path), self._transaction():
            for digest, content in (attachments or {}).items():
                check(digest_of(content) == digest, "an attachment is filed under its SHA-256")
                self._db.execute("INSERT OR IGNORE INTO attachment VALUES (?, ?)", (digest, content))
                point("ledger: attached")
            booked = self._append(drafts)
            for mark in marks:
                row = (drafts[-1].round_index, *mark)
                self._db.execute("INSERT INTO mark VALUES (NULL, ?, ?, ?, ?)", row)
        return booked

    def _append(self, drafts: Sequence[Draft]) -> list[Entry]:
        seq, prev = self.head()
        known, booked, new = self._known([draft.key for draft in drafts]), list[Entry](), dict[str, Entry]()
        for draft in drafts:
            before = self.find(draft.key) if draft.key in known else new.get(draft.key)
            if before is not None:
                same_or_refuse(before, draft)
                booked.append(before)
                continue
            seq += 1
            now = chained(prev, text_of(seq, draft))
            parts = (draft.kind, draft.round_index, draft.account, draft.terms, draft.postings)
            entry = new[draft.key] = Entry(seq, draft.key, *parts, prev, now)
            booked.append(entry)
            prev = now
        # An account is open from its entry on: what is posted to it must come after that.
        for _, together in groupby(new.values(), key=lambda entry: entry.account is None):
            fresh = list(together)
            self._db.executemany("INSERT INTO posting VALUES (?, ?, ?, ?)", _posting_rows(fresh))
            self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _entry_rows(fresh))
        return booked

    def _known(self, keys: Sequence[str]) -> set[str]:
        """Which of some keys are booked already."""
        found: set[str] = set()
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(f"SELECT key FROM entry WHERE key IN ({marks})", tuple(part)).fetchall()
            found |= {row[0] for row in rows}
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        point("ledger: before begin")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            point("ledger: begun")
            yield
            point("ledger: before commit")
            self._db.execute("COMMIT")
            point("ledger: committed")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # ------------------------------------------------------------ reading

    def head(self) -> tuple[int, str]:
        """Number and hash of the newest entry; (0, 64 zeros) where there is none."""
        row = self._db.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, GENESIS)

    def find(self, key: str) -> Entry | None:
        """The entry of a key."""
        found = list(self.entries("WHERE key = ?", key))
        return found[0] if found else None

    def entries(self, where: str = "", *values: object) -> Iterator[Entry]:
        """Entries in order, all or those of a condition on the table `entry`.

        Raises:
          LedgerError: one cannot be read.
        """
        with explained(self.path):
            lines = self._db.execute(
                f"SELECT seq, account, amount FROM posting WHERE seq IN (SELECT seq FROM entry {where}) "
                "ORDER BY seq, line",
                values,
            ).fetchall()
            postings: dict[int, list[tuple[str, int]]] = {}
            for seq, account, amount in lines:
                postings.setdefault(seq, []).append((account, amount))
            rows = self._db.execute(f"SELECT * FROM entry {where} ORDER BY seq", values).fetchall()
        for row in rows:
            try:
                yield _entry(row, tuple(postings.get(row[0], ())))
            except (ValueError, RecursionError):
                raise LedgerError(
                    f"{self.path} is damaged: entry {row[0]} is not as ipfl writes it"
                ) from None

    def last(self, kind: str) -> Entry | None:
        """The newest entry of a kind."""
        found = list(self.entries("WHERE seq = (SELECT max(seq) FROM entry WHERE kind = ?)", kind))
        return found[0] if found else None

    def balances(self) -> dict[str, int]:
        """What each account has received less what it paid, in units; accounts that joined and never traded: 0."""
        with explained(self.path):
            found = dict.fromkeys(self.accounts(), 0)
            found |= dict(
                self._db.execute("SELECT account, sum(amount) FROM posting GROUP BY account").fetchall()
            )
        return found

    def accounts(self) -> dict[str, bool]:
        """Every participant that ever joined, in that order, and whether its account is open."""
        with explained(self.path):
            rows = self._db.execute(
                "SELECT account, kind FROM entry WHERE account IS NOT NULL ORDER BY seq"
            ).fetchall()
        return {account: kind == "join" for account, kind in rows}

    def rounds(self) -> int:
        """How many rounds are booked."""
        with explained(self.path):
            return int(self._db.execute("SELECT count(*) FROM entry WHERE kind = 'round'").fetchone()[0])

    def attachment(self, digest: str) -> bytes:
        """What was filed under a digest.

        Raises:
          LedgerError: nothing was, or not this.
        """
        with explained(self.path):
            row = self._db.execute("SELECT content FROM attachment WHERE digest = ?", (digest,)).fetchone()
        if row is None or not isinstance(row[0], bytes) or digest_of(row[0]) != digest:
            what = "has no attachment" if row is None else "holds another content for"
            raise LedgerError(f"{self.path} {what} {digest[:16]}...: it was changed after it was written")
        return bytes(row[0])

    def marks(self, round_index: int) -> dict[str, tuple[int, str]]:
        """Length and digest of each growing file when a round was booked; the last time, if it was done again."""
        with explained(self.path):
            rows = self._db.execute(
                "SELECT file, length, digest FROM mark WHERE round_index = ? ORDER BY number", (round_index,)
            ).fetchall()
        return {file: (length, digest) for file, length, digest in rows}

    def statements(self) -> list[str]:
        """The SQL of every table, index and trigger, as the file has it."""
        with explained(self.path):
            return _tables(self._db)

    def faults(self) -> list[str]:
        """What SQLite itself finds wrong with the file and its references."""
        with explained(self.path):
            found = [
                row[0] for row in self._db.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"
            ]
            orphans = (
                "SELECT seq, account FROM posting WHERE seq NOT IN (SELECT seq FROM entry) ORDER BY seq, line"
            )
            found += [
                f"a posting to {account} belongs to entry {seq}, which is not there"
                for seq, account in self._db.execute(orphans).fetchall()
            ]
            gaps = "SELECT seq FROM posting GROUP BY seq HAVING max(line) <> count(*) - 1"
            found += [
                f"the postings of entry {seq} are not numbered without gaps"
                for (seq,) in self._db.execute(gaps).fetchall()
            ]
        return found


def _posting_rows(entries: Sequence[Entry]) -> Iterator[tuple[Any, ...]]:
    """Rows of the table `posting`; asked for the next one, the one before is in."""
    for entry in entries:
        for line, (account, amount) in enumerate(entry.postings):
            yield entry.seq, line, account, amount
            point("ledger: posted")


def _entry_rows(entries: Sequence[Entry]) -> Iterator[tuple[Any, ...]]:
    """Rows of the table `entry`."""
    for entry in entries:
        parts = (entry.kind, entry.round_index, entry.account, canonical(entry.terms))
        yield entry.seq, entry.key, *parts, entry.prev, entry.hash
        point("ledger: booked")


def _entry(row: Sequence[Any], postings: tuple[tuple[str, int], ...]) -> Entry:
    seq, key, kind, round_index, account, text, prev, now = row
    texts = [key, kind, text, prev, now, account or "", *(name for name, _ in postings)]
    numbers = [seq, round_index, *(amount for _, amount in postings)]
    if {type(value) for value in texts} != {str} or {type(value) for value in numbers} != {int}:
        raise ValueError("a damaged file can hold values of other types than its tables have")
    terms = json.loads(text)
    if not isinstance(terms, dict) or canonical(terms) != text:
        raise ValueError("the hash is of what was read, so the text is what it leads to again")
    return Entry(seq, key, kind, round_index, account, terms, postings, prev, now)


def _tables(connection: Any) -> list[str]:
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    return [str(row[0]) for row in rows]

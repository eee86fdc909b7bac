"""One process at a time; files that are no ledgers; disks that are full, and media that can only be read."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ipfl.errors import LedgerError
from ipfl.ledger import Ledger, connection, verify
from ipfl.ledger.schema import APPLICATION_ID, STATEMENTS, VERSION
from ipfl.ledger.store import digest_of
from ledger.booked import OPENING, everything, files, make, sale
from ledger.rounds import raw


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "ledger.db"
    make(path)
    return path


# ---------------------------------------------------------------- one process at a time


def test_a_ledger_in_use_is_neither_read_nor_written_by_a_second_one(path):
    with Ledger.open(path) as ledger:
        for again in (Ledger.open, lambda path: Ledger.create(path, OPENING)):
            with pytest.raises(
                LedgerError, match=rf"^{re.escape(str(path))} is in use by another process: wait"
            ):
                again(path)
        assert ledger.head()[0] == 7
        ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1))])
    Ledger.open(path).close()


def test_another_process_finds_a_new_ledger_locked(tmp_path):
    path = tmp_path / "ledger.db"
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM entry')"
    with Ledger.create(path, OPENING):
        found = subprocess.run([sys.executable, "-S", "-c", look, path], capture_output=True, text=True)
        assert "database is locked" in found.stderr
    assert subprocess.run([sys.executable, "-S", "-c", look, path], check=False).returncode == 0


# ---------------------------------------------------------------- files that are no ledgers, and full disks


def other_version(path: Path) -> None:
    with raw(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")


def other_database(path: Path) -> None:
    path.unlink()
    with raw(path) as db:
        db.execute("CREATE TABLE recipe (name TEXT)")


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


NO_LEDGERS = {
    "missing": (Path.unlink, "is missing: it is no run folder, or the run did not begin; start it again"),
    "folder": (folder, "is missing: it is no run folder"),
    "empty": (lambda path: path.write_bytes(b""), "is no ledger of ipfl, or an empty one"),
    "text": (
        lambda path: path.write_text("a,b\n" * 300),
        r"is damaged \(file is not a database\): restore it",
    ),
    "other database": (other_database, "is no ledger of ipfl, or an empty one"),
    "other version": (
        other_version,
        f"has version {VERSION + 1}, this ipfl reads version {VERSION}: use the",
    ),
}


@pytest.mark.parametrize("case", NO_LEDGERS)
def test_what_is_no_ledger_of_ours_is_refused_with_a_sentence(path, case):
    change, message = NO_LEDGERS[case]
    change(path)
    with pytest.raises(LedgerError, match=rf"^{re.escape(str(path))} {message}"):
        Ledger.open(path)
    assert not path.is_file() or raw_kind(path) is not None  # and nobody holds it


def raw_kind(path: Path) -> object:
    with raw(path) as db:
        try:
            return db.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            return error if "not a database" in str(error) else None


def test_a_ledger_cut_in_half_is_called_damaged(path):
    half(path)
    with (
        pytest.raises(LedgerError, match=r"is damaged \(database disk image is malformed\)"),
        Ledger.open(path) as ledger,
    ):
        verify(ledger)


@pytest.mark.parametrize(
    "text", ["no JSON", "{", "[]", "7", '{"price": 7}', '{"price":NaN}', '{"price":1e999}', "[" * 9999]
)
def test_terms_that_no_draft_leads_to_are_called_damaged(path, text):
    with raw(path, ["entry_no_update"]) as db:
        db.execute("UPDATE entry SET terms = ? WHERE seq = 6", (text,))
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError, match="is damaged: entry 6 is not as ipfl writes it"):
            verify(ledger)
        assert ledger.find("round/0").seq == 7


def test_values_of_other_types_than_the_tables_have_are_called_damaged(path):
    """As a flipped bit makes them, whatever the tables say."""
    with raw(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'entry'")
        db.execute("UPDATE sqlite_schema SET sql = CAST(sql AS BLOB) WHERE name = 'mark_no_update'")
    with raw(path, ["entry_no_update"]) as db:
        db.execute("UPDATE entry SET prev = CAST(prev AS BLOB) WHERE seq = 6")
    with Ledger.open(path) as ledger:
        assert len(ledger.statements()) == len(STATEMENTS)
        with pytest.raises(LedgerError, match="is damaged: entry 6 is not as ipfl writes it"):
            verify(ledger)


def test_a_ledger_cannot_be_made_where_there_is_no_folder(tmp_path):
    with pytest.raises(
        LedgerError, match=r"^cannot open .*ledger.db: unable to open database file; make the"
    ):
        Ledger.create(tmp_path / "nowhere" / "ledger.db", OPENING)


def test_an_empty_file_becomes_a_ledger(tmp_path):
    (tmp_path / "ledger.db").touch()
    with Ledger.create(tmp_path / "ledger.db", OPENING) as ledger:
        assert ledger.head()[0] == len(OPENING)
        assert ledger._db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_python_with_an_old_sqlite_is_told_so(path, monkeypatch):
    monkeypatch.setattr(connection, "OLDEST_SQLITE", (99, 1))
    with pytest.raises(
        LedgerError, match=r"^this Python has SQLite \S+, the ledger needs 99.1 or newer: use a"
    ):
        Ledger.open(path)


def test_a_full_disk_is_told_with_what_to_do_and_changes_nothing(path):
    large = bytes(1_000_000)
    post = ([sale("round/1/a/b", ("a", -1), ("b", 1))], {digest_of(large): large})
    with Ledger.open(path) as ledger:
        before = everything(ledger)
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages + 3}").fetchall()
        message = (
            rf"^cannot write {re.escape(str(path))}: database or disk is full; free space, then "
            rf"`ipfl run --resume {re.escape(str(path.parent))}`$"
        )
        with pytest.raises(LedgerError, match=message):
            ledger.post(*post)
        assert everything(ledger) == before
    with Ledger.open(path) as ledger:
        ledger.post(*post)
        assert ledger.head()[0] == 8


class Failing(sqlite3.Connection):
    """A connection to a disk that fails in the moment of the commit."""

    code = ""

    def execute(self, statement, *values):
        if statement == "COMMIT" and self.code:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = self.code
            raise error
        return super().execute(statement, *values)


def test_a_disk_that_fails_at_the_commit_leaves_nothing_of_a_round(path):
    def connect(place):
        return sqlite3.connect(place, isolation_level=None, factory=Failing)

    with Ledger.open(path, connect) as ledger:
        before = everything(ledger)
        ledger._db.code = "SQLITE_IOERR_FSYNC"
        with pytest.raises(LedgerError, match=r"^cannot write .*ledger.db: disk I/O error; free space, then"):
            ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1))])
        assert everything(ledger) == before
    with Ledger.open(path) as ledger:
        assert everything(ledger) == before


# ---------------------------------------------------------------- ledgers that can only be read


def test_an_archived_ledger_is_read_and_not_written(path, monkeypatch):
    with Ledger.open(path) as ledger:
        before = everything(ledger)
    content = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Ledger.open(path) as ledger, Ledger.open(path) as second:
        assert everything(ledger) == everything(second) == before
        assert ledger.faults() == []
        with pytest.raises(
            LedgerError, match=r"^cannot open .*: attempt to write a readonly database; make the"
        ):
            ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1))])
    assert path.read_bytes() == content
    assert files(path.parent) == ["ledger.db"]


def test_an_archived_ledger_that_was_cut_off_is_not_read_without_its_newest_entries(
    path, tmp_path, monkeypatch
):
    with Ledger.open(path) as ledger:
        ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1))])
        cut_off = tmp_path / "copy" / "ledger.db"
        shutil.copytree(path.parent, cut_off.parent)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Ledger.open(cut_off) as ledger:
        assert ledger.head()[0] == 8


def test_a_folder_with_a_question_mark_in_its_name_can_be_archived(path, tmp_path, monkeypatch):
    strange = tmp_path / "what? #1 100%"
    path.parent.rename(strange)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Ledger.open(strange / "ledger.db") as ledger:
        assert ledger.head()[0] == 7

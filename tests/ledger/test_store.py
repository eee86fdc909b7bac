"""Laws of the store: all or nothing, once and for ever, by one process at a time."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ipfl import faults
from ipfl.errors import InvariantError, LedgerError
from ipfl.ledger import Draft, Ledger, Mark, membership, opening, reversal, verify
from ipfl.ledger import store as store_module
from ipfl.ledger.entries import GENESIS, chained, text_of
from ipfl.ledger.schema import APPLICATION_ID, STATEMENTS, VERSION
from ipfl.ledger.store import digest_of
from ipfl.market.units import AMOUNT_MAX
from ledger.rounds import RUN, raw

CONTENT = b"what everybody bid"
DIGEST = digest_of(CONTENT)


def sale(key: str, *postings: tuple[str, int], **terms: object) -> Draft:
    return Draft(key, "sale", 0, terms, postings)


SALE = sale("round/0/a/b", ("a", -5), ("operator", -2), ("b", 7), price=7)
SEAL = Draft("round/0", "round", 0, {"bids": DIGEST, "sales": 1})
OPENING = [*opening(RUN, ["a", "b", "c"], {}), membership("leave", 0, "c", 2, {})]
MARKS = [Mark("rounds.jsonl", 12, "ab" * 32), Mark("edges.csv", 0, "cd" * 32)]


@pytest.fixture
def path(tmp_path):
    """A ledger of a run with the accounts a and b, a closed one c, and one round with one sale."""
    path = tmp_path / "run" / "ledger.db"
    path.parent.mkdir()
    with Ledger.create(path, OPENING) as ledger:
        ledger.post([SALE, SEAL], {DIGEST: CONTENT}, MARKS)
    return path


@pytest.fixture
def ledger(path):
    with Ledger.open(path) as ledger:
        yield ledger


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything(ledger: Ledger) -> dict[str, object]:
    return {
        "entries": list(ledger.entries()),
        "head": ledger.head(),
        "balances": ledger.balances(),
        "accounts": ledger.accounts(),
        "marks": ledger.marks(0),
        "statements": ledger.statements(),
        "attachment": ledger.attachment(DIGEST),
    }


# ---------------------------------------------------------------- what is booked


def test_entries_are_numbered_chained_and_kept_as_they_were_posted(ledger):
    entries = list(ledger.entries())
    assert [entry.draft for entry in entries] == [*OPENING, SALE, SEAL]
    prev = GENESIS
    for seq, entry in enumerate(entries, 1):
        assert (entry.seq, entry.prev) == (seq, prev)
        assert entry.hash == chained(prev, text_of(seq, entry.draft))
        prev = entry.hash
    assert ledger.head() == (7, prev)
    assert ledger.find("round/0/a/b") == entries[5]
    assert ledger.find("round/9") is None
    assert ledger.last("join") == entries[3]
    assert ledger.last("finish") is None
    assert ledger.statements() == list(STATEMENTS)
    assert ledger.faults() == []


def test_balances_are_sums_of_postings_and_accounts_say_who_is_there(ledger):
    assert ledger.balances() == {"a": -5, "b": 7, "c": 0, "operator": -2}
    ledger.post([sale("round/1/b/a", ("b", -AMOUNT_MAX), ("a", AMOUNT_MAX))])
    assert ledger.balances() == {"a": AMOUNT_MAX - 5, "b": 7 - AMOUNT_MAX, "c": 0, "operator": -2}
    assert ledger.accounts() == {"a": True, "b": True, "c": False}
    ledger.post([membership("leave", 1, "a", 2, {}), membership("join", 1, "c", 3, {})])
    assert ledger.accounts() == {"a": False, "b": True, "c": True}


def test_a_reversal_undoes_what_was_booked_and_leaves_it_there(ledger):
    entry = ledger.find("round/0/a/b")
    ledger.post([reversal(entry.key, 1, entry.postings, "booked by mistake")])
    assert ledger.balances() == {"a": 0, "b": 0, "c": 0, "operator": 0}
    assert ledger.find("round/0/a/b") == entry


def test_all_of_it_is_there_after_closing_and_after_being_cut_off(path, tmp_path):
    with Ledger.open(path) as ledger:
        ledger.post([sale("round/1/b/a", ("b", -1), ("a", 1))])
        before = everything(ledger)
        cut_off = tmp_path / "copy" / "ledger.db"
        shutil.copytree(path.parent, cut_off.parent)  # as the files would be after kill -9
        assert cut_off.with_name("ledger.db-wal").stat().st_size > 0
    for each in (path, cut_off):
        with Ledger.open(each) as ledger:
            assert everything(ledger) == before
            assert ledger.faults() == []
        assert files(each.parent) == ["ledger.db"]


def test_the_later_mark_of_a_round_counts(ledger):
    assert ledger.marks(0) == {mark.file: (mark.length, mark.digest) for mark in MARKS}
    assert ledger.marks(1) == {}
    ledger.post([SEAL], marks=[Mark("rounds.jsonl", 15, "ef" * 32)])
    assert ledger.marks(0) == {"rounds.jsonl": (15, "ef" * 32), "edges.csv": (0, "cd" * 32)}


# ---------------------------------------------------------------- once


def test_posting_again_changes_nothing_and_answers_the_same(ledger):
    before = everything(ledger)
    again = ledger.post([SALE, SEAL], {DIGEST: CONTENT})
    assert again == [ledger.find("round/0/a/b"), ledger.find("round/0")]
    assert everything(ledger) == before
    reordered = Draft("round/0", "round", 0, {"sales": 1, "bids": DIGEST})
    assert ledger.post([reordered]) == again[1:]
    assert ledger.post([]) == []


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("kind", Draft("round/0/a/b", "reversal", 0, SALE.terms, SALE.postings)),
        ("round_index", Draft("round/0/a/b", "sale", 1, SALE.terms, SALE.postings)),
        ("terms", sale("round/0/a/b", *SALE.postings, price=8)),
        ("terms", sale("round/0/a/b", *SALE.postings, price=7.0)),
        ("postings", sale("round/0/a/b", ("a", -5), ("operator", -3), ("b", 8), price=7)),
        ("postings", sale("round/0/a/b", ("operator", -2), ("a", -5), ("b", 7), price=7)),
        ("account", membership("join", 0, "b", 1, {})),
    ],
)
def test_posting_something_else_under_a_key_is_refused_and_changes_nothing(ledger, part, other):
    if part == "account":  # a key is made of the account: only by tampering can there be another
        other = Draft("member/a/1", "join", 0, {}, account="b")
    before = everything(ledger)
    message = (
        rf"entry '{other.key}' is booked already with another {part} \(.*, not .*\): nothing was changed"
    )
    with pytest.raises(LedgerError, match=message):
        ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1)), other])
    assert everything(ledger) == before


def test_a_long_difference_is_told_in_short(ledger):
    with pytest.raises(LedgerError) as refusal:
        ledger.post([sale("round/0/a/b", *SALE.postings, price=7, why="x" * 1000)])
    assert len(str(refusal.value)) < 300


# ---------------------------------------------------------------- all or nothing


@pytest.mark.parametrize(
    ("postings", "law"),
    [
        ((("a", -5), ("b", 4)), "the postings of k add up to zero"),
        ((("a", 0), ("b", 0)), r"what k posts to a is a whole number of units, not 0, at most 2\*\*53"),
        ((("a", True), ("b", -1)), "what k posts to a is a whole number"),
        ((("a", AMOUNT_MAX + 1), ("b", -AMOUNT_MAX - 1)), "what k posts to a is a whole number"),
        ((("a", -1), ("a", 1)), "k posts to each account once"),
    ],
)
def test_a_draft_that_breaks_a_law_of_money_cannot_be_made(postings, law):
    with pytest.raises(InvariantError, match=law):
        sale("k", *postings)


def test_a_draft_is_of_a_known_kind():
    with pytest.raises(InvariantError, match="an entry is one of open, join, leave, sale, round, reversal"):
        Draft("k", "gift", 0, {})


def unchecked(*postings: tuple[str, int], kind: str = "sale") -> Draft:
    """A draft that its own checks would refuse: what a fault of ours might lead to."""
    draft = Draft("k", "sale", 0, {})
    object.__setattr__(draft, "postings", postings)
    object.__setattr__(draft, "kind", kind)
    return draft


def test_an_amount_in_floating_point_is_refused_even_if_it_is_whole():
    with pytest.raises(InvariantError, match="what k posts to a is a whole number of units"):
        unchecked(("a", -5.0), ("b", 5.0)).__post_init__()


REFUSED = {
    "unbalanced": (unchecked(("a", -5), ("b", 4)), "refused a posting: the postings of an entry add up to"),
    "none": (unchecked(("a", 0), ("b", 0)), "refused a posting: CHECK constraint failed"),
    "too large": (unchecked(("a", 2**60), ("b", -(2**60))), "refused a posting: CHECK constraint failed"),
    "twice": (unchecked(("a", 1), ("a", -1)), "refused a posting: UNIQUE constraint failed"),
    "of no kind": (unchecked(kind="gift"), "refused a posting: CHECK constraint failed"),
    "closed": (sale("k", ("a", -1), ("c", 1)), "refused a posting: only open accounts are posted to"),
    "unknown": (sale("k", ("d", -1), ("a", 1)), "refused a posting: only open accounts are posted to"),
    "joins none": (Draft("k", "join", 0, {}), "refused a posting: CHECK constraint failed"),
    "long key": (Draft("k" * 401, "sale", 0, {}), "refused a posting: CHECK constraint failed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_tables_refuse_what_breaks_a_law_and_all_that_came_with_it(ledger, case):
    draft, message = REFUSED[case]
    before = everything(ledger)
    other = b"filed with a posting that is refused"
    with pytest.raises(LedgerError, match=message):
        ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1)), draft], {digest_of(other): other}, MARKS)
    assert everything(ledger) == before
    with pytest.raises(LedgerError, match="has no attachment"):
        ledger.attachment(digest_of(other))


def test_an_attachment_under_a_false_digest_is_refused(ledger):
    before = everything(ledger)
    with pytest.raises(InvariantError, match="an attachment is filed under its SHA-256"):
        ledger.post([sale("round/1/a/b", ("a", -1), ("b", 1))], {"0" * 64: b"something"})
    assert everything(ledger) == before


def test_attachments_are_held_against_their_digest(path):
    with Ledger.open(path) as ledger:
        assert ledger.attachment(DIGEST) == CONTENT
        with pytest.raises(LedgerError, match=r"ledger.db has no attachment 00000000.*was changed after"):
            ledger.attachment("0" * 64)
    with raw(path, ["attachment_no_update"]) as db:
        db.execute("UPDATE attachment SET content = x'00'")
    with (
        Ledger.open(path) as ledger,
        pytest.raises(LedgerError, match=rf"holds another content for {DIGEST[:16]}"),
    ):
        ledger.attachment(DIGEST)


class Cut(BaseException):
    """The process ends here."""


def cut_at(number: int) -> list[str]:
    """Raise at a numbered point; the list fills with the points passed."""
    passed: list[str] = []

    def tell(name: str) -> None:
        passed.append(name)
        if len(passed) == number:
            raise Cut(name)

    faults.arm(tell)
    return passed


def test_a_round_that_is_cut_off_at_any_point_is_booked_wholly_or_not_at_all(path):
    batch = [sale("round/1/a/b", ("a", -1), ("b", 1)), sale("round/1/b/a", ("b", -3), ("a", 3))]
    more = b"more"
    with Ledger.open(path) as ledger:
        before, number = everything(ledger), 0
        while True:
            number += 1
            passed = cut_at(number)
            try:
                ledger.post(batch, {digest_of(more): more})
            except Cut as cut:
                if str(cut) == "ledger: committed":
                    break
                assert everything(ledger) == before
            finally:
                faults.arm(None)
        assert number == len(passed) == 11
        head = ledger.head()
        assert head[0] == 9
        ledger.post(batch, {digest_of(more): more})
        assert ledger.head() == head


def test_a_ledger_whose_making_is_cut_off_is_made_anew(tmp_path):
    path, number = tmp_path / "ledger.db", 0
    while True:
        number += 1
        cut_at(number)
        try:
            Ledger.create(path, OPENING)
        except Cut as cut:
            if str(cut) == "ledger: committed":
                break
            faults.arm(None)
            with pytest.raises(LedgerError, match="is no ledger of ipfl, or an empty one"):
                Ledger.open(path)
        finally:
            faults.arm(None)
    with Ledger.open(path) as ledger:
        assert [entry.draft for entry in ledger.entries()] == OPENING
    with pytest.raises(LedgerError, match="is there already: resume the run, or give another --out"):
        Ledger.create(path, OPENING)
    with Ledger.open(path) as ledger:  # and the refused attempt let go of it
        assert ledger.head()[0] == len(OPENING)


# ---------------------------------------------------------------- by the tables' own rules, whoever writes

NEXT = "INSERT INTO entry VALUES ({seq}, '{key}', 'sale', 0, NULL, '{{}}', '{prev}', '{now}')"
NOW = "f" * 64
KEPT = "nothing in a ledger is ever changed: book a reversal"
ANYBODY = [
    ("UPDATE entry SET round_index = 7 WHERE seq = 6", KEPT),
    ("UPDATE entry SET key = 'round/7' WHERE key = 'round/0'", KEPT),
    ("UPDATE posting SET amount = amount + 1 WHERE amount = 7", KEPT),
    ("UPDATE attachment SET content = x'00'", KEPT),
    ("UPDATE mark SET length = 0", KEPT),
    ("DELETE FROM entry WHERE seq = 7", KEPT),
    ("DELETE FROM posting WHERE seq = 6", KEPT),
    ("DELETE FROM attachment", KEPT),
    ("DELETE FROM mark", KEPT),
    (f"REPLACE INTO entry VALUES (6, 'x', 'sale', 0, NULL, '{{}}', '{{head}}', '{NOW}')", "numbered without"),
    ("REPLACE INTO posting VALUES (6, 0, 'a', -500)", "an entry takes no postings once it is booked"),
    ("INSERT INTO posting VALUES (6, 3, 'a', 1)", "an entry takes no postings once it is booked"),
    ("INSERT INTO posting VALUES (8, 0, 'c', 1)", "only open accounts are posted to"),
    ("INSERT INTO posting VALUES (8, 0, 'nobody', 1)", "only open accounts are posted to"),
    ("INSERT INTO posting VALUES (8, 0, 'a', 0)", "CHECK constraint failed"),
    ("INSERT INTO posting VALUES (8, 0, 'a', 9007199254740993)", "CHECK constraint failed"),
    ("INSERT INTO posting VALUES (8, 0, 'a', 0.5)", "cannot store REAL value in INTEGER column"),
    (NEXT.format(seq=9, key="x", prev="{head}", now=NOW), "entries are numbered without gaps"),
    (NEXT.format(seq=3, key="x", prev="{head}", now=NOW), "entries are numbered without gaps"),
    (NEXT.format(seq=8, key="x", prev=GENESIS, now=NOW), "an entry is chained to the one before it"),
    (NEXT.format(seq=8, key="round/0", prev="{head}", now=NOW), "UNIQUE constraint failed: entry.key"),
    (NEXT.format(seq=8, key="x", prev="{head}", now="{head}"), "UNIQUE constraint failed: entry.hash"),
]


@pytest.mark.parametrize(("statement", "law"), ANYBODY)
def test_history_cannot_be_changed_by_ordinary_statements(path, statement, law):
    with Ledger.open(path) as ledger:
        before = everything(ledger)
    with raw(path) as db, pytest.raises(sqlite3.IntegrityError, match=law):
        db.execute(statement.replace("{head}", before["head"][1]))
    with Ledger.open(path) as ledger:
        assert everything(ledger) == before


def test_an_entry_that_does_not_add_up_is_refused_whoever_posts_it(path):
    with Ledger.open(path) as ledger:
        head = ledger.head()
    with raw(path) as db:
        db.execute("BEGIN")
        db.execute("INSERT INTO posting VALUES (8, 0, 'a', 5)")
        db.execute("INSERT INTO posting VALUES (8, 1, 'b', -4)")
        with pytest.raises(sqlite3.IntegrityError, match="the postings of an entry add up to zero"):
            db.execute(NEXT.format(seq=8, key="x", prev=head[1], now=NOW))
        db.execute("ROLLBACK")


def test_postings_of_no_entry_are_refused_where_references_are_checked(path):
    with raw(path, foreign_keys=True) as db:
        db.execute("BEGIN")
        db.execute("INSERT INTO posting VALUES (8, 0, 'a', 5)")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY constraint failed"):
            db.execute("COMMIT")
        db.execute("ROLLBACK")


@pytest.mark.parametrize(
    "replacing",
    [
        "REPLACE INTO attachment VALUES ('{digest}', x'00')",
        NEXT.format(seq=8, key="round/0", prev="{head}", now=NOW).replace("INSERT", "REPLACE"),
        "REPLACE INTO mark VALUES (1, 0, 'rounds.jsonl', 0, '{digest}')",
    ],
)
def test_our_own_connection_cannot_replace_either(ledger, replacing):
    before = everything(ledger)
    with pytest.raises(sqlite3.IntegrityError, match=KEPT):
        ledger._db.execute(replacing.replace("{digest}", DIGEST).replace("{head}", ledger.head()[1]))
    assert everything(ledger) == before


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
    monkeypatch.setattr(store_module, "OLDEST_SQLITE", (99, 1))
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


def test_terms_are_kept_to_the_last_bit(ledger):
    terms = {
        "price": 0.1 + 0.2,
        "tiny": 5e-324,
        "count": 2**70,
        "name": "Zürich",
        "none": None,
        "list": [1, True],
    }
    ledger.post([Draft("k", "finish", 1, terms)])
    assert ledger.find("k").terms == terms
    assert json.dumps(terms["price"]) == "0.30000000000000004"
    with pytest.raises(ValueError, match="Out of range float values"):
        ledger.post([Draft("other", "finish", 1, {"price": float("nan")})])
    assert ledger.head()[0] == 8

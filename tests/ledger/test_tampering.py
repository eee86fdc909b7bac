"""What is done to a ledger behind its back, by one who cannot chain it anew, is found and named."""

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from ipfl.errors import LedgerError
from ipfl.ledger import Draft, Ledger, verify
from ipfl.ledger.entries import GENESIS, canonical
from ipfl.ledger.schema import STATEMENTS
from ipfl.ledger.verify import SHOWN
from ledger.rounds import raw
from ledger.tampered import GUARDS, assert_found, named, verified

HISTORY = {
    "a posting's amount": (
        "UPDATE posting SET amount = amount + 1 WHERE seq = 7 AND line = 0",
        (
            "chain",
            "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked: its hash does not fit",
        ),
        ("balance", "entry 7 (round/0/hospital-0/hospital-2) adds up to 1 units, not 0"),
        ("balance", "all balances add up to 1 units, not 0"),
        ("prices", "round 0: entry 7 (round/0/hospital-0/hospital-2) posts"),
    ),
    "a posting's account": (
        "UPDATE posting SET account = 'hospital-4' WHERE seq = 7 AND account = 'hospital-2'",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("prices", "units to hospital-2, the rules lead to"),
    ),
    "the terms": (
        "UPDATE entry SET terms = replace(terms, '\"lam\":0.05', '\"lam\":0.06') WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("prices", "records lam = 0.06, the round's market has 0.05"),
    ),
    "the round": (
        "UPDATE entry SET round_index = 1 WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("rounds", "round 0 was sealed with"),
        ("rounds", "round 1 was sealed with"),
        ("prices", "the rules have hospital-0 buy from hospital-2, and no sale is booked"),
        (
            "prices",
            "round 1: entry 7 (round/0/hospital-0/hospital-2) is a sale that the rules do not lead to",
        ),
    ),
    "the key": (
        "UPDATE entry SET key = 'round/0/x/y' WHERE seq = 7",
        ("chain", "entry 7 (round/0/x/y) was changed after it was booked"),
        ("prices", "entry 7 (round/0/x/y) is a sale that the rules do not lead to"),
    ),
    "the kind": (
        "UPDATE entry SET kind = 'finish' WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("balance", "entry 7 (round/0/hospital-0/hospital-2) moves money, and is no sale"),
        ("rounds", "round 0 was sealed with"),
        ("prices", "and no sale is booked"),
    ),
    "whose account it is": (
        "UPDATE entry SET account = 'hospital-9' WHERE key = 'member/hospital-0/1'",
        ("chain", "entry 2 (member/hospital-0/1) was changed after it was booked"),
        ("accounts", "posts to hospital-0, whose account is not open"),
    ),
    "its hash": (
        f"UPDATE entry SET hash = '{'f' * 64}' WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("chain", "entry 8 (round/0/hospital-1/hospital-2) is not chained to the one before it"),
    ),
    "the hash before it": (
        f"UPDATE entry SET prev = '{'f' * 64}' WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) is not chained to the one before it"),
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
    ),
    "the seal's state": (
        "UPDATE entry SET terms = replace(terms, '0d0d', '0e0e') WHERE key = 'round/1'",
        ("chain", "(round/1) was changed after it was booked"),
    ),
    "the opening": (
        "UPDATE entry SET kind = 'finish' WHERE seq = 1",
        ("chain", "entry 1 (open) was changed after it was booked"),
        ("chain", "the first entry does not open a run"),
    ),
    "an entry, deleted": (
        "DELETE FROM entry WHERE seq = 7",
        ("tables", "belongs to entry 7, which is not there"),
        ("chain", "entry 7 is missing: the next one has number 8"),
        ("rounds", "round 0 was sealed with"),
        ("prices", "the rules have hospital-0 buy from hospital-2, and no sale is booked"),
    ),
    "postings, deleted": (
        "DELETE FROM posting WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("prices", "entry 7 (round/0/hospital-0/hospital-2) posts 0 units to hospital-0"),
    ),
    "an attachment": (
        "UPDATE attachment SET content = x'00'",
        ("prices", "round 0: "),
        ("prices", "holds another content for"),
    ),
    "attachments, deleted": (
        "DELETE FROM attachment",
        ("prices", "round 2: "),
        ("prices", "has no attachment"),
    ),
}


@pytest.mark.parametrize("case", HISTORY)
def test_any_change_of_history_is_found_and_named(copied, case):
    statement, *faults = HISTORY[case]
    with raw(copied, GUARDS) as db:
        assert db.execute(statement).rowcount > 0
    assert_found(verified(copied), *faults)


ADDED = {
    "an orphan posting": (
        (),
        "INSERT INTO posting VALUES (99, 0, 'hospital-1', 5)",
        ("tables", "a posting to hospital-1 belongs to entry 99, which is not there"),
    ),
    "a late posting": (
        ["posting_not_late"],
        "INSERT INTO posting VALUES (7, 3, 'hospital-4', 5)",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("balance", "entry 7 (round/0/hospital-0/hospital-2) adds up to 5 units, not 0"),
        ("balance", "all balances add up to 5 units, not 0"),
        ("prices", "posts 5 units to hospital-4, the rules lead to 0"),
    ),
    "a late posting that leaves a gap": (
        ["posting_not_late"],
        "INSERT INTO posting VALUES (7, 5, 'hospital-4', 5)",
        ("tables", "the postings of entry 7 are not numbered without gaps"),
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("balance", "entry 7 (round/0/hospital-0/hospital-2) adds up to 5 units, not 0"),
        ("prices", "posts 5 units to hospital-4, the rules lead to 0"),
    ),
    "an attachment in another's place": (
        (),
        "REPLACE INTO attachment SELECT digest, x'00' FROM attachment",
        ("prices", "holds another content for"),
    ),
    "an entry in another's place": (
        ["entry_in_order", "entry_chained"],
        "REPLACE INTO entry SELECT seq, key, kind, round_index, account, '{}', prev, hash FROM entry WHERE seq = 7",
        ("chain", "entry 7 (round/0/hospital-0/hospital-2) was changed after it was booked"),
        ("prices", "records allocation = None, the round's market has exact"),
    ),
    "an entry between two others": (
        ["entry_in_order", "entry_chained"],
        f"INSERT INTO entry VALUES (2000, 'x', 'finish', 9, NULL, '{{}}', '{GENESIS}', '{'f' * 64}')",
        ("chain", "is missing: the next one has number 2000"),
    ),
}


@pytest.mark.parametrize("case", ADDED)
def test_whatever_is_added_behind_its_back_is_found_and_named(copied, case):
    guards, statement, *faults = ADDED[case]
    with raw(copied, guards) as db:
        db.execute(statement)
    assert_found(verified(copied), *faults)


def test_entries_that_do_not_add_up_are_found_though_chained_as_they_should_be(copied, original):
    """Made with an ipfl that lacks its checks: nothing but the sum gives it away."""
    last = original.entries[-1]
    draft = Draft("gift", "finish", 3, {})
    object.__setattr__(draft, "postings", (("hospital-0", 5),))
    with Ledger.open(copied) as ledger:
        ledger._db.execute("DROP TRIGGER entry_balanced")
        ledger.post([draft])
    with raw(copied) as db:
        db.execute(next(sql for sql in STATEMENTS if "TRIGGER entry_balanced" in sql))
    assert_found(
        verified(copied),
        ("balance", f"entry {last.seq + 1} (gift) adds up to 5 units, not 0"),
        ("balance", "all balances add up to 5 units, not 0"),
        ("balance", f"entry {last.seq + 1} (gift) moves money, and is no sale"),
    )


TABLES = {
    "DROP TRIGGER posting_no_update": "the ledger's trigger posting_no_update is gone or was changed",
    "DROP TRIGGER entry_balanced": "the ledger's trigger entry_balanced is gone or was changed",
    "DROP INDEX entry_of_account": "the ledger's index entry_of_account is gone or was changed",
    "CREATE TABLE kickback (amount)": "the ledger has a table kickback that is not its own",
    "CREATE VIEW kickback AS SELECT 1": "the ledger has a view kickback that is not its own",
    "CREATE INDEX faster ON posting (amount)": "the ledger has a index faster that is not its own",
    "CREATE TRIGGER skim AFTER INSERT ON entry BEGIN SELECT 1; END": (
        "the ledger has a trigger skim that is not its own"
    ),
    "ALTER TABLE mark ADD COLUMN remark TEXT": "the ledger's table mark is gone or was changed",
    "ANALYZE": "the ledger has a table sqlite_stat1",
}


@pytest.mark.parametrize("statement", TABLES)
def test_tables_and_triggers_other_than_its_own_are_found(copied, statement):
    with raw(copied) as db:
        db.execute(statement)
    found = verified(copied)
    assert named(found, "tables", TABLES[statement]), found.faults
    assert {fault.law for fault in found.faults} == {"tables"}


def test_a_trigger_made_toothless_is_found(copied):
    with raw(copied, ["posting_no_update"]):
        pass
    assert verified(copied).sound
    with raw(copied) as db:
        db.execute("DROP TRIGGER posting_no_update")
        db.execute("CREATE TRIGGER posting_no_update BEFORE UPDATE ON posting BEGIN SELECT 1; END")
    found = verified(copied)
    assert_found(found, ("tables", "the ledger's trigger posting_no_update is gone or was changed"))
    assert named(found, "tables", "the ledger has a trigger posting_no_update that is not its own")


def cells(path: Path) -> list[tuple[str, str, str]]:
    """An UPDATE of every value that entries and postings hold: SQL, and where it is."""
    found = []
    with raw(path) as db:
        for table, keys in (("entry", "seq"), ("posting", "seq, line")):
            cursor = db.execute(f"SELECT * FROM {table} ORDER BY {keys}")
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                where = f"seq = {row[0]}" + (f" AND line = {row[1]}" if table == "posting" else "")
                found += [
                    (f"UPDATE {table} SET {column} = ? WHERE {where}", column, value)
                    for column, value in zip(names, row, strict=True)
                ]
    return found


def other(column: str, value: object, luck: random.Random) -> object:
    """Another value that the column can hold."""
    if column == "kind":
        return luck.choice([kind for kind in ("sale", "round", "finish", "reversal") if kind != value])
    if isinstance(value, int):
        return value + luck.choice([-1, 1, 1000])
    if column == "terms":
        terms = json.loads(str(value)) | {
            luck.choice(["price", "charge", "sales", "new"]): luck.randrange(10**6)
        }
        return canonical(terms)
    if value is None:
        return "hospital-1"
    place = luck.randrange(len(str(value)))
    return f"{str(value)[:place]}{'e' if str(value)[place] != 'e' else 'f'}{str(value)[place + 1 :]}"


@pytest.mark.parametrize("share", [0.3, pytest.param(1.0, marks=pytest.mark.slow)])
def test_no_value_of_any_entry_or_posting_can_be_changed_unnoticed(small, tmp_path, share):
    luck, tried = random.Random(5), 0
    for statement, column, value in cells(small.path):
        if luck.random() > share:
            continue
        copy = Path(shutil.copy(small.path, tmp_path / "ledger.db"))
        with raw(copy, GUARDS) as db:
            try:
                db.execute("PRAGMA ignore_check_constraints = ON")
                db.execute(statement, (other(column, value, luck),))
            except sqlite3.IntegrityError:  # a number or a key that is there already
                continue
        tried += 1
        assert not verified(copy).sound, (statement, column, value)
    assert tried > 15


@pytest.mark.parametrize("flips", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_damaged_byte_is_found_or_changes_nothing(small, tmp_path, flips):
    luck, content = random.Random(6), small.path.read_bytes()
    unread = found = 0
    for _ in range(flips):
        damaged = bytearray(content)
        damaged[luck.randrange(len(content))] ^= 1 << luck.randrange(8)
        copy = tmp_path / "ledger.db"
        copy.write_bytes(damaged)
        try:
            with Ledger.open(copy) as ledger:
                sound = verify(ledger).sound
                assert not sound or list(ledger.entries()) == small.entries
                found += not sound
        except LedgerError:
            unread += 1
    assert unread > 0
    assert found > 0


def test_faults_of_a_kind_are_counted_past_the_first_ones(copied):
    with raw(copied, GUARDS) as db:
        db.execute("UPDATE entry SET round_index = round_index + 1")
        changed = db.execute("SELECT count(*) FROM entry").fetchone()[0]
    faults = [fault.sentence for fault in verified(copied).faults if fault.law == "chain"]
    assert len(faults) == SHOWN + 1
    assert faults[-1] == f"and {changed - SHOWN} more of the kind"

"""What is done to a ledger behind its back is found and named: by itself, or else by a receipt that somebody kept."""

import dataclasses
import io
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ipfl.errors import LedgerError
from ipfl.ledger import (
    Draft,
    Entry,
    Ledger,
    OperatorKey,
    Receipt,
    Verification,
    membership,
    reversal,
    verify,
)
from ipfl.ledger import (
    booking as booking_module,
)
from ipfl.ledger.entries import GENESIS, canonical
from ipfl.ledger.schema import STATEMENTS
from ipfl.ledger.store import digest_of
from ipfl.ledger.verify import SHOWN
from ledger.rounds import NEVER_CHANGED, RUN, book, booking, name, new_ledger, raw, record, rewrite

KEY = OperatorKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER_KEY = OperatorKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))


@dataclasses.dataclass(frozen=True)
class Original:
    """A sound ledger, and the receipts of its three rounds."""

    path: Path
    entries: list[Entry]
    receipts: list[Receipt]

    def seal(self, round_index: int) -> Entry:
        return next(entry for entry in self.entries if entry.key == f"round/{round_index}")

    def sales(self, round_index: int) -> list[Entry]:
        return [e for e in self.entries if e.kind == "sale" and e.round_index == round_index]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "ledger.db"
    receipts = []
    rounds = [
        record(30, 0, rule="subsidised"),
        record(31, 1, absent=[2]),
        record(32, 2, rule="paper", sparse=True),
    ]
    with new_ledger(path) as ledger:
        for index, each in enumerate(rounds):
            ledger.post(*booking(each))
            receipts += KEY.receipts(RUN, index, ledger.head(), ledger.balances())
        entries = list(ledger.entries())
        assert verify(ledger, receipts, KEY.public).faults == ()
    found = Original(path, entries, receipts)
    assert min(len(found.sales(index)) for index in range(3)) >= 2
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A ledger of one small round, to be verified many times."""
    path = tmp_path_factory.mktemp("small") / "ledger.db"
    book(path, record(30, m=3, rule="subsidised"))
    with Ledger.open(path) as ledger:
        return Original(path, list(ledger.entries()), [])


@pytest.fixture
def path(original, tmp_path):
    return Path(shutil.copy(original.path, tmp_path / "ledger.db"))


def verified(path: Path, *given: Any) -> Verification:
    with Ledger.open(path) as ledger:
        return verify(ledger, *given)


def named(found: Verification, law: str, sentence: str) -> bool:
    return any(fault.law == law and sentence in fault.sentence for fault in found.faults)


def assert_found(found: Verification, *faults: tuple[str, str]) -> None:
    for law, sentence in faults:
        assert named(found, law, sentence), found.faults
    assert {fault.law for fault in found.faults} == {law for law, _ in faults}, found.faults
    assert not found.sound


# ---------------------------------------------------------------- by one who lacks nothing but the hashes

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
GUARDS = (*NEVER_CHANGED, "attachment_no_update", "attachment_no_delete")


@pytest.mark.parametrize("case", HISTORY)
def test_any_change_of_history_is_found_and_named(path, case):
    statement, *faults = HISTORY[case]
    with raw(path, GUARDS) as db:
        assert db.execute(statement).rowcount > 0
    assert_found(verified(path), *faults)


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
def test_whatever_is_added_behind_its_back_is_found_and_named(path, case):
    guards, statement, *faults = ADDED[case]
    with raw(path, guards) as db:
        db.execute(statement)
    assert_found(verified(path), *faults)


def test_entries_that_do_not_add_up_are_found_though_chained_as_they_should_be(path, original):
    """Made with an ipfl that lacks its checks: nothing but the sum gives it away."""
    last = original.entries[-1]
    draft = Draft("gift", "finish", 3, {})
    object.__setattr__(draft, "postings", (("hospital-0", 5),))
    with Ledger.open(path) as ledger:
        ledger._db.execute("DROP TRIGGER entry_balanced")
        ledger.post([draft])
    with raw(path) as db:
        db.execute(next(sql for sql in STATEMENTS if "TRIGGER entry_balanced" in sql))
    assert_found(
        verified(path),
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
def test_tables_and_triggers_other_than_its_own_are_found(path, statement):
    with raw(path) as db:
        db.execute(statement)
    found = verified(path)
    assert named(found, "tables", TABLES[statement]), found.faults
    assert {fault.law for fault in found.faults} == {"tables"}


def test_a_trigger_made_toothless_is_found(path):
    with raw(path, ["posting_no_update"]):
        pass
    assert verified(path).sound
    with raw(path) as db:
        db.execute("DROP TRIGGER posting_no_update")
        db.execute("CREATE TRIGGER posting_no_update BEFORE UPDATE ON posting BEGIN SELECT 1; END")
    found = verified(path)
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


# ---------------------------------------------------------------- by an able forger, who chains all anew


def forge(path: Path, original: Original, first: int, change: Callable[[Entry], Sequence[Draft]]) -> None:
    """Write all entries anew from a number on, each changed, and chained as it should be."""
    drafts = [draft for entry in original.entries[first - 1 :] for draft in change(entry)]
    rewrite(path, drafts, first)


def off_by(entry: Entry, units: int, in_terms: bool = True) -> Draft:
    """The same sale, for some units more."""
    postings = dict(entry.postings)
    postings[entry.terms["buyer"]] = postings.get(entry.terms["buyer"], 0) - units
    postings[entry.terms["seller"]] = postings.get(entry.terms["seller"], 0) + units
    terms = dict(entry.terms)
    if in_terms:
        terms |= {"price": terms["price"] + units, "charge": terms["charge"] + units}
    moved = tuple((name, amount) for name, amount in postings.items() if amount)
    return dataclasses.replace(entry.draft, terms=terms, postings=moved)


def test_writing_the_same_entries_anew_is_no_change(path, original):
    forge(path, original, 5, lambda entry: [entry.draft])
    found = verified(path, original.receipts, KEY.public)
    assert found.sound
    assert found.head == (original.entries[-1].seq, original.entries[-1].hash)


@pytest.mark.parametrize(
    ("round_index", "in_terms", "units"),
    [(0, True, -1), (0, False, 1), (1, True, 1), (2, True, -1), (2, True, 1)],
)
def test_a_price_off_by_a_unit_is_found_though_all_is_chained_anew(
    path, original, round_index, in_terms, units
):
    sale = original.sales(round_index)[1]
    forge(path, original, sale.seq, lambda e: [off_by(e, units, in_terms) if e == sale else e.draft])
    found = verified(path)
    assert_found(found, ("prices", f"round {round_index}: entry {sale.seq} ({sale.key}) posts "))
    assert len(found.faults) == 1
    assert named(verified(path, original.receipts), "receipts", "knows another entry")


@pytest.mark.parametrize(
    "part", ["price", "charge", "valuation", "distance", "buyer_num_examples", "payment"]
)
def test_a_sale_that_records_other_grounds_than_its_round_is_found(path, original, part):
    sale = original.sales(0)[0]
    terms = dict(sale.terms) | {part: 12345}
    forge(
        path,
        original,
        sale.seq,
        lambda e: [dataclasses.replace(e.draft, terms=terms) if e == sale else e.draft],
    )
    assert_found(verified(path), ("prices", f"({sale.key}) records {part} = 12345, the round's market has "))


def with_sales(seal: Entry, more: int) -> Draft:
    return dataclasses.replace(seal.draft, terms={**seal.terms, "sales": seal.terms["sales"] + more})


@pytest.mark.parametrize("told", [True, False])
def test_a_sale_taken_away_is_found_though_all_is_chained_anew(path, original, told):
    gone, seal = original.sales(1)[0], original.seal(1)

    def change(entry: Entry) -> list[Draft]:
        if entry == gone:
            return []
        return [with_sales(seal, -1) if told and entry == seal else entry.draft]

    forge(path, original, gone.seq, change)
    buyer, seller = gone.terms["buyer"], gone.terms["seller"]
    faults = [("prices", f"round 1: the rules have {buyer} buy from {seller}, and no sale is booked")]
    if not told:
        sales = seal.terms["sales"]
        faults.append(("rounds", f"round 1 was sealed with {sales} sales and has {sales - 1}"))
    assert_found(verified(path), *faults)


def test_a_sale_that_never_was_is_found_though_all_is_chained_anew(path, original):
    seal = original.seal(1)
    like = original.sales(1)[0]
    taken = {(sale.terms["buyer"], sale.terms["seller"]) for sale in original.sales(1)}
    buyer, seller = next(
        (name(i), name(j)) for i in range(5) for j in range(5) if i != j and (name(i), name(j)) not in taken
    )
    terms = {**like.terms, "buyer": buyer, "seller": seller}
    false = Draft(f"round/1/{buyer}/{seller}", "sale", 1, terms, ((buyer, -100), (seller, 100)))
    forge(path, original, seal.seq, lambda e: [false, with_sales(seal, 1)] if e == seal else [e.draft])
    assert_found(
        verified(path),
        ("prices", f"round 1: entry {seal.seq} ({false.key}) is a sale that the rules do not lead to"),
    )


def forged_with(path: Path, original: Original, more: Sequence[Draft]) -> Verification:
    rewrite(path, more, len(original.entries) + 1)
    return verified(path)


def test_sales_outside_of_sealed_rounds_are_found(path, original):
    late = Draft("round/1/x/y", "sale", 1, {}, (("hospital-0", -1), ("hospital-1", 1)))
    early = Draft("round/3/x/y", "sale", 3, {}, (("hospital-0", -1), ("hospital-1", 1)))
    last = len(original.entries)
    assert_found(
        forged_with(path, original, [late, early]),
        ("rounds", f"entry {last + 1} (round/1/x/y) came after its round was sealed"),
        ("rounds", "round 1 was sealed with"),
        ("rounds", "round 3 has sales and no seal"),
        ("prices", f"round 1: entry {last + 1} (round/1/x/y) is a sale that the rules do not lead to"),
    )


def test_a_round_left_out_is_found(path, original):
    again = dataclasses.replace(original.seal(2).draft, key="round/4", round_index=4)
    found = forged_with(path, original, [again])
    assert named(found, "rounds", f"round 3 is not sealed: entry {len(original.entries) + 1} seals round 4")


def test_sales_without_a_market_are_found(path, original):
    false = Draft("round/3/x/y", "sale", 3, {}, (("hospital-0", -1), ("hospital-1", 1)))
    found = forged_with(path, original, [false, Draft("round/3", "round", 3, {"sales": 1})])
    assert_found(found, ("prices", "round 3 has sales and no market"))


def test_prices_of_other_rules_are_not_judged_by_ours(path, original):
    seal = original.seal(2)
    newer = dataclasses.replace(seal.draft, terms={**seal.terms, "version": 2})
    forge(path, original, seal.seq, lambda e: [newer if e == seal else e.draft])
    assert_found(
        verified(path),
        ("prices", "round 2 was priced by version 2 of the rules, this ipfl knows 1: use the one"),
    )


def test_money_moved_by_what_is_no_sale_is_found(path, original):
    gift = Draft("gift", "finish", 3, {}, (("hospital-0", -1), ("hospital-1", 1)))
    found = forged_with(path, original, [gift])
    assert_found(found, ("balance", f"entry {len(original.entries) + 1} (gift) moves money, and is no sale"))


def false_reversals(original: Original) -> dict[str, tuple[list[Draft], str]]:
    sale = original.sales(1)[0]
    right = reversal(sale.key, 3, sale.postings, "a mistake")
    more = tuple((name, 2 * amount) for name, amount in right.postings)
    late = Draft("late", "finish", 3, {})
    return {
        "more": ([dataclasses.replace(right, postings=more)], "moves something else than entry"),
        "wrong sign": (
            [dataclasses.replace(right, postings=sale.postings)],
            "moves something else than entry",
        ),
        "of nothing": ([reversal("round/9/a/b", 3, sale.postings, "")], "undoes no entry before it"),
        "of a later one": ([reversal("late", 3, (), ""), late], "undoes no entry before it"),
        "twice": ([right, dataclasses.replace(right, key="reversal/2")], "undoes no entry before it"),
        "of another": (
            [dataclasses.replace(right, terms={"of": original.sales(1)[1].key})],
            "undoes no entry before it",
        ),
    }


@pytest.mark.parametrize(
    "case", ["more", "wrong sign", "of nothing", "of a later one", "twice", "of another"]
)
def test_a_reversal_that_is_none_is_found(path, original, case):
    drafts, sentence = false_reversals(original)[case]
    assert_found(forged_with(path, original, drafts), ("reversals", sentence))


def test_accounts_that_come_or_go_twice_are_found(path, original):
    drafts = [
        membership("join", 3, name(0), 2, {}),
        membership("leave", 3, name(1), 2, {}),
        membership("leave", 3, name(1), 3, {}),
        membership("leave", 3, "nobody", 1, {}),
    ]
    last = len(original.entries)
    assert_found(
        forged_with(path, original, drafts),
        ("accounts", f"entry {last + 1}: hospital-0 cannot join twice in a row"),
        ("accounts", f"entry {last + 3}: hospital-1 cannot leave twice in a row"),
        ("accounts", f"entry {last + 4}: nobody cannot leave twice in a row"),
    )


def test_postings_to_a_closed_account_are_found(path, original):
    sale = original.sales(1)[0]
    with Ledger.open(path) as ledger:
        ledger._db.execute("DROP TRIGGER posting_open")
        leave = membership("leave", 3, sale.terms["buyer"], 2, {})
        ledger.post([leave, reversal(sale.key, 3, sale.postings, "too late")])
    with raw(path) as db:
        db.execute(next(sql for sql in STATEMENTS if "TRIGGER posting_open" in sql))
    sentence = f"(reversal/{sale.key}) posts to {sale.terms['buyer']}, whose account is not open"
    assert_found(verified(path), ("accounts", sentence))


def npy(*arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array)
    return buffer.getvalue()


HOSTILE_BIDS = {
    "no JSON": b"\xff",
    "nested": b"[" * 100_000,
    "nobody": b"[]",
    "a table": b"{}",
    "numbers": b"[1, 2, 3]",
    "too few": None,
    "a cost as text": {"export_cost": "much"},
    "a cost past all numbers": {"export_cost": 10**400},
    "a cost of half a unit": {"export_cost": 0.5},
    "a negative cost": {"export_cost": -1},
    "examples past all numbers": {"num_examples": 10**400},
    "no examples": {"num_examples": 0},
    "a curve of nobody": {"gain_curve": "magic"},
    "a curve that is no text": {"gain_curve": 7},
    "a name twice": {"participant_id": "hospital-1"},
    "no name": {"participant_id": ["hospital-0"]},
}
HOSTILE_DISTANCES = {
    "empty": b"",
    "no array": b"x" * 100,
    "too small": npy(np.zeros((2, 2))),
    "out of range": npy(np.full((5, 5), -1.0)),
    "text": npy(np.full((5, 5), "x")),
    "one part of three": npy(np.zeros((5, 5)))[:80] + b"1",
    "huge": npy(np.zeros((5, 5))).replace(b"(5, 5)", b"(9999999, 9999999)", 1),
    "sparse, of another size": npy(np.array([0, 1, 1]), np.array([1]), np.array([0.5])),
    "sparse, cut off": npy(np.array([0, 1, 1, 1, 1, 1]), np.array([1])),
    "sparse, of pairs that are not there": npy(np.array([0, 1, 1, 1, 1, 1]), np.array([77]), np.array([0.5])),
}
HOSTILE_TERMS = {
    "no such participant": {"present": ["nobody"]},
    "nobody is a number": {"present": 7},
    "a participant twice": {"present": ["hospital-0", "hospital-0"]},
    "a lam as text": {"lam": "0.1"},
    "a negative lam": {"lam": -1.0},
    "no rule": {"allocation": "best"},
    "rules that do not go together": {"payment": "vcg", "allocation": "greedy"},
    "a rule that is none": {"payment": ["vcg"]},
    "bids as a list": {"bids": ["x"]},
    "bids as a number": {"bids": 7},
    "no such bids": {"bids": "0" * 64},
    "no distances": {"distances": None},
}


def forged_seal(path: Path, original: Original, part: str, content: Any) -> Verification:
    """The last round with other grounds."""
    seal = original.seal(2)
    if isinstance(content, bytes):
        terms, attachments = {part: digest_of(content)}, {digest_of(content): content}
    else:
        terms, attachments = content, {}
    with raw(path, NEVER_CHANGED) as db:
        db.execute("DELETE FROM entry WHERE seq = ?", (seal.seq,))
    with Ledger.open(path) as ledger:
        ledger.post([dataclasses.replace(seal.draft, terms={**seal.terms, **terms})], attachments)
        return verify(ledger)


@pytest.mark.parametrize("case", HOSTILE_BIDS)
def test_bids_from_which_no_market_can_be_made_are_a_fault_and_no_accident(path, original, case):
    content = HOSTILE_BIDS[case]
    if not isinstance(content, bytes):
        with Ledger.open(path) as ledger:
            rows = json.loads(ledger.attachment(original.seal(2).terms["bids"]))
        rows = rows[:2] if content is None else [rows[0] | content, *rows[1:]]
        content = json.dumps(rows).encode()
    found = forged_seal(path, original, "bids", content)
    assert_found(found, ("prices", "round 2: its prices cannot be computed again: "))


@pytest.mark.parametrize("case", HOSTILE_DISTANCES)
def test_distances_that_make_no_market_are_a_fault_and_no_accident(path, original, case):
    found = forged_seal(path, original, "distances", HOSTILE_DISTANCES[case])
    assert_found(found, ("prices", "round 2: its prices cannot be computed again: "))


@pytest.mark.parametrize("case", HOSTILE_TERMS)
def test_terms_that_make_no_market_are_a_fault_and_no_accident(path, original, case):
    found = forged_seal(path, original, "", HOSTILE_TERMS[case])
    assert {fault.law for fault in found.faults} == {"prices"}


def test_faults_of_a_kind_are_counted_past_the_first_ones(path):
    with raw(path, GUARDS) as db:
        db.execute("UPDATE entry SET round_index = round_index + 1")
        changed = db.execute("SELECT count(*) FROM entry").fetchone()[0]
    faults = [fault.sentence for fault in verified(path).faults if fault.law == "chain"]
    assert len(faults) == SHOWN + 1
    assert faults[-1] == f"and {changed - SHOWN} more of the kind"


# ---------------------------------------------------------------- faults of our own


def test_prices_that_are_billed_with_a_unit_too_much_are_found(tmp_path, monkeypatch):
    """A fault in booking, none in verification: what is booked is held against the rules, not against itself."""
    one_more = booking_module.priced

    def off_by_one(*given):
        return [dataclasses.replace(each, price=each.price + 1) for each in one_more(*given)]

    with monkeypatch.context() as fault:
        fault.setattr(booking_module, "priced", off_by_one)
        book(tmp_path / "ledger.db", record(30))
    assert_found(verified(tmp_path / "ledger.db"), ("prices", "the rules lead to"))


def test_a_market_that_is_billed_by_exact_prices_is_not_booked():
    market = record(30)
    prices = market.outcome.payments * 1.0000000001
    with pytest.raises(Exception, match="every amount that is billed is a whole number of units"):
        booking(
            dataclasses.replace(
                market, outcome=dataclasses.replace(market.outcome, payments=prices, charges=prices)
            )
        )


# ---------------------------------------------------------------- what only a receipt can find


def test_newest_entries_taken_away_are_found_only_by_a_receipt(path, original):
    rewrite(path, [], original.sales(2)[0].seq)
    assert verified(path).sound  # the chain alone cannot tell
    assert verified(path, [each for each in original.receipts if each.round_index < 2], KEY.public).sound
    last = original.seal(1).seq
    assert_found(
        verified(path, original.receipts),
        (
            "receipts",
            f"the receipt of hospital-0 for round 2 is about entry {len(original.entries)}, and the ledger ends "
            f"with {last}: it was cut off",
        ),
    )


def test_the_newest_entry_deleted_with_its_postings_left_is_found_by_itself(path, original):
    sale = original.sales(2)[-1]
    with raw(path, GUARDS) as db:
        db.execute("DELETE FROM entry WHERE seq >= ?", (sale.seq,))
    assert named(verified(path), "tables", f"belongs to entry {sale.seq}, which is not there")


def test_a_ledger_written_anew_as_a_whole_is_found_only_by_a_receipt(tmp_path, original):
    path = tmp_path / "ledger.db"
    book(path, *(record(90 + index, index) for index in range(3)))
    assert verified(path).sound
    found = verified(path, original.receipts[:1])
    assert len(found.faults) == 1
    assert_found(
        found,
        (
            "receipts",
            "the receipt of hospital-0 for round 0 knows another entry "
            f"{original.seal(0).seq}: the ledger was written anew, or there are two of them",
        ),
    )


def test_one_receipt_of_anybody_suffices_for_any_change_before_it(path, original):
    sale = original.sales(0)[0]
    forge(path, original, sale.seq, lambda e: [off_by(e, 1) if e == sale else e.draft])
    found = verified(path, original.receipts)
    told = [fault.sentence for fault in found.faults if fault.law == "receipts"]
    assert len(told) == len(original.receipts)
    for receipt, sentence in zip(original.receipts, told, strict=True):
        assert (
            f"the receipt of {receipt.participant_id} for round {receipt.round_index} knows another"
            in sentence
        )
    assert named(verified(path, original.receipts[-1:]), "receipts", "knows another entry")


def signed(original: Original, key: OperatorKey = KEY, run: str = RUN, **changes: Any) -> Receipt:
    """A receipt of the last round with a genuine signature, whatever it says."""
    last = dataclasses.replace(original.receipts[-2], **changes)
    (made,) = key.receipts(run, last.round_index, (last.seq, last.head), {last.participant_id: last.balance})
    return made


FALSE_RECEIPTS = {
    "wrong signature": (lambda o: dataclasses.replace(o.receipts[0], balance=7), "has a false signature"),
    "signature of another": (
        lambda o: dataclasses.replace(o.receipts[0], signature=o.receipts[1].signature),
        "has a false signature",
    ),
    "other run": (lambda o: signed(o, run="6f" * 32), "belongs to another run (6f6f6f6f6f6f6f6f...)"),
    "changed balance": (
        lambda o: signed(o, balance=12),
        "states a balance of 12 units, which the ledger does not have",
    ),
    "unknown participant": (
        lambda o: signed(o, participant_id="nobody", balance=0),
        "the receipt of nobody for round 2 states a balance of 0 units, which the ledger does not have",
    ),
    "no entry": (lambda o: signed(o, seq=0), "knows another entry 0"),
    "before all entries": (lambda o: signed(o, seq=-1), "knows another entry -1"),
    "other head": (
        lambda o: signed(o, head="0" * 64),
        "the ledger was written anew, or there are two of them",
    ),
    "later entry": (lambda o: signed(o, seq=10**30), "it was cut off"),
}


@pytest.mark.parametrize("case", FALSE_RECEIPTS)
def test_false_receipts_are_found_and_named(path, original, case):
    make, sentence = FALSE_RECEIPTS[case]
    found = verified(path, [*original.receipts[:3], make(original)], KEY.public)
    assert_found(found, ("receipts", sentence))
    assert len(found.faults) == 1
    assert found.receipts == 4


def test_receipts_of_another_key_than_the_operators_are_found(path, original):
    sentence = "the receipts are signed with 2 keys, expected one: "
    other = signed(original, key=OTHER_KEY)
    assert verified(path, [other]).sound  # nobody said which key is the operator's
    assert_found(verified(path, [other], KEY.public), ("receipts", sentence))
    assert_found(verified(path, [original.receipts[0], other]), ("receipts", sentence))
    assert verified(path, [], KEY.public).sound

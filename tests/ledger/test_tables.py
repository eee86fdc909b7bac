"""The tables refuse what breaks a law, whoever writes: drafts, postings, and statements of anybody."""

import sqlite3

import pytest

from ipfl.errors import InvariantError, LedgerError
from ipfl.ledger import Draft, Ledger
from ipfl.ledger.entries import GENESIS
from ipfl.ledger.store import digest_of
from ipfl.market.units import AMOUNT_MAX
from ledger.booked import DIGEST, MARKS, everything, make, sale
from ledger.rounds import raw


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "ledger.db"
    make(path)
    return path


@pytest.fixture
def ledger(path):
    with Ledger.open(path) as ledger:
        yield ledger


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

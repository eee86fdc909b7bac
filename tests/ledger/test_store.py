"""Laws of the store: what is booked stays, once, all or nothing."""

import json
import shutil

import pytest

from ipfl import faults
from ipfl.errors import InvariantError, LedgerError
from ipfl.ledger import Draft, Ledger, Mark, membership, reversal
from ipfl.ledger.entries import GENESIS, chained, text_of
from ipfl.ledger.schema import STATEMENTS
from ipfl.ledger.store import digest_of
from ipfl.market.units import AMOUNT_MAX
from ledger.booked import CONTENT, DIGEST, MARKS, OPENING, SALE, SEAL, everything, files, make, sale
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
    assert ledger.rounds() == 1
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

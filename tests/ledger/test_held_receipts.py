"""What the chain alone cannot tell, a receipt that somebody kept can; and false receipts are told from true ones."""

import dataclasses
from typing import Any

import pytest

from ipfl.ledger import OperatorKey, Receipt
from ledger.rounds import RUN, book, raw, record, rewrite
from ledger.tampered import GUARDS, KEY, OTHER_KEY, Original, assert_found, forge, named, off_by, verified


def test_newest_entries_taken_away_are_found_only_by_a_receipt(copied, original):
    rewrite(copied, [], original.sales(2)[0].seq)
    assert verified(copied).sound  # the chain alone cannot tell
    assert verified(copied, [each for each in original.receipts if each.round_index < 2], KEY.public).sound
    last = original.seal(1).seq
    assert_found(
        verified(copied, original.receipts),
        (
            "receipts",
            f"the receipt of hospital-0 for round 2 is about entry {len(original.entries)}, and the ledger ends "
            f"with {last}: it was cut off",
        ),
    )


def test_the_newest_entry_deleted_with_its_postings_left_is_found_by_itself(copied, original):
    sale = original.sales(2)[-1]
    with raw(copied, GUARDS) as db:
        db.execute("DELETE FROM entry WHERE seq >= ?", (sale.seq,))
    assert named(verified(copied), "tables", f"belongs to entry {sale.seq}, which is not there")


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


def test_one_receipt_of_anybody_suffices_for_any_change_before_it(copied, original):
    sale = original.sales(0)[0]
    forge(copied, original, sale.seq, lambda e: [off_by(e, 1) if e == sale else e.draft])
    found = verified(copied, original.receipts)
    told = [fault.sentence for fault in found.faults if fault.law == "receipts"]
    assert len(told) == len(original.receipts)
    for receipt, sentence in zip(original.receipts, told, strict=True):
        assert (
            f"the receipt of {receipt.participant_id} for round {receipt.round_index} knows another"
            in sentence
        )
    assert named(verified(copied, original.receipts[-1:]), "receipts", "knows another entry")


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
def test_false_receipts_are_found_and_named(copied, original, case):
    make, sentence = FALSE_RECEIPTS[case]
    found = verified(copied, [*original.receipts[:3], make(original)], KEY.public)
    assert_found(found, ("receipts", sentence))
    assert len(found.faults) == 1
    assert found.receipts == 4


def test_receipts_of_another_key_than_the_operators_are_found(copied, original):
    sentence = "the receipts are signed with 2 keys, expected one: "
    other = signed(original, key=OTHER_KEY)
    assert verified(copied, [other]).sound  # nobody said which key is the operator's
    assert_found(verified(copied, [other], KEY.public), ("receipts", sentence))
    assert_found(verified(copied, [original.receipts[0], other]), ("receipts", sentence))
    assert verified(copied, [], KEY.public).sound

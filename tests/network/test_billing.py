"""Bills: what is told in one, to whom, and how many at a time."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ipfl.engines.messages import REQUEST, opened, sealed
from ipfl.ledger import reversal
from ipfl.network.bill_check import problems
from ipfl.network.billing import ANOTHER, ROOM, bills_of, curve_of, receipt_of, that_fit
from ledger.rounds import RUN, booking, name, new_ledger, record
from network.billed import HOW, agreed, rounds, told
from tried import settings, tried


@tried(rounds(), times=6, in_full=300, how=HOW)
def test_a_bill_names_nobody_but_those_traded_with_and_money_adds_up(folder, key, played):
    records = [record(**how) for how in played]
    bills, _ = told(records, key, folder)
    for number in range(2):
        lines = [line for own in bills.values() for line in own[number]["lines"]]
        subsidy = sum(line["terms"]["price"] - line["terms"]["charge"] for line in lines) // 2
        assert sum(line["amount"] for line in lines) == subsidy
        for me, own in bills.items():
            bill = own[number]
            partners = {line["terms"][side] for line in bill["lines"] for side in ("buyer", "seller")} - {me}
            present = records[number].present[int(me.rsplit("-", 1)[1])]
            assert (bill["offers"] is not None) == present
            assert present or bill["lines"] == []
            for seller in (bill["offers"] or {"sellers": []})["sellers"]:
                assert seller["name"] == ANOTHER or seller["name"] in partners


def test_bills_told_after_a_round_are_those_that_are_left_out_before(tmp_path, key):
    records = [record(seed, place, rule="lean") for place, seed in enumerate((1, 2, 3))]
    with new_ledger(tmp_path / "ledger.db") as ledger:
        for each in records:
            ledger.post(*booking(each))
        everything = bills_of(ledger, key, RUN, -1)
        for after in range(3):
            later = bills_of(ledger, key, RUN, after)
            assert all(later.get(who, []) == own[after + 1 :] for who, own in everything.items())


def test_a_reversal_is_told_to_both_sides_and_found_right(tmp_path, key):
    records = [record(3, place) for place in range(2)]
    with new_ledger(tmp_path / "ledger.db") as ledger:
        ledger.post(*booking(records[0]))
        sale = next(entry for entry in ledger.entries("WHERE kind = 'sale'") if entry.postings)
        ledger.post([reversal(sale.key, 1, sale.postings, "a mistake")])
        ledger.post(*booking(records[1]))
        bills = bills_of(ledger, key, RUN, -1)
    for index in range(5):
        balance, booked = 0, {}
        for number, bill in enumerate(bills[name(index)]):
            assert (
                problems(bill, agreed(records[number], index, "truthful", key), None, balance, booked) == []
            )
            balance = receipt_of(bill).balance
            booked |= {line["key"]: line["amount"] for line in bill["lines"]}
        told_of_it = any(line["key"].startswith("reversal/") for line in bills[name(index)][1]["lines"])
        assert told_of_it == (name(index) in dict(sale.postings))


def test_curves_are_read_from_text_and_none_is_the_square_root():
    assert curve_of(None) is None
    assert curve_of("power:0.35") is not None


@given(st.lists(st.integers(1, 400), max_size=12), st.integers(1, 900))
@settings(deadline=None, derandomize=True)
def test_bills_that_fit_are_the_oldest_and_always_one(lengths, room):
    bills = [{"round_index": number, "lines": ["x" * length]} for number, length in enumerate(lengths)]
    told = that_fit(bills, room)
    assert told == bills[: len(told)]
    assert len(told) >= min(1, len(bills))
    sizes = [len(json.dumps(bill)) for bill in bills]
    assert sum(sizes[: len(told)]) <= max(room, *sizes[:1], 0)
    if len(told) < len(bills):
        assert sum(sizes[: len(told) + 1]) > room


def test_a_message_has_room_for_all_bills_that_fit(tmp_path, key):
    with new_ledger(tmp_path / "ledger.db") as ledger:
        ledger.post(*booking(record(0)))
        (bill,) = bills_of(ledger, key, RUN, -1)[name(0)]
    many = [bill] * (2 * ROOM // len(json.dumps(bill)))
    told = that_fit(many)
    assert 0 < len(told) < len(many)
    message = sealed(REQUEST, {"bills": told}, {}, key.sign)
    assert opened(REQUEST, message, lambda *_: True, 1 << 30).content["bills"] == told

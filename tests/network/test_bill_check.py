"""Bills checked: an honest one is found right by everybody; what is changed in one is found, or does not matter."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from ipfl.config import PrivacyConfig
from ipfl.learning.private import epsilon_spent
from ipfl.ledger import operator_key
from ipfl.ledger.prices import computed_again, matrix_bytes, matrix_of
from ipfl.ledger.receipts import Receipt
from ipfl.network.bill_check import problems
from ipfl.network.billing import bills_of, receipt_of
from ledger.rounds import RUN, booking, name, new_ledger, record
from network.billed import HOW, agreed, rounds, told
from tried import tried


def signed(bill, key, **changes):
    """The bill with a receipt that fits it, or one changed, signed by the operator."""
    unsigned = replace(receipt_of(bill), signature="", **changes)
    receipt = replace(unsigned, signature=key.sign(unsigned.claim).hex())
    return {**bill, "receipt": {field: getattr(receipt, field) for field in Receipt.__annotations__}}


# ---------------------------------------------------------------- honest bills


@tried(rounds(), times=6, in_full=200, how=HOW)
def test_nobody_finds_anything_wrong_with_an_honest_bill(folder, key, played):
    records, rule = [record(**how) for how in played], played[0]["rule"]
    bills, _ = told(records, key, folder)
    for index in range(len(records[0].present)):
        balance, run, booked = 0, None, {}
        for number, bill in enumerate(bills[name(index)]):
            assert problems(bill, agreed(records[number], index, rule, key), run, balance, booked) == []
            balance, run = receipt_of(bill).balance, RUN
            booked |= {line["key"]: line["amount"] for line in bill["lines"]}
        assert number == 1


# ---------------------------------------------------------------- changed ones


def lines_of(bills, records, number, side):
    """All lines in which somebody bought or sold in a round: the participant's index, and the line's place."""
    return [
        (index, place)
        for index in range(len(records[0].present))
        for place, line in enumerate(bills[name(index)][number]["lines"])
        if line["terms"][side] == name(index)
    ]


def found_in(bill, before, records, number, index, rule, key):
    """The problems of a changed bill, whose receipt the operator signs to fit it."""
    balance = receipt_of(before).balance if before else 0
    moved = sum(line["amount"] for line in bill["lines"])
    bill = signed(bill, key, balance=balance + moved)
    return problems(bill, agreed(records[number], index, rule, key), RUN, balance)


CHANGED = st.sampled_from(["price", "charge", "both", "amount", "distance", "size", "cost", "valuation"])


@tried(rounds(), CHANGED, st.integers(-3, 3).filter(bool), st.data(), times=8, in_full=300, how=HOW)
def test_any_change_of_what_one_bought_is_found(folder, key, played, what, step, data):
    records, rule = [record(**how) for how in played], played[0]["rule"]
    bills, _ = told(records, key, folder)
    number = data.draw(st.integers(0, 1))
    bought = lines_of(bills, records, number, "buyer")
    assume(bought)
    index, place = data.draw(st.sampled_from(bought))
    own = bills[name(index)]
    bill = copy.deepcopy(own[number])
    line = bill["lines"][place]
    terms = line["terms"]
    if what in ("price", "both"):
        terms["price"] += step
    if what in ("charge", "both"):
        terms["charge"] += step
        line["amount"] -= step
    if what == "amount":
        line["amount"] += step
    if what == "distance":
        terms["distance"] += step / 1000
    if what == "size":
        terms["seller_num_examples"] += step
    if what == "cost":
        terms["export_cost"] += step
    if what == "valuation":
        terms["valuation"] += step
    assert found_in(bill, own[number - 1] if number else None, records, number, index, rule, key)


@tried(
    rounds(), st.sampled_from(["amount", "price", "size", "cost"]), st.data(), times=6, in_full=200, how=HOW
)
def test_any_change_of_what_one_is_paid_or_of_ones_own_bid_is_found(folder, key, played, what, data):
    records, rule = [record(**how) for how in played], played[0]["rule"]
    bills, _ = told(records, key, folder)
    number = data.draw(st.integers(0, 1))
    sold = lines_of(bills, records, number, "seller")
    assume(sold)
    index, place = data.draw(st.sampled_from(sold))
    own = bills[name(index)]
    bill = copy.deepcopy(own[number])
    line = bill["lines"][place]
    if what == "amount":
        line["amount"] -= 1
    if what == "price":  # below what was bid as its cost
        line["terms"]["price"] = line["amount"] = line["terms"]["export_cost"] - 1
    if what == "size":
        line["terms"]["seller_num_examples"] += 1
    if what == "cost":
        line["terms"]["export_cost"] += 1
    assert found_in(bill, own[number - 1] if number else None, records, number, index, rule, key)


@tried(
    rounds(), st.sampled_from(["left out", "twice", "another's"]), st.data(), times=6, in_full=200, how=HOW
)
def test_a_purchase_that_is_left_out_or_there_twice_or_anothers_is_found(folder, key, played, what, data):
    records, rule = [record(**how) for how in played], played[0]["rule"]
    bills, _ = told(records, key, folder)
    number = data.draw(st.integers(0, 1))
    bought = lines_of(bills, records, number, "buyer")
    assume(bought)
    index, place = data.draw(st.sampled_from(bought))
    own = bills[name(index)]
    bill = copy.deepcopy(own[number])
    line = bill["lines"][place]
    if what == "left out":
        bill["lines"].remove(line)
    elif what == "twice":
        bill["lines"].append(copy.deepcopy(line))
    else:
        others = [
            each
            for other in bills.values()
            for each in other[number]["lines"]
            if name(index) not in each["key"]
        ]
        assume(others)
        bill["lines"].append(others[0])
    assert found_in(bill, own[number - 1] if number else None, records, number, index, rule, key)


@tried(
    rounds(),
    st.sampled_from(["distance", "num_examples", "export_cost"]),
    st.floats(0.2, 3.0),
    st.data(),
    times=8,
    in_full=300,
    how=HOW,
)
def test_a_change_of_what_was_on_offer_is_found_unless_it_leads_to_the_same_purchases(
    folder, key, played, what, factor, data
):
    records, rule = [record(**how) for how in played], played[0]["rule"]
    bills, rounds_told = told(records, key, folder)
    number = data.draw(st.integers(0, 1))
    here = [i for i in range(len(records[0].present)) if records[number].present[i]]
    assume(len(here) > 1)
    index = data.draw(st.sampled_from(here))
    own = bills[name(index)]
    bill = copy.deepcopy(own[number])
    sellers = bill["offers"]["sellers"]
    place = data.draw(st.integers(0, len(sellers) - 1))
    old = sellers[place][what]
    assume(old is not None)
    new = min(2.0, old * factor) if what == "distance" else max(1, int(old * factor))
    assume(new != old)
    sellers[place][what] = new
    found = found_in(bill, own[number - 1] if number else None, records, number, index, rule, key)
    if not found:
        seller = [i for i in here if i != index][place]
        again = recomputed(*rounds_told[number], name(index), name(seller), what, new)
        booked = {
            line["key"]: line["terms"]
            for line in own[number]["lines"]
            if line["terms"]["buyer"] == name(index)
        }
        assert {key: (t["price"], t["charge"]) for key, t in booked.items()} == again


def recomputed(number, seal, filed, buyer, seller, what, value):
    """The buyer's purchases by the ledger's own reckoning, had one seller's offer to it been another."""
    rows, distances = json.loads(filed["bids"]), filed["distances"]
    ids = [row["participant_id"] for row in rows]
    if what == "distance":
        matrix = matrix_of(distances).copy()
        matrix[ids.index(buyer), ids.index(seller)] = value
        distances = matrix_bytes(matrix)
    else:
        rows[ids.index(seller)][what] = value
    return {
        f"round/{number}/{sale.buyer}/{sale.seller}": (sale.price, sale.charge)
        for sale in computed_again(seal, json.dumps(rows).encode(), distances)
        if sale.buyer == buyer
    }


RECEIPT = [
    ({"run": "0" * 64}, "its receipt is of another run"),
    ({"round_index": 5}, "its receipt is of another participant or round"),
    ({"participant_id": "hospital-9"}, "its receipt is of another participant or round"),
    ({"balance": 12345678}, "the balance before it was"),
]


@pytest.mark.parametrize(("changes", "sentence"), RECEIPT)
def test_a_receipt_of_something_else_is_found(tmp_path, key, changes, sentence):
    records = [record(3, place) for place in range(2)]
    bills, _ = told(records, key, tmp_path)
    bill = signed(bills[name(0)][0], key, **changes)
    found = problems(bill, agreed(records[0], 0, "truthful", key), RUN, 0)
    assert any(text.startswith(sentence) for text in found)


def test_a_receipt_that_another_key_signed_is_found_before_all_else(tmp_path, key):
    other = operator_key(tmp_path / "other.key")
    bills, _ = told([record(3), record(4, 1)], other, tmp_path)
    for signer in (other.public, key.public):  # under its own name, and under the operator's
        bill = copy.deepcopy(bills[name(0)][0])
        bill["receipt"]["key"] = signer
        found = problems(bill, agreed(record(3), 0, "truthful", key), None, 0)
        assert found == ["its receipt is not signed by the operator's key"]


@pytest.mark.parametrize("bill", [None, 3, [], {}, {"receipt": {}}, {"receipt": None, "lines": []}])
def test_what_is_no_bill_is_found(key, bill):
    found = problems(bill, agreed(record(3), 0, "truthful", key), None, 0)
    assert found[0].startswith("it is no bill (")


PRIVATE = {"steps": 40, "sampling_rate": 0.5, "epsilon": None}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"steps": 39}, "it counts 39 private steps, taken were 40"),
        ({"epsilon": 0.1}, "epsilon is 0.1 on it and "),
        (None, "it does not say what private training has cost"),
    ],
)
def test_what_private_training_has_cost_is_counted_again(tmp_path, key, changes, sentence):
    each = record(0)
    privacy = PrivacyConfig(noise_multiplier=1.5)
    with new_ledger(tmp_path / "ledger.db") as ledger:
        ledger.post(*booking(each))
        (bill,) = bills_of(ledger, key, RUN, -1)[name(0)]
    mine = replace(agreed(each, 0, "truthful", key), privacy=privacy, private_steps=40, sampling_rate=0.5)
    right = PRIVATE | {"epsilon": epsilon_spent(privacy, 0.5, 40)}
    bill["privacy"] = None if changes is None else right | changes
    found = problems(bill, mine, None, 0)
    if sentence is None:
        assert found == []
    else:
        assert found[0].startswith(sentence)
    bill["privacy"] = {"steps": 40, "sampling_rate": 0.3, "epsilon": epsilon_spent(privacy, 0.3, 40)}
    assert (
        "by its own reckoning" in problems(bill, mine, None, 0)[0]
    )  # it traded by another number of examples
    alone = signed(bill | {"lines": []}, key, balance=0)
    assert not [found for found in problems(alone, mine, None, 0) if "epsilon" in found]
    bill["privacy"] = right
    assert problems(bill, replace(mine, privacy=None), None, 0) == [
        "it counts private training, which was not agreed"
    ]

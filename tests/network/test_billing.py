"""Bills: an honest one is found right by everybody, and whatever is changed in one is found or does not matter."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipfl.config import PrivacyConfig
from ipfl.engines.messages import REQUEST, opened, sealed
from ipfl.learning.private import epsilon_spent
from ipfl.ledger import operator_key, reversal
from ipfl.ledger.prices import computed_again, matrix_bytes, matrix_of
from ipfl.ledger.receipts import Receipt
from ipfl.market.rules import RULES, resolve_rule
from ipfl.network.bill_check import Agreed, problems
from ipfl.network.billing import ANOTHER, ROOM, bills_of, curve_of, receipt_of, that_fit
from ledger.rounds import LAM, RUN, booking, name, new_ledger, record
from tried import settings, tried

HOW = settings(deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return operator_key(tmp_path_factory.mktemp("keys") / "operator.key")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ledgers")


@st.composite
def rounds(draw):
    """How `record` makes two rounds by one of the rules: some absent, some not on offer, with candidates or without."""
    m, rule = draw(st.integers(2, 6)), draw(st.sampled_from([*RULES]))
    pairs = [(i, j) for i in range(m) for j in range(m) if i != j]
    curves, sparse = draw(st.sampled_from([None, "built-in"])), draw(st.booleans())
    return [
        {
            "seed": draw(st.integers(0, 10_000)),
            "round_index": round_index,
            "m": m,
            "rule": rule,
            "curves": curves,
            "absent": draw(st.lists(st.integers(0, m - 1), max_size=m // 2)),
            "ineligible": draw(st.lists(st.sampled_from(pairs), max_size=4)),
            "sparse": sparse,
        }
        for round_index in range(2)
    ]


def agreed(of, index, rule, key):
    """What a participant knows of itself and of the rules."""
    bids = of.bids
    return Agreed(
        name(index),
        key.public,
        int(bids.num_examples[index]),
        float(bids.valuation[index]),
        float(bids.export_cost[index]),
        None if bids.curves is None else bids.curves[index],
        LAM,
        *resolve_rule(rule),
    )


def told(records, key, folder):
    """Everybody's bills, as they come out of JSON, and the terms and attachments of the rounds."""
    path = folder / "ledger.db"
    path.unlink(missing_ok=True)
    with new_ledger(path, len(records[0].present)) as ledger:
        for each in records:
            ledger.post(*booking(each))
        bills = json.loads(json.dumps(bills_of(ledger, key, RUN, -1)))
        seals = [dict(entry.terms) for entry in ledger.entries("WHERE kind = 'round'")]
        filed = [{part: ledger.attachment(seal[part]) for part in ("bids", "distances")} for seal in seals]
    return bills, [*zip(range(len(seals)), seals, filed, strict=True)]


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


@pytest.mark.parametrize("bill", [None, 3, [], {}, {"receipt": {}}, {"receipt": None, "lines": []}])
def test_what_is_no_bill_is_found(key, bill):
    found = problems(bill, agreed(record(3), 0, "truthful", key), None, 0)
    assert found[0].startswith("it is no bill (")


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
    bill["privacy"] = right
    assert problems(bill, replace(mine, privacy=None), None, 0) == [
        "it counts private training, which was not agreed"
    ]

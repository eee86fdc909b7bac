"""A participant's bills: applied once each, in order; one that is not right is disputed, and its terms set a limit."""

import copy
import json
import shutil
from dataclasses import replace

import pytest

from ipfl.ledger import operator_key
from ipfl.ledger.receipts import Receipt
from ipfl.network.billing import receipt_of
from ipfl.network.own_bills import DISPUTE
from ipfl.network.own_disk import OwnDisk
from ipfl.network.terms import read_terms
from network.asking import ME, again, ask, bills_of, joined, refusal, through, trainings


def signed(world, bill, key=None, **changes):
    """The bill with its receipt changed and signed again, by the operator if no other key is given."""
    receipt, key = replace(receipt_of(bill), **changes), key or world.operator
    bill["receipt"]["key"] = key.public
    unsigned = replace(receipt, key=key.public, signature="")
    bill["receipt"] |= {name: getattr(unsigned, name) for name in Receipt.__annotations__}
    bill["receipt"]["signature"] = key.sign(unsigned.claim).hex()
    return bill


def bought(bill):
    return next(line for line in bill["lines"] if line["terms"].get("buyer") == ME)


def sold(bill):
    return next(line for line in bill["lines"] if line["terms"].get("seller") == ME)


def dearer(world, bill):
    line = bought(bill)
    line["terms"]["price"] += 5
    line["terms"]["charge"] += 5
    line["amount"] -= 5
    return signed(world, bill, balance=receipt_of(bill).balance - 5)


def left_out(world, bill):
    line = bought(bill)
    bill["lines"].remove(line)
    return signed(world, bill, balance=receipt_of(bill).balance - line["amount"])


def twice(world, bill):
    line = bought(bill)
    bill["lines"].append(copy.deepcopy(line))
    return signed(world, bill, balance=receipt_of(bill).balance + line["amount"])


def added(world, bill):
    line = copy.deepcopy(bought(bill))
    line["terms"]["seller"] = "hospital-z"
    line["key"] = f"round/{bill['round_index']}/{ME}/hospital-z"
    bill["lines"].append(line)
    return signed(world, bill, balance=receipt_of(bill).balance + line["amount"])


def farther(world, bill):
    bought(bill)["terms"]["distance"] *= 0.5
    return bill


def farther_on_offer(world, bill):
    name = bought(bill)["terms"]["seller"]
    next(seller for seller in bill["offers"]["sellers"] if seller["name"] == name)["distance"] *= 0.5
    return bill


def others_valuation(world, bill):
    bought(bill)["terms"]["valuation"] = 12_000.0
    return bill


def others_size(world, bill):
    sold(bill)["terms"]["seller_num_examples"] += 1
    return bill


def below_cost(world, bill):
    line = sold(bill)
    taken = line["terms"]["price"] - 10
    line["terms"]["price"], line["amount"] = 10, 10
    return signed(world, bill, balance=receipt_of(bill).balance - taken)


def less_received(world, bill):
    sold(bill)["amount"] -= 7
    return signed(world, bill, balance=receipt_of(bill).balance - 7)


def other_rules(world, bill):
    bought(bill)["terms"]["payment"] = "critical"
    return bill


def wrong_balance(world, bill):
    return signed(world, bill, balance=receipt_of(bill).balance + 1)


def of_another_round(world, bill):
    return signed(world, bill, round_index=7)


def of_another_participant(world, bill):
    return signed(world, bill, participant_id="hospital-b")


def taken_back(world, bill):
    bill["lines"].append({"key": "reversal/round/0/x/y", "amount": -1000, "terms": {"of": "round/0/x/y"}})
    return signed(world, bill, balance=receipt_of(bill).balance - 1000)


def unsigned(world, bill):
    bill["receipt"]["signature"] = "00" * 64
    return bill


def nothing_on_offer(world, bill):
    bill["offers"] = None
    return bill


def impossible_offers(world, bill):
    bill["offers"]["sellers"][0]["num_examples"] = 0
    return bill


def no_bill(world, bill):
    bill["lines"] = [3]
    return bill


TAMPERED = [
    (dearer, "by its own reckoning"),
    (left_out, "was not bought"),
    (twice, "it was billed before"),
    (added, "would not have been bought"),
    (farther, "by its own reckoning"),
    (farther_on_offer, "by its own reckoning"),
    (others_valuation, "by the bid it should be"),
    (others_size, "by the bid it should be"),
    (below_cost, "the price is below the export cost that was bid"),
    (less_received, "by the bid it should be"),
    (other_rules, "payment is 'critical', agreed was 'vcg'"),
    (wrong_balance, "the balance before it was 0.000000 credits"),
    (of_another_round, "its receipt is of another participant or round"),
    (of_another_participant, "its receipt is of another participant or round"),
    (taken_back, "it does not give back what was billed before"),
    (unsigned, "its receipt is not signed by the operator's key"),
    (nothing_on_offer, "it does not say what was on offer"),
    (impossible_offers, "it is no bill (BidError"),
    (no_bill, "it is no bill"),
]


@pytest.mark.parametrize(("tamper", "sentence"), TAMPERED, ids=[tamper.__name__ for tamper, _ in TAMPERED])
def test_a_bill_that_is_not_right_is_disputed_for_good_also_after_a_restart(
    own, tamper, sentence, monkeypatch
):
    done, node = trainings(monkeypatch), joined(own)
    ask(own, node, "train", 0)
    bill = tamper(own, bills_of(own)[0])
    reason = refusal(ask(own, node, "train", 1, bills=[bill]))
    assert reason.startswith("it disputes a bill: round 0: ")
    dispute = (own.home(ME) / DISPUTE).read_text()
    assert sentence in dispute
    assert json.loads(dispute.splitlines()[1]) == json.loads(json.dumps(bill))
    for fresh in (node, again(own)):
        assert "it disputes a bill" in refusal(ask(own, fresh, "train", 1, bills=bills_of(own)[:1]))
        assert "it disputes a bill" in refusal(ask(own, fresh, "settle", finished=True))
        assert fresh.standing.failed
    assert done == [0]
    assert OwnDisk(own.home(ME)).bills == []


def test_bills_of_another_key_another_run_or_another_past_are_disputed(own, tmp_path):
    bills, other = bills_of(own), operator_key(tmp_path / "other.key")
    for tampered, sentence in (
        ([signed(own, bills_of(own)[0], key=other)], "its receipt is not signed by the operator's key"),
        ([bills[0], signed(own, bills_of(own)[1], run="0" * 64)], "its receipt is of another run"),
        ([bills[0], bills[2]], "the bill of round 1 was left out before it"),
        ([bills[1], bills[0]], "the balance before it was 0.000000 credits"),
        ([*bills[:2], dearer(own, bills_of(own)[0])], "it was billed already, and otherwise"),
    ):
        shutil.rmtree(own.home(ME), ignore_errors=True)
        node = through(own)
        assert sentence in refusal(ask(own, node, "train", 2, bills=tampered))


def test_bills_known_already_change_nothing_however_often_they_come(own):
    node, bills = through(own), bills_of(own)
    for sent in (bills[:1], bills[:2], bills[:2], bills):
        reply = ask(own, node, "settle", finished=False, bills=sent)
        assert reply.content["billed_until"] == len(sent) - 1
    found = OwnDisk(own.home(ME)).bills
    assert [bill["round_index"] for bill in found] == [0, 1, 2]
    assert node.bills.balance == receipt_of(bills[-1]).balance


def test_a_reversal_gives_back_what_was_billed_and_nothing_else(own):
    bills = bills_of(own)
    line, before = bought(bills[0]), receipt_of(bills[1]).balance
    back = {
        "key": f"reversal/{line['key']}",
        "amount": -line["amount"],
        "terms": {"of": line["key"], "reason": "x"},
    }
    bills[1]["lines"].append(back)
    reply = ask(
        own,
        through(own),
        "settle",
        finished=False,
        bills=[bills[0], signed(own, bills[1], balance=before + back["amount"])],
    )
    assert reply.content["what"] == "settled"
    bills[2]["lines"].append(back)
    bills[2] = signed(own, bills[2], balance=receipt_of(bills[2]).balance + 2 * back["amount"])
    assert "it was billed before" in refusal(ask(own, again(own), "settle", finished=False, bills=bills[2:]))


def test_a_bid_that_changes_is_held_against_bills_of_rounds_answered_since(own):
    node = joined(own)
    ask(own, node, "train", 0)
    path = own.folder / "dearer.toml"
    path.write_text(
        (own.folder / f"{ME}.toml").read_text().replace("export_cost = 0.05", "export_cost = 5.0")
    )
    changed = again(own, terms=read_terms(path))
    bills = bills_of(own)
    reply = ask(own, changed, "train", 1, bills=bills[:1])
    assert reply.content["what"] == "trained"
    assert reply.content["registration"]["export_cost"] == 5.0
    assert "by the bid it should be" in refusal(ask(own, changed, "settle", finished=False, bills=bills[1:2]))


def test_limits_stop_it_once_it_has_paid_so_much_and_never_before(own):
    bills = bills_of(own)
    paid = -receipt_of(bills[1]).balance / 1_000_000
    assert paid > 0, "this participant pays in this market"
    path = own.folder / "limited.toml"
    for limit, stops in ((paid - 0.01, True), (paid, False)):
        path.write_text(f"{(own.folder / f'{ME}.toml').read_text()}[limits]\npaid_total = {limit}\n")
        shutil.rmtree(own.home(ME), ignore_errors=True)
        node = through(own, 2, terms=read_terms(path))
        reply = ask(own, node, "train", 2, bills=bills[:2])
        if stops:
            assert "credits more than it received; its terms stop at" in refusal(reply)
            assert node.standing.failed
        else:
            assert reply.content["what"] == "trained"
        assert reply.content["billed_until"] == 1

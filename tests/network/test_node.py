"""A participant's side: what it answers, what it refuses in which words, and what it keeps through a crash."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl import faults
from ipfl.config import PrivacyConfig
from ipfl.engines.messages import REPLY, REQUEST, array_digest, opened, sealed
from ipfl.errors import RunFolderError
from ipfl.ledger import operator_key
from ipfl.ledger.receipts import Receipt
from ipfl.network.billing import receipt_of
from ipfl.network.node import CLOCK_S
from ipfl.network.own_bills import DISPUTE
from ipfl.network.own_disk import OwnDisk
from ipfl.network.round_work import PARTS_MAX
from ipfl.network.terms import read_terms
from ipfl.network.workbench import Workbench
from network.faulty import KilledError
from network.markets import NAMES, World, connected

ME = NAMES[0]
NOW = 1_700_000_000.0
ROUNDS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A market that has been played to its end; what this participant was asked in it is asked again here."""
    world = World(tmp_path_factory.mktemp("market"), rounds=ROUNDS, steps=2)
    transport = connected(world)
    world.host(transport)
    world.requests = [
        opened(REQUEST, message, lambda *_: True, 1 << 30)
        for fingerprint, side, message in transport.traffic
        if side == "request" and fingerprint == world.fingerprint(ME)
    ]
    return world


@pytest.fixture
def own(world, tmp_path):
    """The same market with homes of the test's own."""
    here = copy.copy(world)
    here.homes, here.said = str(tmp_path / "homes"), {}
    return here


def request_of(world, what, round_index=None):
    """What the operator asked, as it asked it; bills left out."""
    for request in world.requests:
        told = request.content
        if told["what"] == what and round_index in (None, told.get("round_index")):
            return {**told, "bills": [], "sent_at": NOW}, dict(request.arrays)
    raise AssertionError(what)


def bills_of(world):
    """All bills of this participant, in order."""
    found = {}
    for request in world.requests:
        found |= {bill["round_index"]: bill for bill in request.content["bills"]}
    assert list(found) == list(range(ROUNDS))
    return [copy.deepcopy(bill) for bill in found.values()]


def ask(world, node, kind, round_index=None, key=None, arrays=None, **changes):
    """What a node says to a request of the operator's, signed as it should be unless another key is given."""
    content, own = request_of(world, kind, round_index)
    return put(world, node, content | changes, own if arrays is None else arrays, key)


def put(world, node, content, arrays, key=None):
    reply = node.answer(sealed(REQUEST, content, arrays, (key or world.operator).sign))
    return opened(REPLY, reply, world.keys[ME].public.verify, 1 << 30)


def refusal(reply):
    assert reply.content["what"] == "refusal", reply.content["what"]
    return reply.content["reason"]


def joined(world, **kw):
    """A node that has agreed."""
    node = world.node(ME, clock=lambda: NOW, **kw)
    assert ask(world, node, "offer").content["consents"] is True
    return node


def again(world, **kw):
    """The node in a new process."""
    return world.node(ME, clock=lambda: NOW, **kw)


# ---------------------------------------------------------------- whom it answers


def test_a_request_signed_by_another_key_is_refused_and_says_which_key_it_wants(own, tmp_path):
    other = operator_key(tmp_path / "other.key")
    reason = refusal(ask(own, joined(own), "train", 0, key=other))
    assert reason == (
        "the request is refused: it is not signed by the key that it should be signed by "
        f"(operator_key in the terms is {own.operator.public[:16]}...)"
    )


@pytest.mark.parametrize(
    "message", [b"", b"hello", b"ipfl message 1\n", b"ipfl message 1\n\0\x40" + bytes(200)]
)
def test_bytes_that_are_no_request_have_a_signed_refusal(own, message):
    reply = opened(REPLY, joined(own).answer(message), own.keys[ME].public.verify, 1 << 30)
    assert refusal(reply).startswith("the request is refused: it is")


REFUSED = [
    ({"to": "0" * 64}, "give the terms and the key that were registered together"),
    (
        {"participant_id": "hospital-b"},
        "the request is for 'hospital-b', but this is 'hospital-a' with the key",
    ),
    ({"market": "0" * 64}, "the request is of another market than was agreed to: give another --home for it"),
    (
        {"sent_at": NOW + CLOCK_S + 7},
        "the request was sent 307 s in the future: this clock or the operator's is off",
    ),
    (
        {"sent_at": NOW - 31},
        "the request came 31 s after it was sent, past its deadline of 30 s, and is left",
    ),
    ({"index": 2}, "its place in the market is another than was agreed to"),
    ({"what": "sell"}, "it knows no request 'sell': install the operator's version of ipfl"),
    ({"steps": 3}, "3 steps are asked for, agreed were 2"),
    ({"steps": -1}, "-1 steps are asked for, agreed were 2"),
    ({"part": PARTS_MAX}, "it is asked to train more than 2 times in round 0"),
    ({"part": -1}, "it is asked to train more than 2 times in round 0"),
    ({"start": "0" * 64}, "it does not have the model to go on from: send it"),
    ({"bills": 3}, "it cannot make anything of the request"),
    ({"what": None}, "it knows no request 'None'"),
    ({"sent_at": "now"}, "it cannot make anything of the request"),
    ({"sent_at": 10**400}, "it cannot make anything of the request"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[sentence[:30] for _, sentence in REFUSED])
def test_what_is_not_for_it_or_not_agreed_is_refused_and_nothing_is_trained(own, changes, sentence):
    node = joined(own)
    assert sentence in refusal(ask(own, node, "train", 0, **changes))
    assert own.said[ME][-1].startswith("refused: ")
    assert OwnDisk(own.home(ME)).kept() is None
    if "index" not in changes:
        assert ask(own, node, "train", 0).content["what"] == "trained"


@pytest.mark.parametrize(
    "name", ["to", "participant_id", "market", "sent_at", "deadline_s", "what", "bills", "part"]
)
def test_a_request_that_lacks_something_is_refused(own, name):
    content, arrays = request_of(own, "train", 0)
    node = joined(own)
    assert "it cannot make anything of the request" in refusal(
        put(own, node, {key: value for key, value in content.items() if key != name}, arrays)
    )
    assert OwnDisk(own.home(ME)).kept() is None


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.just(10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_whatever_the_operator_signs_has_an_answer(own):
    node, names = joined(own), [*request_of(own, "train", 0)[0]]
    kinds = {"train": request_of(own, "train", 0), "offer": request_of(own, "offer")}
    models, splits = {"models": 1, "alone": True, "splits": ["test"]}, {"params/0": np.zeros(3, np.float32)}
    kinds["evaluate"] = ({**kinds["train"][0], "what": "evaluate", **models}, splits)

    @settings(max_examples=60)
    @given(st.sampled_from(list(kinds)), st.sampled_from([*names, *models, "offer"]), ANYTHING)
    def tried(what, name, value):
        content, arrays = kinds[what]
        reply = put(own, node, {**content, name: value}, arrays)
        assert isinstance(reply.content["what"], str)

    tried()


@pytest.mark.parametrize("name", ["params", "centre", "direction"])
@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.zeros((2, 2), np.float32)])
def test_vectors_of_another_shape_train_nothing(own, name, wrong):
    content, arrays = request_of(own, "train", 0)
    arrays |= {name: wrong}
    content["start"] = array_digest(arrays["params"], arrays["buffers"])
    refusal(put(own, joined(own), content | {"pull": 0.5, "align": 0.5}, arrays))
    assert OwnDisk(own.home(ME)).kept() is None


# ---------------------------------------------------------------- what it agrees to


def test_nothing_is_done_for_a_market_that_it_has_not_agreed_to(own):
    node = again(own, consent=lambda offer, quote: False)
    reply = ask(own, node, "train", 0)
    assert refusal(reply) == "it has not agreed to take part yet"
    assert reply.content["lacks"] == "terms"
    assert ask(own, node, "offer").content["consents"] is False
    assert OwnDisk(own.home(ME)).market() is None
    assert not node.standing.registered


def test_an_offer_that_changes_while_it_is_thought_about_is_looked_at_anew(own):
    agreed = iter([False, True])
    node = again(own, consent=lambda offer, quote: next(agreed))
    assert ask(own, node, "offer").content["consents"] is False
    content, arrays = request_of(own, "offer")
    content["offer"] = {
        **content["offer"],
        "config": content["offer"]["config"].replace("steps = 2", "steps = 1"),
    }
    assert put(own, node, content | {"market": "f" * 64}, arrays).content["consents"] is True
    assert node.bench.config.training.steps == 1


def test_terms_that_name_other_rules_refuse_the_market_for_good(own):
    text = (own.folder / f"{ME}.toml").read_text()
    for agreed, sentence in (
        ("rounds = 7", "the market offers rounds = 3, but the terms agree to 7"),
        ('method = "fedavg"', "the market offers method = 'ipfl', but the terms agree to 'fedavg'"),
        ('model = "cnn"', "the market offers model = 'mlp', but the terms agree to 'cnn'"),
        ("lam = 0.06", "the market offers lam = 0.05, but the terms agree to 0.06"),
        ('allocation = "greedy"', "the market offers allocation = 'exact', but the terms agree to 'greedy'"),
        ('payment = "critical"', "the market offers payment = 'vcg', but the terms agree to 'critical'"),
        ("private = true", "the market offers private = False, but the terms agree to True"),
    ):
        path = own.folder / "other-terms.toml"
        path.write_text(f"{text}[market]\n{agreed}\n")
        node = again(own, terms=read_terms(path))
        assert refusal(ask(own, node, "offer")) == sentence
        assert node.standing.failed == sentence


def test_another_version_of_ipfl_is_refused_for_good(own):
    content, arrays = request_of(own, "offer")
    node = again(own)
    reply = put(own, node, content | {"offer": {**content["offer"], "ipfl": "0.0.1"}}, arrays)
    assert refusal(reply).startswith("the operator runs ipfl 0.0.1, this is ")
    assert node.standing.failed


def test_an_offer_that_changed_after_it_was_agreed_to_is_refused_for_good(own):
    joined(own)
    content, arrays = request_of(own, "offer")
    node = again(own)
    reply = put(own, node, content | {"offer": {**content["offer"], "members": 5}}, arrays)
    assert refusal(reply).startswith(
        "the market now offers other terms than were agreed to: look at them, and remove"
    )
    assert node.standing.failed


def test_a_start_or_a_model_that_is_not_the_operators_is_refused(own):
    content, arrays = request_of(own, "offer")
    reply = put(own, again(own), content | {"offer": {**content["offer"], "theta_0": "0" * 64}}, arrays)
    assert "starts from other numbers than 'mlp' does here" in refusal(reply)


def test_limits_stop_it_once_it_has_paid_so_much_and_never_before(own):
    bills = bills_of(own)
    paid = -receipt_of(bills[1]).balance / 1_000_000
    assert paid > 0, "this participant pays in this market"
    path = own.folder / "limited.toml"
    for limit, stops in ((paid - 0.01, True), (paid, False)):
        path.write_text(f"{(own.folder / f'{ME}.toml').read_text()}[limits]\npaid_total = {limit}\n")
        shutil.rmtree(own.home(ME), ignore_errors=True)
        node = joined(own, terms=read_terms(path))
        assert ask(own, node, "train", 0).content["what"] == "trained"
        reply = ask(own, node, "train", 2, bills=bills[:2])
        if stops:
            assert "credits more than it received; its terms stop at" in refusal(reply)
            assert node.standing.failed
        else:
            assert "send it" in refusal(reply)  # it goes on to the work itself
        assert reply.content["billed_until"] == 1


# ---------------------------------------------------------------- rounds are trained once


def trainings(monkeypatch):
    """The rounds that are really trained."""
    found, original = [], Workbench.train

    def train(self, round_index, *arguments):
        found.append(round_index)
        return original(self, round_index, *arguments)

    monkeypatch.setattr(Workbench, "train", train)
    return found


def same(one, other):
    assert one.content | {"answers": ""} == other.content | {"answers": ""}
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_a_round_asked_again_is_answered_from_the_disk_without_training(own, monkeypatch):
    done, node = trainings(monkeypatch), joined(own)
    first = ask(own, node, "train", 0)
    same(first, ask(own, node, "train", 0, sent_at=NOW - 5))
    same(first, ask(own, again(own), "train", 0))
    assert done == [0]


def test_the_round_before_is_answered_again_too_for_an_operator_that_lost_its_newest_state(own, monkeypatch):
    done, node = trainings(monkeypatch), joined(own)
    answers = [ask(own, node, "train", number) for number in (0, 1)]
    for number in (0, 1, 0):
        same(answers[number], ask(own, again(own), "train", number))
    same(ask(own, node, "train", 2), ask(own, again(own), "train", 2))
    same(answers[1], ask(own, again(own), "train", 1))
    assert done == [0, 1, 2]


def test_the_same_round_asked_otherwise_and_an_older_one_are_refused(own, monkeypatch):
    done, node = trainings(monkeypatch), joined(own)
    ask(own, node, "train", 0)
    assert (
        refusal(ask(own, node, "train", 0, pull=0.9))
        == "round 0 was trained here already, from another request"
    )
    ask(own, node, "train", 1)
    assert (
        refusal(ask(own, node, "train", 0, pull=0.9))
        == "round 0 was trained here already, from another request"
    )
    ask(own, node, "train", 2)
    assert refusal(ask(own, node, "train", 0)) == (
        "round 0 is over here: round 2 has been trained since, and is not undone"
    )
    assert refusal(ask(own, again(own), "train", 0)).startswith("round 0 is over here")
    assert done == [0, 1, 2]


def test_parts_of_a_round_are_trained_once_each_and_an_earlier_one_asked_again_has_the_same_answer(
    own, monkeypatch
):
    done, node = trainings(monkeypatch), joined(own)
    first = ask(own, node, "train", 0)
    second = ask(own, node, "train", 0, part=1, pull=0.5, arrays=pulled(own))
    assert (first.arrays["params"] != second.arrays["params"]).any()
    same(second, ask(own, again(own), "train", 0, part=1, pull=0.5, arrays=pulled(own)))
    assert done == [0, 0]
    same(first, ask(own, again(own), "train", 0))  # the operator was interrupted and begins the round again
    same(second, ask(own, again(own), "train", 0, part=1, pull=0.5, arrays=pulled(own)))
    assert refusal(ask(own, node, "train", 0, part=0, pull=0.1)) == (
        "round 0 was trained here already, from another request"
    )


def pulled(world):
    _, arrays = request_of(world, "train", 0)
    return arrays | {"centre": arrays["params"] + np.float32(0.1)}


def test_whoever_has_not_the_model_asks_for_it_and_goes_on_with_it(own):
    node = joined(own)
    reply = ask(
        own,
        node,
        "train",
        1,
        arrays={k: v for k, v in request_of(own, "train", 1)[1].items() if k == "centre"},
    )
    assert reply.content["lacks"] == "model"
    content, arrays = request_of(own, "train", 1)
    start = np.full_like(node.bench.initial[0], 0.01), node.bench.initial[1]
    content["start"] = array_digest(*start)
    trained = put(own, node, content, arrays | {"params": start[0], "buffers": start[1]})
    assert trained.content["what"] == "trained"


@pytest.mark.parametrize("point", range(1, 12))
def test_killed_at_any_point_of_a_round_it_comes_to_the_same_answer(own, point):
    straight = joined(own)
    bills = bills_of(own)[:1]
    expected = [ask(own, straight, "train", 0), ask(own, straight, "train", 1, bills=bills)]
    shutil.rmtree(own.home(ME))
    node, passed = joined(own), 0
    same(expected[0], ask(own, node, "train", 0))

    def kill(name):
        nonlocal passed
        passed += 1
        if passed == point:
            raise KilledError

    faults.arm(kill)
    try:
        ask(own, node, "train", 1, bills=bills)
    except KilledError:
        assert passed == point
    finally:
        faults.arm(None)
    faults.arm(None)
    same(expected[1], ask(own, again(own), "train", 1, bills=bills))
    assert [bill["round_index"] for bill in OwnDisk(own.home(ME)).bills] == [0]


def test_a_crash_between_training_and_keeping_trains_again_and_comes_to_the_same(own, monkeypatch):
    done, node = trainings(monkeypatch), joined(own)
    with monkeypatch.context() as broken:
        broken.setattr(OwnDisk, "keep", lambda self, kept: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            ask(own, node, "train", 0)
    first = ask(own, again(own), "train", 0)
    assert done == [0, 0]
    shutil.rmtree(own.home(ME))
    same(first, ask(own, joined(own), "train", 0))


def test_a_loss_that_is_no_number_is_told_as_none(own, monkeypatch):
    original = Workbench.train
    for loss in (float("inf"), float("nan"), float("-inf")):
        monkeypatch.setattr(Workbench, "train", lambda *a, loss=loss: replace(original(*a), loss=loss))
        shutil.rmtree(own.home(ME), ignore_errors=True)
        assert ask(own, joined(own), "train", 0).content["loss"] is None


def test_a_private_market_is_never_answered_with_a_model_without_noise(own):
    node = joined(own)
    node.bench.config = node.bench.config.model_copy(update={"privacy": PrivacyConfig()})
    assert refusal(ask(own, node, "train", 0, published=False)) == (
        "a model trained without noise is asked for, but training was agreed to be private"
    )


# ---------------------------------------------------------------- the yardstick


def judged_alone(reply):
    return reply.arrays["judged/accuracy"][1]


def test_the_yardstick_catches_up_after_an_absence_and_is_not_a_number_until_then(own, monkeypatch):
    node = joined(own)
    for round_index in range(ROUNDS):
        expected = ask(own, node, "train", round_index)
    whole = OwnDisk(own.home(ME)).kept()
    assert whole.alone_rounds == ROUNDS
    monkeypatch.setattr("ipfl.network.workbench.CATCH_UP", 1)
    shutil.rmtree(own.home(ME))
    node = joined(own)
    content, arrays = request_of(own, "train", 2)
    start = {"params": node.bench.initial[0], "buffers": node.bench.initial[1]}
    content["start"] = array_digest(*node.bench.initial)
    late = put(own, node, content, arrays | start)
    assert np.isnan(judged_alone(late)).all()
    assert not np.isnan(late.arrays["judged/accuracy"][0][:2]).any()
    kept = OwnDisk(own.home(ME)).kept()
    assert kept.alone_rounds == 1
    caught_up, done = node.bench.train_alone((kept.alone, kept.alone_buffers), 1, 1)
    caught_up, done = node.bench.train_alone(caught_up, done, 2)
    assert done == ROUNDS
    assert (caught_up[0] == whole.alone).all()
    assert not np.isnan(judged_alone(expected)[:2]).any()


# ---------------------------------------------------------------- bills


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
        node = joined(own)
        assert sentence in refusal(ask(own, node, "train", 2, bills=tampered))


def test_bills_known_already_change_nothing_however_often_they_come(own):
    node, bills = joined(own), bills_of(own)
    ask(own, node, "train", 0)
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
        joined(own),
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


# ---------------------------------------------------------------- its folder


def test_half_a_line_of_bills_was_never_acknowledged_and_is_cut_off(own):
    bills = bills_of(own)
    ask(own, joined(own), "settle", finished=False, bills=bills[:2])
    path = own.home(ME) / "bills.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"round_index": 2, "lin')
    node = again(own)
    assert path.read_bytes() == whole
    assert node.bills.until == 1
    assert ask(own, node, "settle", finished=False, bills=bills).content["billed_until"] == 2


def test_a_folder_that_is_damaged_is_told_and_not_gone_on_with(own):
    ask(own, joined(own), "train", 0)
    home = own.home(ME)
    (home / "bills.jsonl").write_text("{\n")
    with pytest.raises(RunFolderError, match="is damaged"):
        OwnDisk(home)
    (home / "bills.jsonl").unlink()
    state = (home / "state.safetensors").read_bytes()
    (home / "state.safetensors").write_bytes(state[:-9])
    assert "restore it, or remove it to begin from the start" in refusal(ask(own, again(own), "train", 1))
    (home / "market.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        OwnDisk(home).market()
    (home / "file").write_text("")
    with pytest.raises(RunFolderError, match="give another --home"):
        OwnDisk(home / "file")


def test_the_secret_is_made_once_and_read_by_its_owner_alone(own):
    disk = OwnDisk(own.home(ME))
    seed = disk.noise_seed()
    assert OwnDisk(own.home(ME)).noise_seed() == seed
    assert (own.home(ME) / "noise.key").stat().st_mode & 0o777 == 0o600
    assert own.home(ME).stat().st_mode & 0o077 == 0


def test_a_home_that_is_lost_is_made_anew_with_all_bills(own):
    node, bills = joined(own), bills_of(own)
    ask(own, node, "train", 0)
    ask(own, node, "train", 1, bills=bills[:1])
    shutil.rmtree(own.home(ME))
    node = again(own)
    reply = ask(own, node, "train", 2, bills=bills[1:2])
    assert reply.content["lacks"] == "terms"
    assert reply.content["billed_until"] == -1  # so the operator sends them all
    assert ask(own, node, "offer").content["consents"] is True
    assert ask(own, node, "settle", finished=False, bills=bills).content["billed_until"] == 2


def test_at_the_end_it_has_its_model_and_statement_and_receipts(own):
    node, bills = joined(own), bills_of(own)
    ask(own, node, "train", 0)
    assert ask(own, node, "settle", finished=True, bills=bills).content["what"] == "settled"
    assert node.standing.finished
    home = own.home(ME)
    assert {"model.safetensors", "statement.csv", "receipts.jsonl", "summary.json"} <= {
        p.name for p in home.iterdir()
    }
    summary = json.loads((home / "summary.json").read_text())
    assert summary["balance"] == receipt_of(bills[-1]).balance / 1_000_000
    assert summary["rounds"] == ROUNDS
    assert len((home / "receipts.jsonl").read_text().splitlines()) == ROUNDS
    rows = (home / "statement.csv").read_text().splitlines()[1:]
    assert len(rows) == sum(len(bill["lines"]) for bill in bills)


def test_judging_says_of_the_yardstick_only_what_it_has(own):
    node = joined(own)
    ask(own, node, "train", 0)
    kept = OwnDisk(own.home(ME)).kept()
    content, _ = request_of(own, "train", 0)
    models = {"params/0": kept.params, "buffers/0": kept.buffers}
    told = content | {"what": "evaluate", "models": 1, "splits": ["test"], "alone": True}
    reply = put(own, node, told, models)
    assert reply.arrays["judged/accuracy"].shape == (2, 1)
    assert not np.isnan(reply.arrays["judged/accuracy"]).any()
    later = put(own, node, told | {"round_index": 1}, models)
    assert np.isnan(later.arrays["judged/accuracy"]).tolist() == [[False], [True]]

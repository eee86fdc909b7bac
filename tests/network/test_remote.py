"""The remote engine by itself: what it refuses and in which words, what it sends, and that it is an engine."""

import hashlib
import hmac
import json

import numpy as np
import pytest

from ipfl.data.exams import SPLITS
from ipfl.engines import Engine
from ipfl.engines.exchange import Member, Registration, Transport
from ipfl.engines.messages import REPLY, REQUEST, opened, sealed
from ipfl.engines.remote import NEW_BID, NOT_ONLINE, NOT_REGISTERED, Bills, RemoteEngine
from ipfl.engines.replies import REASON_MAX
from ipfl.errors import InvariantError, ReplyError
from ipfl.experiment.setup import set_up
from ipfl.ledger import operator_key
from ipfl.network.hosting import Hosting
from ipfl.types import EvaluateJob, EvaluateReply, MissingReply, TrainJob, TrainReply
from network.markets import World, connected

THETA, BUFFERS = np.arange(6, dtype=np.float32), np.zeros(2, np.float32)
BID = Registration(40, 500.0, 0.1, None, 0.5, 40, True).to_json()
MARKET = "m" * 64


def signer(name):
    return lambda data: hmac.digest(name.encode(), data, "sha256")


def verifier(name):
    return lambda signature, data: hmac.compare_digest(signature, signer(name)(data))


class Stub:
    """A participant that answers as it is told to: `change` alters what it says, `spoil` the signed bytes."""

    def __init__(self, name):
        self.name, self.fingerprint = name, hashlib.sha256(name.encode()).hexdigest()
        self.asked, self.bid, self.billed_until = [], dict(BID), -1
        self.change = self.spoil = None
        self.signs = name

    @property
    def member(self):
        return Member(self.name, self.fingerprint, verifier(self.name))

    def answer(self, message):
        request = opened(REQUEST, message, verifier("operator"), 1 << 30)
        self.asked.append(request)
        content = {
            "from": self.fingerprint,
            "participant_id": self.name,
            "market": MARKET,
            "answers": request.digest,
            "billed_until": self.billed_until,
        }
        arrays = {}
        told = request.content
        if told["what"] == "offer":
            content |= {"what": "registration", "registration": self.bid, "consents": True}
        elif told["what"] == "train":
            content |= {"what": "trained", "registration": self.bid, "loss": 0.5}
            start = request.arrays.get("params", THETA)
            arrays = {"params": start + np.float32(1), "buffers": BUFFERS + np.float32(told["round_index"])}
            arrays |= verdict(2, len(told["judge"])) if told["judge"] else {}
        elif told["what"] == "evaluate":
            content |= {"what": "judged"}
            arrays = verdict(told["models"] + told["alone"], len(told["splits"]))
        else:
            content |= {"what": "settled"}
        if self.change:
            self.change(content, arrays)
        reply = sealed(REPLY, content, arrays, signer(self.signs))
        return self.spoil(reply) if self.spoil else reply


def verdict(models, splits):
    shape = (models, splits)
    return {"judged/loss": np.full(shape, 0.7), "judged/accuracy": np.full(shape, 0.9)}


class Wire:
    """Carries to stubs; `silent` are asked and say nothing, `gone` cannot be reached."""

    def __init__(self, stubs):
        self.stubs = {stub.fingerprint: stub for stub in stubs}
        self.silent, self.gone, self.exchanges = set(), set(), []

    def online(self):
        return {f for f, stub in self.stubs.items() if stub.name not in self.gone}

    def exchange(self, messages, deadline_s, on_reply=None):
        self.exchanges.append((sorted(self.stubs[f].name for f in messages), deadline_s))
        replies = {}
        for fingerprint, message in messages.items():
            if self.stubs[fingerprint].name not in self.silent:
                replies[fingerprint] = self.stubs[fingerprint].answer(message)
                if on_reply:
                    on_reply(fingerprint, replies[fingerprint])
        return replies, dict.fromkeys(messages.keys() - replies, "did not answer in time")


def market(names="abc", registered=True, **kw):
    """Stubs, their wire, an engine, and what it logs."""
    stubs, log = [Stub(name) for name in names], []
    wire = Wire(stubs)
    engine = RemoteEngine(
        [stub.member for stub in stubs],
        wire,
        signer("operator"),
        MARKET,
        {"rules": "as they are"},
        THETA,
        BUFFERS,
        deadline_s=30.0,
        splits=SPLITS,
        log=log.append,
        **kw,
    )
    if registered:
        engine.register()
    return stubs, wire, engine, log


def jobs(engine, round_index=0, start=None, **kw):
    params, buffers = engine.initial()
    start = {} if start is None else start
    return [
        TrainJob(index, round_index, *start.get(index, (params, buffers)), **kw)
        for index in range(len(engine.members))
    ]


def held(replies):
    return {reply.participant: (reply.params, reply.buffers) for reply in replies}


# ---------------------------------------------------------------- what is refused


def say(**told):
    return lambda content, arrays: content.update(told)


def send(**sent):
    return lambda content, arrays: arrays.update(
        {name.replace("_", "/"): each for name, each in sent.items()}
    )


def bid(**told):
    return lambda content, arrays: content.update(registration={**BID, **told})


def lacking(name):
    return lambda content, arrays: arrays.pop(name)


NAN = np.full(6, np.nan, np.float32)
WRONG = [
    (say(market="another"), "its reply is refused: it belongs to another market"),
    (say(participant_id="b"), "its reply is refused: it is in the name of 'b'"),
    (say(**{"from": "0" * 64}), "its reply is refused: it is in the name of 'a'"),
    (say(answers="0" * 64), "its reply is refused: it answers another request: it is late, or was sent again"),
    (say(answers=["x"]), "its reply is refused: it answers another request: it is late, or was sent again"),
    (say(what="refusal", reason="no power"), "it refuses: no power"),
    (say(what="refusal", reason="two\nlines\x1b[2J"), "it refuses: two?lines?[2J"),
    (say(what="refusal", reason=None), "it refuses: None"),
    (lacking("params"), "its model is missing, expected 6 of type float32"),
    (lacking("buffers"), "its buffers is missing, expected 2 of type float32"),
    (send(params=THETA[:5]), "its model has 5 numbers of type float32, expected 6 of type float32"),
    (send(params=THETA.astype(np.float64)), "its model has 6 numbers of type float64, expected 6 of type float32"),
    (send(params=THETA[None]), "its model has 6 numbers of type float32, expected 6 of type float32"),
    (send(buffers=THETA), "its buffers has 6 numbers of type float32, expected 2 of type float32"),
    (say(loss="low"), "its loss is 'low', expected a finite number with a decimal point, or none"),
    (say(loss=10**400), "expected a finite number with a decimal point, or none"),
    (say(loss=True), "its loss is True, expected a finite number with a decimal point, or none"),
    (lacking("judged/loss"), "loss of its models is not 2 by 3 numbers"),
    (send(judged_accuracy=np.ones((1, 3))), "accuracy of its models is not 2 by 3 numbers"),
    (send(judged_loss=np.ones((2, 3), np.float32)), "loss of its models is not 2 by 3 numbers"),
    (send(judged_accuracy=np.full((2, 3), 1.5)), "an accuracy of its models is not between 0 and 1"),
    (send(judged_choice=np.ones((3, 3))), "choice of its models is not 2 by 3 numbers"),
    (say(registration=None), "its bid does not have the fields num_examples, valuation, export_cost, gain_curve"),
    (say(registration={**BID, "more": 1}), "its bid does not have the fields num_examples"),
    (bid(num_examples=0), "num_examples in its bid is 0, expected a whole number from 1"),
    (bid(num_examples=2.0), "num_examples in its bid is 2.0, expected a whole number from 1"),
    (bid(num_examples=True), "num_examples in its bid is True, expected a whole number from 1"),
    (bid(num_examples=10**13), "num_examples in its bid is 10000000000000, expected a whole number from 1"),
    (bid(guess_count="many"), "guess_count in its bid is 'many', expected a whole number from 1"),
    (bid(valuation=-1.0), "valuation in its bid is -1.0, expected a number from 0 to 1e+15"),
    (bid(valuation=10**400), "expected a number from 0 to 1e+15"),
    (bid(export_cost="free"), "export_cost in its bid is 'free', expected a number from 0 to 1e+15"),
    (bid(guess_rate=1.5), "guess_rate in its bid is 1.5, expected a number from 0 to 1"),
    (bid(gain_curve=3), "gain_curve or own_validation in its bid is neither text nor truth value"),
    (bid(own_validation=1), "gain_curve or own_validation in its bid is neither text nor truth value"),
    (bid(gain_curve="square"), "gain_curve in its bid is none: gain curve 'square' is unknown, expected one of"),
    (bid(valuation=501.0), NEW_BID),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=[sentence[-40:] for _, sentence in WRONG])
def test_a_reply_that_is_not_what_it_should_be_is_refused_in_words_and_the_others_are_not(change, sentence):
    (a, *_), _, engine, log = market()
    a.change = change
    first, *others = engine.run(jobs(engine))
    assert isinstance(first, MissingReply)
    assert sentence in first.reason
    assert len(first.reason) <= REASON_MAX + len("its reply is refused: ")
    assert log == [f"a: {first.reason}"]
    assert [type(reply) for reply in others] == [TrainReply, TrainReply]


def not_json(reply):
    return sealed_anew(reply, lambda text: b"[" + text[1:])


def sealed_anew(reply, alter):
    """The reply's body altered and signed as it should be."""
    start = 17 + int.from_bytes(reply[15:17], "big")
    body = alter(reply[start:])
    signature = signer("a")(REPLY + hashlib.sha256(body).digest())
    return reply[:15] + len(signature).to_bytes(2, "big") + signature + body


def with_text(reply, text):
    """The reply with any text at all for its content, signed as it should be."""
    header = json.dumps({"__metadata__": {"content": text}}).encode()
    return sealed_anew(reply, lambda body: len(header).to_bytes(8, "little") + header)


SPOILT = [
    (lambda reply: reply + bytes(17 << 20), "bytes, expected at most"),
    (lambda reply: b"", "it is no message of ipfl's, or of another version"),
    (lambda reply: reply[:16], "it is no message of ipfl's, or of another version"),
    (lambda reply: b"ipfl message 2\n" + reply[15:], "it is no message of ipfl's, or of another version"),
    (
        lambda reply: reply[:15] + b"\0\0" + reply[17:],
        "it is not signed by the key that it should be signed by",
    ),
    (lambda reply: reply[:-1], "it is not signed by the key that it should be signed by"),
    (lambda reply: reply[:60] + b"!" + reply[61:], "it is not signed by the key that it should be signed by"),
    (lambda reply: sealed_anew(reply, lambda body: body[:-5]), "it cannot be read: it is damaged"),
    (lambda reply: sealed_anew(reply, lambda body: b""), "it cannot be read: it is damaged"),
    (lambda reply: sealed_anew(reply, lambda body: b"PK" + body[2:]), "it cannot be read: it is"),
    (lambda reply: with_text(reply, "[1]"), "it cannot be read: its text is no JSON object"),
    (lambda reply: with_text(reply, "{"), "it cannot be read: "),
    (lambda reply: with_text(reply, "[" * 100_000), "it cannot be read: "),
    (lambda reply: with_text(reply, '{"answers": ' + "9" * 10_000 + "}"), "it cannot be read: "),
]


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT)
def test_bytes_that_are_no_reply_are_refused(spoil, sentence):
    (a, *_), _, engine, _ = market()
    a.spoil = spoil
    first = engine.run(jobs(engine))[0]
    assert isinstance(first, MissingReply)
    assert first.reason.startswith("its reply is refused: ")
    assert sentence in first.reason


@pytest.mark.parametrize("depth", [300, 700, 900, 960, 980, 990, 1000, 5000])
@pytest.mark.parametrize("name", ["participant_id", "reason", "registration", "loss", "billed_until", "what"])
def test_nothing_nested_however_deeply_stops_the_operator(depth, name):
    (a, *_), _, engine, _ = market()

    def spoil(reply):
        told = opened(REPLY, reply, verifier("a"), 1 << 30).content
        told |= {"what": "refusal"} if name == "reason" else {}
        text = json.dumps(told | {name: "here"}).replace('"here"', "[" * depth + "]" * depth)
        return with_text(reply, text)

    a.spoil = spoil
    assert isinstance(engine.run(jobs(engine))[0], MissingReply)


def test_a_signature_of_another_key_or_for_another_kind_of_message_is_refused():
    (a, b, _), _, engine, _ = market()
    a.signs = "b"
    b.spoil = lambda reply: sealed(REQUEST, {}, {}, signer("b"))
    reasons = [reply.reason for reply in engine.run(jobs(engine))[:2]]
    assert reasons == ["its reply is refused: it is not signed by the key that it should be signed by"] * 2


def test_a_reply_of_an_earlier_request_is_refused_each_time_it_is_sent():
    (a, *_), _, engine, _ = market()
    old = []
    a.spoil = lambda reply: old.append(reply) or reply
    engine.run(jobs(engine))
    a.spoil = lambda reply: old[0]
    for round_index in (1, 2):
        assert "it answers another request" in engine.run(jobs(engine, round_index))[0].reason


def test_numbers_that_are_not_finite_are_left_to_the_method():
    (a, *_), _, engine, log = market()
    a.change = send(params=NAN)
    first = engine.run(jobs(engine))[0]
    assert isinstance(first, TrainReply)
    assert np.isnan(first.params).all()
    assert log == []


def test_no_loss_is_a_loss_that_is_not_known():
    (a, *_), _, engine, _ = market()
    a.change = say(loss=None)
    assert np.isnan(engine.run(jobs(engine))[0].loss)


# ---------------------------------------------------------------- what is sent, and when


def test_a_round_costs_one_exchange_and_what_was_judged_in_it_is_not_asked_again():
    _, wire, engine, _ = market()
    before = engine.exchanges
    replies = engine.run(jobs(engine))
    evaluate = [EvaluateJob(r.participant, [r.params], [r.buffers], SPLITS, alone=True) for r in replies]
    judged = engine.run(evaluate)
    assert engine.exchanges == before + 1
    assert wire.exchanges[-1] == (["a", "b", "c"], 30.0)
    assert [reply.accuracy.tolist() for reply in judged] == [[[0.9] * 3] * 2] * 3


def test_other_models_and_other_splits_are_asked_for():
    (a, *_), _, engine, _ = market()
    replies = engine.run(jobs(engine))
    before = engine.exchanges
    first = replies[0]
    for job in (
        EvaluateJob(0, [first.params + 1], [first.buffers], SPLITS, alone=True),
        EvaluateJob(0, [first.params], [first.buffers], SPLITS),
        EvaluateJob(0, [first.params], [first.buffers], ("test",), alone=True),
        EvaluateJob(0, [first.params] * 2, [first.buffers] * 2, SPLITS, alone=True),
    ):
        (reply,) = engine.run([job])
        assert isinstance(reply, EvaluateReply)
        assert reply.loss.shape == (len(job.params) + job.alone, len(job.splits))
        assert a.asked[-1].content["splits"] == list(job.splits)
    assert engine.exchanges == before + 4


def test_rounds_that_are_not_judged_ask_for_no_judgement():
    (a, *_), _, engine, _ = market(judged=lambda round_index: round_index == 1)
    for round_index in (0, 1):
        assert isinstance(engine.run(jobs(engine, round_index))[0], TrainReply)
        assert a.asked[-1].content["judge"] == (list(SPLITS) if round_index else [])


def test_a_model_that_the_participant_has_is_not_sent_and_any_other_is():
    (a, *_), wire, engine, _ = market()
    first = held(engine.run(jobs(engine)))
    assert a.asked[-1].arrays.keys() == {"params", "buffers"}  # nobody knows what a new participant has
    second = held(engine.run(jobs(engine, 1, first)))
    assert a.asked[-1].arrays.keys() == set()
    second[0] = (second[0][0] + np.float32(1), second[0][1])
    third = held(engine.run(jobs(engine, 2, second)))
    assert a.asked[-1].arrays.keys() == {"params", "buffers"}
    wire.silent = {"a"}  # it may have trained all the same, and have another model now
    engine.run(jobs(engine, 3, third))
    wire.silent = set()
    engine.run(jobs(engine, 4, third))
    assert a.asked[-1].arrays.keys() == {"params", "buffers"}


def test_one_that_lacks_the_model_is_sent_it_the_next_time():
    (a, *_), _, engine, _ = market()
    first = held(engine.run(jobs(engine)))
    a.change = say(what="refusal", reason="send it", lacks="model")
    assert "send it" in engine.run(jobs(engine, 1, first))[0].reason
    a.change = None
    assert isinstance(engine.run(jobs(engine, 2, first))[0], TrainReply)
    assert a.asked[-1].arrays.keys() == {"params", "buffers"}


def test_one_that_lacks_the_terms_registers_anew():
    (a, *_), _, engine, _ = market()
    a.change = say(what="refusal", reason="who are you", lacks="terms")
    assert "who are you" in engine.run(jobs(engine))[0].reason
    a.change, a.bid = None, {**BID, "num_examples": 77}
    assert engine.run(jobs(engine, 1))[0].reason == NOT_REGISTERED
    engine.register()
    assert engine.num_examples.tolist() == [77, 40, 40]
    assert isinstance(engine.run(jobs(engine, 2))[0], TrainReply)


def test_a_bid_that_changes_counts_from_the_next_round():
    (a, *_), _, engine, _ = market()
    a.bid = {**BID, "valuation": 900.0}
    assert engine.run(jobs(engine))[0].reason == NEW_BID
    assert engine.registrations[0].valuation == 900.0
    assert isinstance(engine.run(jobs(engine, 1))[0], TrainReply)


def test_what_pulls_and_what_is_followed_is_sent_and_the_parts_of_a_round_are_numbered():
    (a, *_), _, engine, _ = market()
    engine.run(jobs(engine, 0, centre=THETA + 1, pull=0.5))
    engine.run(jobs(engine, 0, direction=THETA + 2, align=0.25, steps=3, published=False))
    engine.run(jobs(engine, 1))
    one, two, three = a.asked[-3:]
    assert (one.arrays["centre"] == THETA + 1).all()
    assert (two.arrays["direction"] == THETA + 2).all()
    told = ("round_index", "part", "pull", "align", "steps", "published")
    assert [[each.content[name] for name in told] for each in (one, two, three)] == [
        [0, 0, 0.5, 0.0, None, True],
        [0, 1, 0.0, 0.25, 3, False],
        [1, 0, 0.0, 0.0, None, True],
    ]


def test_every_message_says_whom_it_is_for_when_it_was_sent_and_until_when():
    (a, *_), _, engine, _ = market(clock=lambda: 1234.5)
    engine.run(jobs(engine))
    told = a.asked[-1].content
    common = {"market", "to", "participant_id", "index", "participants", "sent_at", "deadline_s", "bills"}
    assert common <= told.keys()
    assert (told["to"], told["participant_id"], told["index"]) == (a.fingerprint, "a", 0)
    assert (told["participants"], told["sent_at"], told["deadline_s"]) == (3, 1234.5, 30.0)


def test_bills_are_sent_until_they_are_acknowledged():
    told = []

    def bills(index, after):
        told.append((index, after))
        return Bills([{"round_index": number} for number in range(after + 1, 3)])

    (a, *_), _, engine, _ = market(bills=bills)
    assert a.asked[0].content["bills"] == []  # whoever has not registered has none
    engine.run(jobs(engine))
    assert [bill["round_index"] for bill in a.asked[-1].content["bills"]] == [0, 1, 2]
    a.billed_until = 1
    engine.run(jobs(engine, 1))
    engine.settle(finished=True)
    assert [bill["round_index"] for bill in a.asked[-1].content["bills"]] == [2]
    assert a.asked[-1].content["finished"] is True
    assert engine.billed_until == [1, -1, -1]


def test_bills_that_do_not_fit_come_later_and_nobody_is_told_the_end_before():
    def bills(index, after):
        left = [{"round_index": number} for number in range(after + 1, 3)]
        return Bills(left[:1], more=len(left) > 1)

    (a, *_), _, engine, _ = market(bills=bills)
    engine.run(jobs(engine))
    for number, finished in ((1, False), (2, True)):
        a.billed_until = number - 1
        engine.run(jobs(engine, number))  # acknowledges the bill before
        engine.settle(finished=True)
        assert [bill["round_index"] for bill in a.asked[-1].content["bills"]] == [number]
        assert a.asked[-1].content["finished"] is finished
    asked = len(a.asked)
    engine.settle(finished=True)
    assert len(a.asked) == asked


@pytest.mark.parametrize("billed", [-2, True, 1.0, "3", None, [2]])
def test_an_acknowledgement_that_is_none_is_passed_over(billed):
    (a, *_), _, engine, _ = market()
    a.billed_until = billed
    engine.run(jobs(engine))
    assert engine.billed_until[0] == -1


def test_a_refusal_acknowledges_bills_too():
    (a, *_), _, engine, _ = market()
    a.billed_until, a.change = 4, say(what="refusal", reason="not today")
    engine.run(jobs(engine))
    assert engine.billed_until[0] == 4


def test_whoever_cannot_be_reached_or_is_silent_is_left_out():
    _, wire, engine, log = market()
    wire.gone, wire.silent = {"a"}, {"b"}
    replies = engine.run(jobs(engine))
    assert [getattr(reply, "reason", None) for reply in replies] == [
        NOT_ONLINE,
        "did not answer in time",
        None,
    ]
    assert log == ["b: did not answer in time"]
    evaluate = [EvaluateJob(i, [THETA], [BUFFERS], SPLITS, alone=True) for i in range(3)]
    asked = engine.exchanges
    assert [reply.reason for reply in engine.run(evaluate)[:2]] == ["it did not answer this round"] * 2
    assert engine.exchanges == asked + 1


def test_nobody_is_asked_before_it_has_registered():
    stubs, wire, engine, _ = market(registered=False)
    assert [reply.reason for reply in engine.run(jobs(engine))] == [NOT_REGISTERED] * 3
    engine.settle(finished=False)
    assert engine.exchanges == 0
    assert engine.num_examples.tolist() == [1, 1, 1]
    wire.gone = {"c"}
    stubs[1].change = say(consents=False)
    engine.register()
    assert [known is not None for known in engine.registrations] == [True, False, False]
    assert [known is not None for known in engine.known_bids] == [True, True, False]
    stubs[1].change = None
    engine.register()
    assert [len(stub.asked) for stub in stubs] == [1, 2, 0]
    assert engine.num_examples.tolist() == [40, 40, 1]


def test_one_that_thinks_about_it_is_told_a_quote():
    (a, *_), _, engine, _ = market(registered=False, quote=lambda index, asking: {"paid": asking.valuation})
    a.change = say(consents=False)
    engine.register()
    engine.register()
    assert [asked.content["quote"] for asked in a.asked] == [None, {"paid": 500.0}]


def test_a_registration_that_is_none_is_refused_and_asked_for_again():
    (a, *_), _, engine, log = market(registered=False)
    a.change = say(what="something")
    engine.register()
    assert log == ["a: its reply is no registration"]
    a.change = bid(num_examples=-3)
    engine.register()
    assert log[1:] == ["a: num_examples in its bid is -3, expected a whole number from 1"]
    a.change = None
    engine.register()
    assert engine.num_examples.tolist() == [40, 40, 40]


def test_progress_ends_with_all_of_them_and_never_goes_back():
    _, wire, engine, _ = market()
    wire.silent, seen = {"b"}, []
    engine.run(jobs(engine), lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {3}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (3, 3)


def test_it_is_an_engine_and_asks_for_what_no_engine_does_at_once_in_no_case():
    _, wire, engine, _ = market()
    assert isinstance(engine, Engine)
    assert isinstance(wire, Transport)
    assert engine.keeps_alone
    assert engine.run([]) == []
    with pytest.raises(InvariantError, match="one job at a time"):
        engine.run([*jobs(engine), jobs(engine)[0]])
    with pytest.raises(InvariantError, match="in the same round"):
        engine.run([jobs(engine, 0)[0], jobs(engine, 1)[1]])


# ---------------------------------------------------------------- the laws of every engine


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("market"), rounds=9, steps=3)


def remote_engine(world, homes):
    world.homes = homes
    key = operator_key(world.folder / "keys" / "operator.key")
    engine = Hosting.of(world.market, connected(world), key, lambda event: None, world.refused.append).engine
    engine.register()
    return engine


def everything(engine, order=range(4), remote=False):
    """Rounds of every kind of training, and judgement of two models on every split, as bytes by participant."""
    found, (params, buffers) = {}, engine.initial()
    kinds = [
        {},
        {"centre": params + np.float32(0.1), "pull": 0.4},
        {"direction": params - np.float32(0.2), "align": 0.3},
        {"steps": 0},
        {"steps": 2},
    ]
    held = dict.fromkeys(range(4), (params, buffers))
    for round_index, kind in enumerate(kinds):
        replies = engine.run([TrainJob(index, round_index, *held[index], **kind) for index in order])
        assert [reply.participant for reply in replies] == list(order)
        for reply in replies:
            held[reply.participant] = reply.params, reply.buffers
            own = reply.params.tobytes(), reply.buffers.tobytes(), repr(reply.loss)
            found[round_index, reply.participant] = own
    judged = [EvaluateJob(i, [params, held[i][0]], [buffers, held[i][1]], SPLITS) for i in order]
    for reply in engine.run(judged):
        found["judged", reply.participant] = reply.loss.tobytes(), reply.accuracy.tobytes()
    return found


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0), (2,)])
def test_jobs_have_the_replies_that_they_have_in_one_process_in_any_order_and_company(world, order):
    here = set_up(world.config_in_process()).engine
    expected = everything(here)
    some = everything(remote_engine(world, f"homes-{order}"), order)
    assert some.items() <= expected.items()
    assert {who for _, who in some} == set(order)


def test_it_knows_how_many_examples_there_are_and_gives_copies_of_the_start(world):
    here, there = set_up(world.config_in_process()).engine, remote_engine(world, "homes-counts")
    assert there.num_examples.tolist() == here.num_examples.tolist()
    for one, other in zip(there.initial(), here.initial(), strict=True):
        assert (one == other).all()
        one += 1
    assert (there.initial()[0] == here.initial()[0]).all()


def test_jobs_are_left_as_they_were(world):
    engine = remote_engine(world, "homes-left")
    params, buffers = engine.initial()
    job = TrainJob(0, 0, params, buffers, params + 1, 0.5, params - 1, 0.5)
    copies = [array.copy() for array in (job.params, job.buffers, job.centre, job.direction)]
    engine.run([job])
    for array, copied in zip((job.params, job.buffers, job.centre, job.direction), copies, strict=True):
        assert (array == copied).all()


def test_a_message_changed_by_a_bit_anywhere_is_refused():
    message = sealed(REPLY, {"a": 1}, {"x": THETA}, signer("a"))
    assert opened(REPLY, message, verifier("a"), 1000).content == {"a": 1}
    for place in range(len(message)):
        changed = bytearray(message)
        changed[place] ^= 1 << place % 8
        with pytest.raises(ReplyError):
            opened(REPLY, bytes(changed), verifier("a"), 1000)

"""What a reply has to be: what is refused, in which words, and what is left to the method."""

import hashlib
import json

import numpy as np
import pytest

from ipfl.engines.messages import REPLY, REQUEST, opened, sealed
from ipfl.engines.remote import NEW_BID
from ipfl.engines.replies import REASON_MAX
from ipfl.errors import ReplyError
from ipfl.types import MissingReply, TrainReply
from network.stubs import BID, THETA, bid, jobs, market, say, signer, verifier


def send(**sent):
    return lambda content, arrays: arrays.update(
        {name.replace("_", "/"): each for name, each in sent.items()}
    )


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


def test_a_message_changed_by_a_bit_anywhere_is_refused():
    message = sealed(REPLY, {"a": 1}, {"x": THETA}, signer("a"))
    assert opened(REPLY, message, verifier("a"), 1000).content == {"a": 1}
    for place in range(len(message)):
        changed = bytearray(message)
        changed[place] ^= 1 << place % 8
        with pytest.raises(ReplyError):
            opened(REPLY, bytes(changed), verifier("a"), 1000)

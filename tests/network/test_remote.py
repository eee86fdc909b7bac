"""The remote engine by itself: whom it asks, when, and that it is an engine."""

import numpy as np
import pytest

from ipfl.data.exams import SPLITS
from ipfl.engines import Engine
from ipfl.engines.exchange import Transport
from ipfl.engines.remote import NEW_BID, NOT_ONLINE, NOT_REGISTERED, Bills
from ipfl.errors import InvariantError
from ipfl.experiment.setup import set_up
from ipfl.ledger import operator_key
from ipfl.network.exam_rules import ExamRules
from ipfl.network.hosting import Hosting
from ipfl.types import EvaluateJob, TrainJob, TrainReply
from network.markets import World, connected
from network.stubs import BID, BUFFERS, THETA, bid, jobs, market, say

# ---------------------------------------------------------------- who is asked, and when


def test_a_round_costs_one_exchange_and_what_was_judged_in_it_is_not_asked_again():
    _, wire, engine, _ = market()
    before = engine.exchanges
    replies = engine.run(jobs(engine))
    evaluate = [EvaluateJob(r.participant, [r.params], [r.buffers], SPLITS, alone=True) for r in replies]
    judged = engine.run(evaluate)
    assert engine.exchanges == before + 1
    assert wire.exchanges[-1] == (["a", "b", "c"], 30.0)
    assert [reply.accuracy.tolist() for reply in judged] == [[[0.9] * 3] * 2] * 3


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


def everything(engine, order=range(4)):
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
def test_jobs_have_the_replies_that_they_have_in_one_process_in_any_order_and_company(
    world, order, monkeypatch
):
    monkeypatch.setattr(
        ExamRules, "check", lambda *exam: None
    )  # of exams that no method of the market's needs
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

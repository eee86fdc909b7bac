"""What is sent with a request: the models and vectors that the participant lacks, and what it is to judge."""

import numpy as np

from ipfl.data.exams import SPLITS
from ipfl.types import EvaluateJob, EvaluateReply, TrainReply
from network.stubs import THETA, held, jobs, market, say


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

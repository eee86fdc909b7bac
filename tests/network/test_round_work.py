"""A participant's rounds: each is trained once and answered as often as it is asked, also through a crash."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from ipfl import faults
from ipfl.config import PrivacyConfig
from ipfl.data.exams import SPLITS
from ipfl.engines.messages import array_digest
from ipfl.network.own_disk import OwnDisk
from ipfl.network.workbench import Workbench
from network.asking import ME, NOW, ROUNDS, again, ask, bills_of, joined, put, refusal, request_of, trainings
from network.faulty import KilledError

# ---------------------------------------------------------------- rounds are trained once


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


def test_judging_says_of_the_yardstick_only_what_it_has(own):
    node = joined(own)
    ask(own, node, "train", 0)
    kept = OwnDisk(own.home(ME)).kept()
    content, _ = request_of(own, "train", 0)
    told = content | {"what": "evaluate", "models": 0, "splits": list(SPLITS), "alone": True}
    reply = put(own, node, told, {})
    assert reply.arrays["judged/accuracy"].shape == (1, 3)
    assert np.isfinite(reply.arrays["judged/accuracy"][:, :2]).all()
    OwnDisk(own.home(ME)).keep(replace(kept, alone_rounds=0))
    later = put(own, again(own), told, {})
    assert np.isnan(later.arrays["judged/accuracy"]).all()

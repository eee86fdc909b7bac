"""An operator that asks for more than was agreed: each of these once worked, and is refused."""

import numpy as np
import pytest

from ipfl.config import PrivacyConfig
from ipfl.data.exams import SPLITS, TRIAL
from ipfl.network.exam_rules import TIMES_MAX, ExamRules
from ipfl.network.own_disk import OwnDisk
from ipfl.network.refused import RefusedError
from ipfl.network.terms import read_terms
from network.asking import (
    ME,
    ROUNDS,
    ask,
    bills_of,
    joined,
    put,
    refusal,
    request_of,
    through,
    without_its_model,
)
from network.test_own_bills import bought, signed

# ---------------------------------------------------------------- work


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"round_index": ROUNDS}, f"round {ROUNDS} is asked for, but the market was agreed to have {ROUNDS}"),
        ({"round_index": -1}, "round -1 is asked for"),
        ({"pull": -0.1}, "a pull of -0.1 and"),
        ({"align": -2.0}, "and -2.0 is asked for"),
    ],
)
def test_work_that_no_round_has_is_refused(own, changes, sentence):
    content, arrays = request_of(own, "train", 0)
    assert sentence in refusal(put(own, joined(own), content | changes, arrays))


def test_the_round_before_is_answered_again_and_not_taken_up(own):
    node = through(own, 2)
    assert refusal(ask(own, node, "train", 0, part=1)) == (
        "round 0 is over here: round 1 has been trained since, and is not undone"
    )
    assert OwnDisk(own.home(ME)).kept().round_index == 1


def test_no_more_privacy_is_spent_than_was_agreed_whatever_the_operator_counts(own):
    node = joined(own)
    privacy = PrivacyConfig(noise_multiplier=1.0, epsilon_max=50.0)
    node.bench.config = node.bench.config.model_copy(update={"privacy": privacy})
    assert ask(own, node, "train", 0).content["what"] == "trained"
    assert ask(own, node, "train", 0).content["what"] == "trained"  # asked again it costs nothing
    node.bench.config = node.bench.config.model_copy(
        update={"privacy": privacy.model_copy(update={"epsilon_max": 1e-3})}
    )
    assert "its privacy budget is spent" in refusal(ask(own, node, "train", 1))
    assert OwnDisk(own.home(ME)).kept().private_steps == 2


def test_the_loss_of_private_training_is_not_told(own):
    node = joined(own)
    node.bench.config = node.bench.config.model_copy(update={"privacy": PrivacyConfig()})
    assert ask(own, node, "train", 0).content["loss"] is None


# ---------------------------------------------------------------- exams


def exam(own, splits, models=1, round_index=0, **changes):
    content, _ = request_of(own, "train", 0)
    theta = np.zeros(4810, np.float32)
    arrays = {f"params/{place}": theta + place for place in range(models)}
    arrays |= {f"buffers/{place}": np.zeros(0, np.float32) for place in range(models)}
    told = {"what": "evaluate", "models": models, "splits": list(splits), "alone": False}
    return content | told | {"round_index": round_index} | changes, arrays


@pytest.mark.parametrize("splits", [SPLITS, ("train",), ("validation",), (TRIAL,), ("test", "train"), ()])
def test_models_that_the_method_does_not_need_are_not_judged(own, splits):
    reason = refusal(put(own, through(own, 1), *exam(own, splits)))
    assert "which this market of the method ipfl does not need" in reason


@pytest.mark.parametrize("number", [1, 10**9, -1])
def test_nothing_is_judged_but_of_the_round_that_was_trained(own, number):
    node = through(own, 1)
    reason = refusal(put(own, node, *exam(own, SPLITS, 0, number, alone=True)))
    assert reason.startswith(f"it has trained nothing in round {number}") or "is over here" in reason


CONFIG = {"method": "ipfl", "eligibility": "copies", "private": False}
ALLOWED = [
    ({}, (0, SPLITS), True),
    ({}, (1, SPLITS), False),
    ({"method": "fedavg"}, (1, SPLITS), True),
    ({"method": "fedprox", "private": True}, (1, SPLITS), True),
    ({"method": "fedavg"}, (2, SPLITS), False),
    ({"method": "fedavg"}, (1, ("test",)), False),
    ({"eligibility": "on"}, (4, (TRIAL,)), True),
    ({"eligibility": "on"}, (5, (TRIAL,)), False),
    ({"eligibility": "on", "private": True}, (4, (TRIAL,)), False),
    ({"method": "fedfomo"}, (5, ("validation",)), True),
    ({"method": "fedfomo"}, (6, ("validation",)), False),
    ({"method": "fedfomo"}, (5, ("train",)), True),
    ({"method": "fedfomo", "private": True}, (5, ("train",)), False),
    ({"method": "fedfomo"}, (5, ("validation", "train")), False),
    ({"method": "one-of-my-own"}, (5, ("train",)), True),
    ({"method": "one-of-my-own"}, (2, SPLITS), False),
]


@pytest.mark.parametrize(("changes", "asked", "allowed"), ALLOWED)
def test_what_a_market_of_four_needs_judged(own, changes, asked, allowed):
    how = CONFIG | changes
    config = own.market.config
    config = config.model_copy(
        update={
            "method": how["method"],
            "market": config.market.model_copy(update={"eligibility": how["eligibility"]}),
            "privacy": PrivacyConfig() if how["private"] else None,
        }
    )
    rules, (models, splits) = ExamRules(config, 4), asked
    content = {"models": models, "splits": list(splits), "alone": False, "round_index": 0}
    if not allowed:
        with pytest.raises(RefusedError, match="does not need"):
            rules.check(content, "a")
        return
    for digest in [*"abc"[:TIMES_MAX], *"aabbcc"]:
        rules.check(content, digest)
    with pytest.raises(RefusedError, match=f"judged {TIMES_MAX} other sets of models in round 0"):
        rules.check(content, "d")
    rules.check(content | {"round_index": 1}, "d")


# ---------------------------------------------------------------- bills


def forged(own, bill, number, run_on):
    """A bill of a round that never was: the lines of another under new keys."""
    lines = [
        line | {"key": line["key"].replace(f"round/{bill['round_index']}/", f"round/{number}/", 1)}
        for line in bill["lines"]
    ]
    moved = sum(line["amount"] for line in lines)
    told = bill | {"round_index": number, "lines": lines}
    return signed(own, told, round_index=number, balance=run_on + moved)


def test_a_round_that_was_not_answered_is_billed_for_nothing(own):
    bills = bills_of(own)
    node = through(own, 1)
    reason = refusal(ask(own, node, "settle", finished=False, bills=bills))
    assert "round 1: " in reason
    assert "it trades in a round that was not answered" in reason
    assert node.bills.until == 0


def test_a_round_that_the_market_does_not_have_is_billed_for_nothing(own):
    bills, node = bills_of(own), through(own)
    assert ask(own, node, "settle", finished=False, bills=bills).content["what"] == "settled"
    more = forged(own, bills_of(own)[1], ROUNDS, node.bills.balance)
    assert f"the market was agreed to have {ROUNDS} rounds" in refusal(
        ask(own, node, "settle", finished=False, bills=[more])
    )


def test_a_folder_that_stands_in_for_a_lost_one_takes_no_bills_of_rounds_that_it_has_seen(own):
    arrays = without_its_model(own, 1)
    OwnDisk(own.home(ME)).note_lost()
    node = joined(own)
    reply = ask(own, node, "train", 1, arrays=arrays, bills=bills_of(own)[:1])
    assert reply.content["what"] == "trained"
    bills = bills_of(own)
    skipped = [bills[1], forged(own, bills_of(own)[1], 2, node.bills.balance)]
    reason = refusal(ask(own, node, "settle", finished=False, bills=skipped))
    assert "round 2: " in reason
    assert "was not answered" in reason


@pytest.mark.parametrize("allowed", [False, True])
def test_a_sale_is_taken_back_only_where_the_terms_allow_it(own, allowed):
    path = own.folder / "lenient.toml"
    more = "[limits]\nreversals = true\n" if allowed else ""
    path.write_text((own.folder / f"{ME}.toml").read_text() + more)
    bills, node = bills_of(own), through(own, terms=read_terms(path))
    sale = next(line for line in bills[0]["lines"] if line["amount"] > 0)
    back = {"key": f"reversal/{sale['key']}", "amount": -sale["amount"], "terms": {"of": sale["key"]}}
    bills[1]["lines"].append(back)
    signed(own, bills[1], balance=bills[1]["receipt"]["balance"] - sale["amount"])
    reply = ask(own, node, "settle", finished=False, bills=bills[:2])
    if allowed:
        assert reply.content["what"] == "settled"
    else:
        assert "it takes back a sale, which the terms do not allow (limits.reversals)" in refusal(reply)


def test_more_sellers_than_members_are_no_offer(own):
    bills, node = bills_of(own), through(own)
    offer = bills[0]["offers"]["sellers"][0] | {"name": "another"}
    bills[0]["offers"]["sellers"] += [offer] * 2_000
    reason = refusal(ask(own, node, "settle", finished=False, bills=bills[:1]))
    assert "it has offers of 2,003 sellers, but the market has 4 members" in reason


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "a\u2028b", "", "x" * 65])
def test_a_trade_with_nobody_is_disputed(own, name):
    bills, node = bills_of(own), through(own)
    line = bought(bills[0])
    line["terms"]["seller"] = name
    line["key"] = f"round/0/{ME}/{name}"
    assert "is nobody's name" in refusal(ask(own, node, "settle", finished=False, bills=bills[:1]))


def test_a_bill_with_more_in_it_than_a_bill_has_is_none(own):
    bills, node = bills_of(own), through(own)
    bills[0]["note"] = "x" * 1000
    assert "it is no bill (it has not the fields" in refusal(
        ask(own, node, "settle", finished=False, bills=bills[:1])
    )


def test_a_request_that_there_is_no_memory_for_is_refused(own, monkeypatch):
    node = joined(own)

    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr("ipfl.network.own_bills.problems", full)
    assert refusal(ask(own, node, "train", 0, bills=bills_of(own)[:1])) == (
        "it has not the memory for the request"
    )
    assert not node.standing.failed

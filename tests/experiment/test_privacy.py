"""Runs with private training: what the ledger counts, who stops, and that resuming changes nothing."""

from dataclasses import replace

import pytest

import ipfl
import tiny
from ipfl.config import PrivacyConfig
from ipfl.errors import ConfigError
from ipfl.experiment.events import RoundDone
from ipfl.experiment.privacy import SPENT
from ipfl.learning.private import epsilon_spent
from ipfl.ledger import Ledger, statement
from ipfl.ledger.verify import _privacy
from ipfl.upkeep.checking import verify_run

KINDS = ("trader", "trader", "trader")
TASK = tiny.task(len(KINDS))
PRIVACY = {"noise_multiplier": 2.0, "max_grad_norm": 0.5, "delta": 1e-4}
STEPS, BATCH = 3, 8


def config(rounds=3, method="ipfl", **changes):
    privacy = PRIVACY | changes.pop("privacy", {})
    return tiny.config(KINDS, rounds=rounds, method=method, privacy=privacy, engine={"workers": 2}, **changes)


def epsilons(run):
    return [[entry["epsilon"] for entry in line["participants"]] for line in run.rounds]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ipfl.run(config(), task=TASK, out=tmp_path_factory.mktemp("private") / "run")


def test_the_seals_count_every_private_step(run):
    privacy = PrivacyConfig(**PRIVACY)
    with Ledger.open(run.path / "ledger.db") as ledger:
        seals = list(ledger.entries("WHERE kind = 'round'"))
        bill = statement(ledger.entries(), "b")
    for done, (seal, spent) in enumerate(zip(seals, epsilons(run), strict=True), 1):
        told = seal.terms["privacy"]
        assert (told["noise_multiplier"], told["delta"]) == (2.0, 1e-4)
        for index, name in enumerate("abc"):
            rate = BATCH / (10 + 2 * index)
            wanted = epsilon_spent(privacy, rate, STEPS * done)
            assert told["participants"][name] == {
                "steps": STEPS * done, "sampling_rate": rate, "epsilon": pytest.approx(wanted),
            }  # fmt: skip
            assert spent[index] == pytest.approx(wanted)
    assert bill.privacy == (9, pytest.approx(epsilons(run)[-1][1]), 1e-4)
    assert verify_run(run.path).sound


def test_training_alone_is_not_private(run, tmp_path):
    """Nothing of it is published: it is the yardstick that it is in every run."""
    plain = ipfl.run(tiny.config(KINDS, engine={"workers": 1, "block": 1}), task=TASK, out=tmp_path / "plain")
    for private, other in zip(run.summary["participants"], plain.summary["participants"], strict=True):
        assert private["loss_alone"] == other["loss_alone"]
        assert private["loss"] != other["loss"]


def test_every_job_of_a_method_is_counted(tmp_path):
    """Ditto trains two models a round."""
    twice = ipfl.run(config(rounds=1, method="ditto"), task=TASK, out=tmp_path / "ditto")
    privacy = PrivacyConfig(**PRIVACY)
    assert epsilons(twice)[0][0] == pytest.approx(epsilon_spent(privacy, 0.8, 2 * STEPS))


def test_resumed_it_has_the_same_epsilon_and_models(run, tmp_path):
    class Paused(BaseException):
        pass

    def watch(event):
        if isinstance(event, RoundDone) and event.line["round_index"] == 1:
            raise Paused

    with pytest.raises(Paused):
        ipfl.run(config(), task=TASK, out=tmp_path / "half", watch=watch)
    resumed = ipfl.resume(tmp_path / "half", task=TASK)
    assert epsilons(resumed) == epsilons(run)
    assert tiny.contents(resumed.path) == tiny.contents(run.path)


def test_whose_budget_is_spent_trains_and_trades_no_more(run, tmp_path):
    limit = (
        epsilons(run)[1][0] * 1.0001
    )  # a, who has the fewest examples, may do two rounds; the others go on
    stopped = ipfl.run(config(privacy={"epsilon_max": limit}), task=TASK, out=tmp_path / "stopped")
    assert max(epsilons(stopped)[-1]) <= limit
    assert [line["participants"][0]["present"] for line in stopped.rounds] == [True, True, False]
    assert stopped.rounds[2]["participants"][0]["refusal"] == SPENT
    assert epsilons(stopped)[2][0] == epsilons(stopped)[1][0]
    assert verify_run(stopped.path).sound


def test_an_epsilon_that_falls_is_found(run, tmp_path):
    with Ledger.open(run.path / "ledger.db") as ledger:
        seals = list(ledger.entries("WHERE kind = 'round'"))
    assert _privacy(seals) == []
    (fault, *_) = _privacy([seals[1], seals[0]])
    assert "'s epsilon falls from" in fault
    assert "says nothing of privacy" in _privacy([seals[0], saying(seals[1], None)])[0]
    assert "falls from" in _privacy([seals[0], saying(seals[1], {"participants": {}})])[0]
    for odd in (
        3,
        {},
        {"participants": 3},
        {"participants": {"a": 1}},
        {"participants": {"a": {"steps": "x"}}},
    ):
        assert _privacy([saying(seals[0], odd)]) == ["what round 0 says of privacy cannot be read"]


def saying(seal, privacy):
    return replace(seal, terms=seal.terms | {"privacy": privacy})


def test_what_goes_without_privacy_says_nothing_of_it(tmp_path):
    plain = ipfl.run(tiny.config(KINDS, rounds=1), task=TASK, out=tmp_path / "plain")
    assert "epsilon" not in plain.rounds[0]["participants"][0]
    with Ledger.open(plain.path / "ledger.db") as ledger:
        assert "privacy" not in ledger.last("round").terms
        assert statement(ledger.entries(), "a").privacy is None


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match=r"privacy\.delta = 1\.0"):
        config(privacy={"delta": 1.0})
    with pytest.raises(ConfigError, match=r"unknown key 'privacy\.sigma'"):
        config(privacy={"sigma": 1.0})

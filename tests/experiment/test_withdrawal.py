"""Leaving when the market costs more than it brings, and coming back."""

import numpy as np
import pytest

import ipfl
import tiny
from ipfl.config import WithdrawalConfig
from ipfl.experiment.withdrawal import FOR_GOOD, WITHDRAWN, withdrawals

UTILITIES = np.array([1.0, -1.0, 0.0, -1e-15, -2.0])
NOBODY = np.zeros(5, dtype=np.int64)


def test_never():
    assert withdrawals(WithdrawalConfig(), 0, 3, UTILITIES, NOBODY).tolist() == [0] * 5


def test_strict_is_for_all_below_zero_and_no_rounding():
    after = withdrawals(WithdrawalConfig(when="strict"), 0, 3, UTILITIES, NOBODY)
    assert after.tolist() == [0, FOR_GOOD, 0, 0, FOR_GOOD]


def test_who_is_away_comes_back_in_its_round_and_not_before():
    strict = WithdrawalConfig(when="strict", rejoin_after=2)
    away = withdrawals(strict, 0, 3, UTILITIES, NOBODY)
    assert away.tolist() == [0, 6, 0, 0, 6]  # misses rounds 4 and 5
    nothing = np.zeros(5)
    away = withdrawals(strict, 0, 4, nothing, away)
    assert away.tolist() == [0, 6, 0, 0, 6]
    assert withdrawals(strict, 0, 5, nothing, away).tolist() == [0] * 5


def test_a_probability_is_a_share_and_is_drawn_by_seed_round_and_participant():
    config = WithdrawalConfig(when="probability", probability=0.3)
    losers = -np.ones(2000)
    once = withdrawals(config, 1, 3, losers, np.zeros(2000, dtype=np.int64))
    again = withdrawals(config, 1, 3, losers, np.zeros(2000, dtype=np.int64))
    assert (once == again).all()
    assert (once > 0).mean() == pytest.approx(0.3, abs=0.04)
    other = withdrawals(config, 1, 4, losers, np.zeros(2000, dtype=np.int64))
    assert (once != other).any()


# ---------------------------------------------------------------- in a run: FedAvg, where exports cost and nobody pays


def config(**withdrawal):
    rows = [
        {"id": name, "valuation": 400.0, "export_cost": cost}
        for name, cost in zip("abcd", (0.0, 0.0, 50.0, 0.0), strict=True)
    ]
    settings = {"method": "fedavg", "participants": rows, "rounds": 5, "withdrawal": withdrawal}
    return tiny.config().model_validate(
        tiny.config().model_dump()
        | {"participants": {"rows": rows}}
        | {key: value for key, value in settings.items() if key != "participants"}
    )


@pytest.fixture(scope="module")
def stayed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stayed") / "run"
    return ipfl.run(config(), task=tiny.task(4), out=folder)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("left") / "run"
    return ipfl.run(config(when="strict", rejoin_after=2), task=tiny.task(4), out=folder)


def column(run, key, index=2):
    return [line["participants"][index][key] for line in run.rounds]


def test_who_pays_too_much_to_export_leaves_and_returns(stayed, left):
    assert all(column(stayed, "present"))
    assert column(left, "present") == [True, False, False, True, False]
    assert column(left, "refusal") == [None, WITHDRAWN, WITHDRAWN, None, WITHDRAWN]
    utility = column(left, "utility")
    assert utility[0] < 0
    assert utility[1] == utility[2] == 0
    assert all(all(column(left, "present", index)) for index in (0, 1, 3))


def test_others_go_on_without_it(left):
    edges = {(edge["round_index"], edge["buyer"], edge["seller"]) for edge in left.edges}
    for round_index in (1, 2, 4):
        assert {(buyer, seller) for r, buyer, seller in edges if r == round_index} == {
            (buyer, seller) for buyer in "abd" for seller in "abd" if buyer != seller
        }


def test_while_away_it_trains_by_itself(left):
    """Its model goes on moving, and differs from the common one that the others hold."""
    away = [column(left, "loss")[r] for r in (1, 2)]
    assert away[0] != away[1]
    assert column(left, "loss")[1] != column(left, "loss", 0)[1]


def test_a_resumed_run_remembers_who_is_away(tmp_path, left):
    class StopError(Exception):
        pass

    def stop_after_round_1(event):
        if getattr(event, "line", {}).get("round_index") == 1:
            raise StopError

    folder = tmp_path / "run"
    with pytest.raises(StopError):
        ipfl.run(
            config(when="strict", rejoin_after=2), task=tiny.task(4), out=folder, watch=stop_after_round_1
        )
    resumed = ipfl.resume(folder, task=tiny.task(4))
    assert tiny.contents(resumed.path) == tiny.contents(left.path)


def test_everybody_may_leave(tmp_path):
    everybody = config(when="strict")
    rows = tuple(row.model_copy(update={"export_cost": 50.0}) for row in everybody.participants.rows)
    everybody = everybody.model_copy(
        update={"participants": everybody.participants.model_copy(update={"rows": rows})}
    )
    run = ipfl.run(everybody, task=tiny.task(4), out=tmp_path / "run")
    assert not any(entry["present"] for line in run.rounds[1:] for entry in line["participants"])
    assert run.summary["mean_accuracy"] is not None

"""The preset `assistants` as it comes: desks of one house find one another, and are the better for it."""

import pytest

import ipfl
import tiny_language  # noqa: F401  (keeps the network out)

pytestmark = pytest.mark.slow


def test_desks_trade_inside_their_house_and_answer_better_than_alone(tmp_path):
    run = ipfl.run(ipfl.load_config("assistants", seed=0), out=tmp_path / "run")
    house = {name: index % 2 for index, name in enumerate(run.participant_ids)}
    inside = sum(house[edge["buyer"]] == house[edge["seller"]] for edge in run.edges)
    across = len(run.edges) - inside
    assert inside > 10 * across
    people = run.summary["participants"]
    assert all(one["loss"] < one["loss_alone"] for one in people)
    assert all(one["accuracy"] > one["accuracy_alone"] for one in people)
    assert run.summary["individually_rational"]
    assert run.summary["budget_imbalance"] == 0


def test_without_a_market_everybody_contradicts_everybody(tmp_path):
    """Averaging all desks is no better than learning alone: there is something to find, and it is not everybody."""
    run = ipfl.run(ipfl.load_config("assistants", ["method=fedavg"], seed=0), out=tmp_path / "run")
    assert run.summary["mean_accuracy"] < run.summary["mean_accuracy_alone"]

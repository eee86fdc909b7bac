"""Totals, the verdict and its sentences."""

import dataclasses
import json
import math

import pytest

from ipfl.report import points, verdict
from ipfl.report.sentences import names
from ipfl.report.summary import participant_table, settled
from ipfl.run_folder import load_run


def sentence(run, key):
    return {point.key: point for point in points(verdict(run))}[key]


def test_table_of_a_finished_run_is_its_summary(finished_run):
    run = load_run(finished_run)
    for row, expected in zip(participant_table(run), run.summary["participants"], strict=True):
        assert {key: row[key] for key in expected} == expected


def test_table_of_an_unfinished_run_is_what_the_summary_would_say(finished_run):
    run = load_run(finished_run)
    for row, expected in zip(
        participant_table(dataclasses.replace(run, summary=None)), run.summary["participants"], strict=True
    ):
        assert {key: row[key] for key in expected} == expected


def test_accuracy_of_an_absent_participant_is_the_last_one_known(make_run, tmp_path):
    run = load_run(make_run(tmp_path / "run", rounds=3, planned=5, absent=(3, 2)))
    row = participant_table(run)[3]
    assert row["accuracy"] == run.rounds[1]["participants"][3]["accuracy"]
    assert not row["present"]


def test_better_equal_and_worse_split_the_honest_buyers(finished_run):
    run = load_run(finished_run)
    rows = run.summary["participants"]
    rows[0] |= {"accuracy": rows[0]["accuracy_alone"]}
    rows[1] |= {"accuracy": rows[1]["accuracy_alone"] - 0.1}
    facts = verdict(run)
    assert facts.equal == (rows[0]["id"],)
    assert facts.worse == (rows[1]["id"],)
    assert len(facts.better) == 8
    assert set(facts.buyers) == {row["id"] for row in rows if row["kind"] in ("trader", "buyer")}
    assert "1 as accurate, 1 less accurate (clinic-01)" in sentence(run, "accuracy").sentence


@pytest.mark.parametrize("payment", ["marginal", "vcg-subsidised"])
def test_money_adds_up_exactly(make_run, tmp_path, payment):
    allocation = "greedy" if payment == "marginal" else "exact"
    run = load_run(make_run(tmp_path / "run", payment=payment, allocation=allocation))
    facts = verdict(run)
    assert facts.balanced
    assert facts.imbalance == 0
    assert facts.money_in == math.fsum(row["amount"] for row in run.ledger)
    assert facts.money_out == pytest.approx(facts.money_in, rel=1e-12)
    assert (facts.subsidy > 0) == (payment == "vcg-subsidised")
    assert sentence(run, "money").sentence.startswith("Money in equals money out")


def test_a_trade_that_was_not_posted_is_found(finished_run):
    run = load_run(finished_run)
    facts = verdict(dataclasses.replace(run, edges=run.edges[1:]))
    assert facts.imbalance == pytest.approx(-run.edges[0]["payment"])
    assert not facts.balanced


def test_a_bill_that_differs_from_the_ledger_is_found(finished_run):
    run = load_run(finished_run)
    run.ledger[0]["amount"] += 0.25
    facts = verdict(run)
    assert not facts.balanced
    assert facts.unexplained == pytest.approx(0.25)
    assert sentence(run, "money").tone == "bad"


def test_below_zero_says_who_and_in_which_round(finished_run):
    run = load_run(finished_run)
    run.rounds[4]["participants"][2]["utility"] = -0.5
    run.rounds[1]["participants"][2]["utility"] = -0.25
    run.rounds[1]["participants"][11]["utility"] = -3.0  # the attacker
    facts = verdict(run)
    assert [(item.participant, item.round_index) for item in facts.below_zero] == [
        ("clinic-02", 1),
        ("clinic-02", 4),
    ]
    assert [item.participant for item in facts.attackers_below_zero] == ["clinic-11"]
    assert sentence(run, "rationality").sentence == (
        "clinic-02 fell below zero utility; the lowest was clinic-02 in round 4 with -0.5."
    )


def test_rounding_is_not_below_zero(finished_run):
    run = load_run(finished_run)
    run.rounds[0]["participants"][2]["utility"] = -1e-12
    assert verdict(run).below_zero == ()


def test_what_an_attacker_sold_is_told(finished_run):
    run = load_run(finished_run)
    run.edges[0]["seller"] = "clinic-11"
    facts = verdict(run)
    assert [(item.num_sold, item.rounds) for item in facts.attackers] == [(1, (0,))]
    assert sentence(run, "attack").sentence.startswith("clinic-11 (attacker) sold 1 model for ")
    assert sentence(load_run(finished_run), "attack").sentence == "The attacker sold nothing."


def test_an_unfinished_run_says_how_far_it_got(make_run, tmp_path):
    run = load_run(make_run(tmp_path / "run", rounds=2, planned=5))
    assert not verdict(run).finished
    assert sentence(run, "progress").sentence.startswith("The run is not finished: 2 of 5 rounds")


def test_a_run_without_rounds_has_a_verdict(make_run, tmp_path):
    facts = verdict(load_run(make_run(tmp_path / "run", rounds=0, planned=5)))
    assert facts.mean_accuracy is None
    assert [point.figure for point in points(facts)][:2] == ["0 of 5", "–"]


def test_postings_of_a_round_not_recorded_are_left_out(finished_run, tmp_path):
    run = load_run(finished_run)
    cut = settled(dataclasses.replace(run, rounds=run.rounds[:-1], summary=None))
    assert {edge["round_index"] for edge in cut.edges} == set(range(5))
    assert verdict(dataclasses.replace(run, rounds=run.rounds[:-1], summary=None)).balanced


def test_names_are_a_list_in_words():
    assert names(("a",)) == "a"
    assert names(("a", "b", "c", "d", "e")) == "a, b, c, d and 1 more"


def test_verdict_is_plain_data(finished_run):
    json.dumps(dataclasses.asdict(verdict(load_run(finished_run))), allow_nan=False)

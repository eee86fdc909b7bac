"""Records hold money against itself: what does not add up is a broken law, not a number in a file."""

import copy
import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_array

import tiny
from ipfl.errors import InvariantError
from ipfl.experiment import drive
from ipfl.experiment.records import edge_rows, imbalance, ledger_rows, round_line, summarise
from ipfl.market import clear
from ipfl.market.units import billed
from ipfl.methods import Ipfl
from ipfl.participants import participant
from ipfl.types import EvaluateReply

SECONDS = {"train": 0.0, "evaluate": 0.0, "market": 0.0, "total": 0.0}


@pytest.fixture
def cleared():
    """Participants and the record of a round in which two buy from each other, at a subsidy."""
    members = tiny.federation((4, 4), (36.0, 36.0), (0.1, 0.1), lam=1.0, eta=2.0, rule="subsidised")
    method = Ipfl(members)
    _, record = drive(method.round(method.init()), tiny.QuadraticEngine([[1.0, 0.0], [0.6, 0.8]], (4, 4)))
    return members.participants, record


ACCOUNTS = dict.fromkeys("abcde", True)


def truth(run):
    """The participants of a run of `tiny`, as it was set up."""
    return tuple(
        participant(row, count)
        for row, count in zip(run.config.participants.rows, (10, 12, 14, 16, 18), strict=True)
    )


def test_rows_of_a_round_by_hand(cleared):
    """Gain 0.878680, friction 0.4: the seller receives cost and surplus, the buyer pays the cost 0.1 alone."""
    participants, record = cleared
    edges = edge_rows(participants, record)
    assert [(edge["buyer"], edge["seller"]) for edge in edges] == [("a", "b"), ("b", "a")]
    gain = 3 - np.sqrt(36 / 8)
    assert [edge["payment"] for edge in edges] == pytest.approx([gain - 0.4] * 2, abs=1e-6)
    rows = ledger_rows(participants, record)
    assert [(row["payer"], row["payee"], row["purpose"]) for row in rows] == [
        ("a", "b", "sale"), ("operator", "b", "subsidy"), ("b", "a", "sale"), ("operator", "a", "subsidy"),
    ]  # fmt: skip
    assert [row["amount"] for row in rows] == pytest.approx([0.1, gain - 0.5] * 2, abs=1e-6)


def test_a_sparse_round_gives_the_same_rows(cleared):
    participants, record = cleared
    everybody = csr_array(1.0 - np.eye(2))
    distance = csr_array((record.distance[[0, 1], [1, 0]], everybody.indices, everybody.indptr), shape=(2, 2))
    outcome = billed(clear(record.bids, distance, 1.0, "exact", "vcg-subsidised"), record.bids)
    sparse = dataclasses.replace(record, distance=distance, outcome=outcome)
    assert edge_rows(participants, sparse) == edge_rows(participants, record)
    assert ledger_rows(participants, sparse) == ledger_rows(participants, record)
    lines = [
        round_line(participants, kind, {}, ledger_rows(participants, kind), SECONDS)
        for kind in (sparse, record)
    ]
    assert lines[0] == lines[1]
    assert [entry["imports"] for entry in lines[0]["participants"]] == [1, 1]


def test_a_round_without_evaluations_has_no_means(cleared):
    participants, record = cleared
    line = round_line(participants, record, {}, ledger_rows(participants, record), SECONDS)
    assert line["mean_accuracy"] is None
    assert line["participants"][0]["accuracy"] is None
    reply = EvaluateReply(
        1,
        np.array([[np.nan, np.inf, 1.0], [np.nan, 0.5, 1.0]]),
        np.array([[np.nan, 0.25, 0.125], [np.nan, 0.75, 0.375]]),
    )
    line = round_line(participants, record, {1: reply}, ledger_rows(participants, record), SECONDS)
    assert (line["mean_accuracy"], line["mean_accuracy_alone"]) == (0.25, 0.75)
    assert (line["participants"][1]["loss"], line["participants"][1]["loss_alone"]) == (None, 0.5)
    row = line["participants"][1]
    assert (row["accuracy_common"], row["accuracy_alone_common"]) == (0.125, 0.375)
    assert (row["accuracy_validation"], row["accuracy_alone_validation"]) == (None, None)


def test_bills_that_do_not_give_the_utility_are_refused(cleared):
    participants, record = cleared
    transfers = ledger_rows(participants, record)
    for wrong in (transfers[1:], [transfers[0] | {"amount": 0.2}, *transfers[1:]]):
        with pytest.raises(InvariantError, match=r"bills of (a|b) add up to its utility"):
            round_line(participants, record, {}, wrong, SECONDS)


def test_a_bill_that_is_not_its_transfers_is_refused(finished):
    rounds = copy.deepcopy(finished.rounds)
    rounds[1]["participants"][0]["paid"] += 1e-12
    with pytest.raises(InvariantError, match="what a paid in round 1 equals its transfers in the ledger"):
        imbalance(dataclasses.replace(finished, rounds=rounds))
    with pytest.raises(InvariantError, match="equals its transfers in the ledger"):
        imbalance(dataclasses.replace(finished, ledger=finished.ledger[1:]))


def test_a_trade_that_was_posted_with_another_amount_is_an_imbalance(finished):
    edges = copy.deepcopy(finished.edges)
    edges[0]["payment"] += 0.25
    assert imbalance(finished) == 0.0
    assert imbalance(dataclasses.replace(finished, edges=edges)) == pytest.approx(0.25)
    assert imbalance(dataclasses.replace(finished, edges=edges[1:])) == pytest.approx(
        -finished.edges[0]["payment"]
    )


def test_one_loss_of_an_honest_participant_ends_individual_rationality(finished):
    assert summarise(finished, truth(finished), ACCOUNTS) == finished.summary
    for index, rational in ((0, False), (3, False), (4, True)):  # the attacker's losses are its own affair
        rounds = copy.deepcopy(finished.rounds)
        rounds[1]["participants"][index]["utility"] = -1e-6
        summary = summarise(dataclasses.replace(finished, rounds=rounds), truth(finished), ACCOUNTS)
        assert summary["individually_rational"] == rational
    rounds[1]["participants"][0]["utility"] = -1e-12  # rounding
    assert summarise(dataclasses.replace(finished, rounds=rounds), truth(finished), ACCOUNTS)[
        "individually_rational"
    ]

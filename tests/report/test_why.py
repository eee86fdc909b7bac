"""Why each model was bought, and why the others were not."""

import math

import numpy as np
import pytest

import ipfl
import tiny
from ipfl.cli.audit import present_market
from ipfl.errors import RunFolderError
from ipfl.report import not_bought, trades
from ipfl.report.payload import payload
from ipfl.run_folder import load_run


def test_trades_of_a_round_are_its_edges(finished_run):
    run = load_run(finished_run)
    for round_index in range(6):
        edges = [edge for edge in run.edges if edge["round_index"] == round_index]
        assert [(t.buyer, t.seller, t.payment, t.distance) for t in trades(run, round_index)] == [
            (e["buyer"], e["seller"], e["payment"], e["distance"]) for e in edges
        ]


def test_marginal_payment_is_what_the_model_adds_less_friction(finished_run):
    for trade in trades(load_run(finished_run), 5):
        assert trade.payment == pytest.approx(
            trade.marginal_gain - trade.friction, abs=1.001e-6
        )  # cut to whole units
        assert -1e-9 <= trade.buyer_kept < 1.001e-6
        assert trade.seller_kept >= 0


def test_frictions_and_costs_of_trades_are_those_of_the_round(finished_run):
    run = load_run(finished_run)
    found = trades(run, 4)
    for entry in run.rounds[4]["participants"]:
        friction = math.fsum(trade.friction for trade in found if trade.buyer == entry["id"])
        cost = math.fsum(trade.export_cost for trade in found if trade.seller == entry["id"])
        assert (friction, cost) == pytest.approx((entry["friction"], entry["cost"]), abs=1e-9)


def test_subsidised_buyer_pays_the_cost_alone(make_run, tmp_path):
    run = load_run(make_run(tmp_path / "run", payment="vcg-subsidised", allocation="exact"))
    found = trades(run, 1)
    assert found
    assert all(trade.paid <= trade.payment for trade in found)
    # to the last digit but one: sale and subsidy are posted so that they add up to the payment exactly
    assert [trade.paid for trade in found] == pytest.approx([trade.export_cost for trade in found], rel=1e-15)


def test_every_pair_is_bought_or_has_a_reason(finished_run):
    run = load_run(finished_run)
    for round_index in range(6):
        bought = {(trade.buyer, trade.seller) for trade in trades(run, round_index)}
        refused = {(row.buyer, row.seller): row for row in not_bought(run, round_index)}
        assert not bought & refused.keys()
        assert len(bought) + len(refused) == 12 * 11


def test_reasons_hold(finished_run):
    run = load_run(finished_run)
    for row in not_bought(run, 2):
        if "clinic-03" in (row.buyer, row.seller):  # absent in round 2
            assert row.reason in ("buyer_absent", "seller_absent")
            assert row.distance is None
        elif row.buyer in ("clinic-10", "clinic-11"):
            assert row.reason == "buys_nothing"
        elif row.seller in ("clinic-08", "clinic-09"):
            assert row.reason == "not_for_sale"
        elif row.reason == "costs_more":
            assert row.marginal_gain <= row.cost
        else:
            assert row.reason == "passed_over"
            assert row.marginal_gain > row.cost


def test_a_round_that_is_not_there_is_refused(finished_run):
    with pytest.raises(RunFolderError, match="holds no round 6"):
        trades(load_run(finished_run), 6)


def test_distances_that_do_not_fit_are_refused(make_run, tmp_path):
    folder = make_run(tmp_path / "run", rounds=1)
    np.save(folder / "distances" / "00000.npy", np.zeros((2, 2)))
    with pytest.raises(RunFolderError, match="do not fit 12 participants"):
        not_bought(load_run(folder), 0)


def test_a_market_of_candidates_is_explained_drawn_and_not_audited(tmp_path):
    market = {
        "lam": 0.5,
        "eta": 2.0,
        "rule": "truthful",
        "distance": "sketch",
        "sketch_size": 64,
        "candidates": 2,
    }
    run = ipfl.run(tiny.config(market=market), task=tiny.task(), out=tmp_path / "run")
    distance = run.distances(1)
    assert not isinstance(distance, np.ndarray)
    ids = run.participant_ids
    candidates = {(ids[i], ids[j]) for i, j in zip(*distance.nonzero(), strict=True)}
    bought = {(trade.buyer, trade.seller) for trade in trades(run, 1)}
    assert bought
    assert bought <= candidates
    for row in not_bought(run, 1):
        assert (row.reason == "no_candidate") <= ((row.buyer, row.seller) not in candidates)
        assert (row.distance is None) == ((row.buyer, row.seller) not in candidates)
    assert {row.reason for row in not_bought(run, 1)} > {"no_candidate"}
    places = payload(run)["angle"]
    assert sorted(places) == [0.0, 0.2, 0.4, 0.6, 0.8]
    with pytest.raises(
        RunFolderError, match=r"market.candidates = 2 of each buyer, and an audit needs the distances"
    ):
        present_market(run, run.rounds[0])

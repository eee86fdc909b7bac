"""Outcomes of graphs that no market decided, and outcomes judged by the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import Bids, by_the_truth, clear, well_being, without_payments

LAW = settings(deadline=None, derandomize=True, max_examples=60)


def market(seed, m):
    random = np.random.default_rng(seed)
    bids = Bids(random.integers(1, 50, m), random.uniform(0, 500, m), random.uniform(0, 2, m))
    distance = random.uniform(0, 2, (m, m))
    distance = (distance + distance.T) / 2
    graph = random.random((m, m)) < 0.5
    np.fill_diagonal(graph, False)
    return bids, distance, graph


def test_worked_by_hand():
    """a (N 4, K 36) uses b's 12 and is sent c's 2 too; lam 1, distances 0.5: friction 0.5 * 12/4 = 1.5."""
    bids = Bids(np.array([4, 12, 2]), np.array([36.0, 0.0, 0.0]), np.array([9.0, 0.25, 0.5]))
    used = np.array([[False, True, False], [False] * 3, [False] * 3])
    sent = used.copy()
    sent[0, 2] = True
    outcome = without_payments(bids, np.full((3, 3), 0.5), 1.0, used, sent)
    assert outcome.gains.tolist() == [1.5, 0, 0]
    assert outcome.costs.tolist() == [0, 0.25, 0.5]
    assert outcome.frictions.tolist() == [1.5, 0, 0]
    assert outcome.utilities.tolist() == [1.5, -0.25, -0.5]
    assert outcome.surpluses.tolist() == [0, -0.25, -0.5]
    assert (outcome.welfare, outcome.objective, outcome.subsidy) == (0.75, -0.75, 0.0)
    assert (outcome.allocation_rule, outcome.payment_rule) == ("given", "none")
    assert np.isnan(outcome.bound).all()
    assert np.isnan(outcome.gap).all()


@LAW
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_nobody_pays_and_all_adds_up(seed, m):
    bids, distance, graph = market(seed, m)
    outcome = without_payments(bids, distance, 0.3, graph)
    fare = well_being(bids, outcome, distance, 0.3)
    for field in ("gains", "costs", "frictions", "utilities", "surpluses"):
        np.testing.assert_allclose(getattr(outcome, field), getattr(fare, field))
    for matrix in (outcome.payments, outcome.charges, outcome.paid, outcome.received):
        assert not matrix.any()
    assert outcome.welfare == pytest.approx(outcome.utilities.sum())
    assert outcome.objective == pytest.approx(outcome.surpluses.sum())


@LAW
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_the_optimum_is_worth_as_much_as_any_given_graph(seed, m):
    bids, distance, graph = market(seed, m)
    best = clear(bids, distance, lam=0.3, allocation="exact", payment="marginal")
    assert best.objective >= without_payments(bids, distance, 0.3, graph).objective - 1e-9


@LAW
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_true_bids_are_judged_as_they_were_cleared(seed, m):
    bids, distance, _ = market(seed, m)
    outcome = clear(bids, distance, lam=0.3)
    judged = by_the_truth(outcome, bids, distance, 0.3)
    np.testing.assert_allclose(judged.utilities, outcome.utilities, atol=1e-12)
    assert judged.welfare == pytest.approx(outcome.welfare)
    assert judged.allocation is outcome.allocation
    assert judged.payments is outcome.payments


def test_a_lie_moves_the_bill_and_the_truth_judges_it():
    """The seller offers at 0.25 what costs it 0.5; the buyer takes it, and the seller gains by its payment less 0.5."""
    truth = Bids(np.array([4, 12]), np.array([16.0, 0.0]), np.array([0.0, 0.5]))
    outcome = clear(truth.with_report(1, export_cost=0.25), np.zeros((2, 2)), lam=0.0)
    judged = by_the_truth(outcome, truth, np.zeros((2, 2)), 0.0)
    assert judged.costs.tolist() == [0.0, 0.5]
    assert judged.utilities[1] == pytest.approx(outcome.received[1] - 0.5)
    assert judged.welfare == pytest.approx(outcome.welfare - 0.25)


@pytest.mark.parametrize(
    ("used", "sent", "message"),
    [
        (np.zeros((3, 3), bool), None, "the graph has shape (3, 3), expected (2, 2)"),
        (np.zeros((2, 2), bool), np.zeros((1, 1), bool), "the graph has shape (1, 1), expected (2, 2)"),
        (np.eye(2, dtype=bool), None, "a participant import its own model"),
        (np.zeros((2, 2), bool), np.eye(2, dtype=bool), "a participant import its own model"),
    ],
)
def test_graphs_that_make_no_sense(used, sent, message):
    bids = Bids(np.array([4, 4]), np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    with pytest.raises(BidError) as error:
        without_payments(bids, np.zeros((2, 2)), 0.0, used, sent)
    assert message in str(error.value)

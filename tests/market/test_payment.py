"""Payments worked by hand, and each rule against its definition over all subsets."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.market import Bids
from market.oracles import LAW, SEEDS, Market, is_unique, markets, random_market, vcg_payments
from tried import tried


def three(costs=(0.1, 0.1)):
    """K = 36, N = 4 for the buyer; sellers of 5 and 7 examples; e = 0.1 * (0.4, 0.2) * (5, 7)/4 = 0.05, 0.035."""
    distance = np.zeros((3, 3))
    distance[0, 1:] = 0.4, 0.2
    return Market(
        Bids(np.array([4, 5, 7]), np.array([36.0, 0.0, 0.0]), np.array([0.0, *costs])), distance, lam=0.1
    )


@pytest.mark.parametrize("allocation", ["greedy", "exact"])
def test_marginal_payment_worked_by_hand(allocation):
    """Both bought: G = 3 - 6/sqrt(16) = 1.5. Without the 5, 3 - 6/sqrt(11) = 1.190932, so the 5 add 0.309068;
    without the 7, 3 - 6/sqrt(9) = 1, so the 7 add 0.5. Less friction: 0.259068 and 0.465."""
    outcome = three().clear(allocation, "marginal")
    assert outcome.gains[0] == pytest.approx(1.5, rel=1e-14)
    assert outcome.payments[0] == pytest.approx([0.0, 6 / math.sqrt(11) - 1.5 - 0.05, 0.465], rel=1e-13)
    assert outcome.frictions[0] == pytest.approx(0.085, rel=1e-14)
    assert outcome.utilities == pytest.approx([1.5 - 0.724068, 0.159068, 0.365], abs=1e-6)
    assert outcome.surpluses[0] == pytest.approx(1.5 - 0.724068 - 0.085, abs=1e-6)
    assert outcome.welfare == pytest.approx(1.3, rel=1e-14)
    assert outcome.objective == pytest.approx(1.215, rel=1e-14)


def test_vcg_payment_worked_by_hand():
    """The counter-example: W = 0.878680 - 0.467123; without seller 1, seller 2 is bought: 0.878680 - 0.672902. So
    seller 1 gets 0.467123 + 0.672902 - 0.467123 = 0.672902. In `three`, with nobody else to turn to, W = 1.215;
    without the 5, 1.190932 - 0.135 = 1.055932: 0.1 + 0.159068; without the 7, 1 - 0.15 = 0.85: 0.1 + 0.365."""
    market = Market(
        Bids(np.array([4, 4, 4]), np.array([36.0, 0, 0]), np.array([0, 0.467123, 0.672902])),
        np.zeros((3, 3)),
        0.0,
    )
    assert market.clear().payments[0] == pytest.approx([0, 0.672902, 0], abs=1e-14)
    assert three().clear().payments[0] == pytest.approx([0, 0.259068, 0.465], abs=1e-6)


def test_subsidised_vcg_worked_by_hand():
    """Sellers receive 0.259068 and 0.465, the buyer pays 0.1 for each, the operator the rest: 0.524068."""
    outcome = three().clear("exact", "vcg-subsidised")
    assert outcome.payments[0] == pytest.approx([0, 0.259068, 0.465], abs=1e-6)
    assert outcome.charges[0].tolist() == [0, 0.1, 0.1]
    assert outcome.paid[0] == pytest.approx(0.2)
    assert outcome.received == pytest.approx([0, 0.259068, 0.465], abs=1e-6)
    assert outcome.subsidy == pytest.approx(0.524068, abs=1e-6)
    assert outcome.utilities == pytest.approx([1.3, 0.159068, 0.365], abs=1e-6)


@tried(SEEDS, st.integers(2, 7), times=30, in_full=150, how=LAW)
def test_vcg_payments_equal_their_definition(seed, m):
    market = random_market(seed, m, "mixed")
    plain, subsidised = market.clear("exact", "vcg"), market.clear("exact", "vcg-subsidised")
    for buyer in range(m):
        if not is_unique(market, buyer):
            continue
        expected = vcg_payments(market, buyer)
        np.testing.assert_allclose(plain.payments[buyer], expected, atol=1e-9 * market.scale)
        np.testing.assert_array_equal(subsidised.payments[buyer], plain.payments[buyer])
        costs = np.where(plain.allocation[buyer], market.bids.export_cost, 0.0)
        np.testing.assert_array_equal(subsidised.charges[buyer], costs)


@tried(markets(min_size=2), st.sampled_from(["greedy", "exact"]), times=30, in_full=150, how=LAW)
def test_marginal_payments_equal_their_definition(market, allocation):
    outcome = market.clear(allocation, "marginal")
    N = market.bids.num_examples
    for buyer, seller in zip(*np.nonzero(outcome.allocation), strict=True):
        with_it = N @ outcome.allocation[buyer]
        expected = market.gain(buyer, N[buyer], with_it) - market.gain(buyer, N[buyer], with_it - N[seller])
        expected -= market.friction(buyer, seller)
        assert outcome.payments[buyer, seller] == pytest.approx(expected, abs=1e-9 * market.scale)


@tried(SEEDS, st.integers(2, 7), times=30, in_full=150, how=LAW)
def test_vcg_never_pays_more_than_marginal_on_the_same_graph(seed, m):
    """W(without j) is at least the value of S without j."""
    market = random_market(seed, m, "mixed")
    vcg, marginal = market.clear("exact", "vcg"), market.clear("exact", "marginal")
    np.testing.assert_array_equal(vcg.allocation, marginal.allocation)
    assert (vcg.payments <= marginal.payments + 1e-9 * market.scale).all()

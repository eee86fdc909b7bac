"""Sparse markets: equal to brute force and to dense markets, whatever the blocks."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.sparse import coo_array, csc_array, csr_array

from ipfl.errors import BidError
from ipfl.market import Bids, audit, by_the_truth, candidates, clear, clearing, quote, quote_range, well_being
from ipfl.market import without_payments as given_graph
from market.oracles import (
    COSTLY,
    LAW,
    RULE_PAIRS,
    SEEDS,
    Market,
    best_value,
    is_unique,
    markets,
    random_market,
)
from tried import tried

PAIRS = st.sampled_from(RULE_PAIRS)
VECTORS = ("gains", "costs", "frictions", "paid", "received", "utilities", "surpluses")
MATRICES = ("allocation", "payments", "charges")


def stored(distance, wanted):
    """A csr_array that stores these pairs' distances, zeros too."""
    rows, columns = np.nonzero(wanted)
    starts = np.concatenate([[0], np.cumsum(wanted.sum(axis=1))])
    return csr_array((distance[rows, columns], columns, starts), shape=distance.shape)


def everybody(market):
    return stored(market.distance, ~np.eye(len(market.bids), dtype=bool))


def assert_equal(sparse, dense, scale):
    for field in MATRICES:
        found = getattr(sparse, field)
        assert isinstance(found, csr_array)
        np.testing.assert_array_equal(found.toarray(), getattr(dense, field))
    for field in VECTORS:
        np.testing.assert_allclose(getattr(sparse, field), getattr(dense, field), atol=1e-12 * scale)
    for field in ("welfare", "objective", "subsidy"):
        assert getattr(sparse, field) == pytest.approx(getattr(dense, field), abs=1e-11 * scale)
    for field in ("bound", "gap"):
        np.testing.assert_allclose(getattr(sparse, field), getattr(dense, field), atol=1e-11 * scale)
    for found, expected in zip(sparse.edges(), dense.edges(), strict=True):
        np.testing.assert_array_equal(found, expected)


@tried(markets(), PAIRS, st.integers(1, 4), times=40, in_full=200, how=LAW)
def test_with_everybody_on_offer_it_is_the_dense_market(market, pair, block):
    with mock.patch.object(candidates, "BLOCK_BUYERS", block):
        sparse = clear(market.bids, everybody(market), market.lam, *pair)
    assert_equal(sparse, market.clear(*pair), market.scale)


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
@pytest.mark.parametrize("curves", [None, "built-in"])
def test_of_a_market_large_enough_for_compiled_code_and_threads_too(pair, curves):
    market = random_market(5, 40, curves)
    with mock.patch.object(clearing, "THREADS_FROM", 1):
        sparse = clear(market.bids, everybody(market), market.lam, *pair, workers=2)
    assert_equal(sparse, market.clear(*pair), market.scale)


@tried(SEEDS, st.integers(2, 7), PAIRS, st.floats(0, 1), times=20, in_full=120, how=COSTLY)
def test_each_buyer_does_its_best_among_its_candidates(seed, m, pair, share):
    """A buyer's set is the one of the market of its candidates alone; under the exact rule, that of brute force."""
    market = random_market(seed, m, "mixed")
    wanted = np.random.default_rng(seed).random((m, m)) < share
    outcome = clear(market.bids, stored(market.distance, wanted), market.lam, *pair)
    assert not (outcome.allocation.toarray() & ~wanted).any()
    for buyer in range(m):
        members = np.flatnonzero(wanted[buyer] | (np.arange(m) == buyer))
        alone = Market(market.bids.take(members), market.distance[np.ix_(members, members)], market.lam)
        place = int(np.searchsorted(members, buyer))
        expected = alone.clear(*pair)
        for field in MATRICES:
            np.testing.assert_array_equal(
                getattr(outcome, field).toarray()[buyer, members], getattr(expected, field)[place]
            )
        if pair[0] == "exact" and is_unique(alone, place):
            value = outcome.gains[buyer] - outcome.frictions[buyer]
            value -= (outcome.allocation.toarray()[buyer] * market.bids.export_cost).sum()
            assert value == pytest.approx(best_value(alone, place), abs=1e-9 * market.scale)


def test_a_stored_zero_is_a_candidate_and_nothing_stored_is_none():
    bids = Bids(np.array([4, 4, 4]), np.array([36.0, 0, 0]), np.array([0.0, 0.1, 0.0]))
    offer = csr_array((np.zeros(1), np.array([1]), np.array([0, 1, 1, 1])), shape=(3, 3))
    edges = clear(bids, offer, 0.5).edges()
    assert (edges.buyers.tolist(), edges.sellers.tolist()) == ([0], [1])
    assert clear(bids, csr_array((3, 3)), 0.5).allocation.nnz == 0


@pytest.mark.parametrize("value", [np.nan, -7.0])
def test_what_is_stored_of_oneself_is_not_read(value):
    market = random_market(1, 4)
    own = market.distance.copy()
    np.fill_diagonal(own, value)
    assert_equal(clear(market.bids, csr_array(own), market.lam), market.clear(), market.scale)


@tried(SEEDS, st.integers(2, 7), PAIRS, times=20, in_full=120, how=LAW)
def test_by_the_truth_it_is_judged_as_a_dense_market_is(seed, m, pair):
    market = random_market(seed, m, "mixed")
    reported = market.reporting(0, export_cost=market.bids.export_cost[0] / 2, num_examples=3)
    sparse = clear(reported.bids, everybody(market), market.lam, *pair)
    dense = reported.clear(*pair)
    for distance in (everybody(market), market.distance):
        found = by_the_truth(sparse, market.bids, distance, market.lam)
        assert_equal(found, by_the_truth(dense, market.bids, market.distance, market.lam), market.scale)


def test_a_given_graph_may_be_sparse():
    market = random_market(2, 6)
    used = np.random.default_rng(0).random((6, 6)) < 0.4
    np.fill_diagonal(used, False)
    sent = ~np.eye(6, dtype=bool)
    dense = given_graph(market.bids, market.distance, market.lam, used, sent)
    sparse = given_graph(market.bids, everybody(market), market.lam, csr_array(used), csr_array(sent))
    for field in VECTORS:
        np.testing.assert_allclose(getattr(sparse, field), getattr(dense, field), atol=1e-12 * market.scale)
    assert sparse.payments.nnz == used.sum()
    assert not sparse.payments.data.any()
    with pytest.raises(BidError, match="expected an empty diagonal"):
        given_graph(market.bids, everybody(market), market.lam, csr_array(np.eye(6, dtype=bool)))


def test_a_purchase_from_nobodys_candidate_cannot_be_judged():
    market = random_market(3, 5)
    outcome = market.clear()
    buyer, seller = outcome.edges().buyers[-1], outcome.edges().sellers[-1]
    fewer = ~np.eye(5, dtype=bool)
    fewer[buyer, seller] = False
    with pytest.raises(
        BidError, match=f"participant {buyer} buys from {seller}, who is not among its candidates"
    ):
        well_being(market.bids, outcome, stored(market.distance, fewer), market.lam)


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        (csc_array(np.ones((3, 3))), "distance is a csc_array, expected a NumPy array or a csr_array"),
        (csr_array(np.ones((2, 3))), r"distance has shape \(2, 3\), expected \(3, 3\), one row per participant"),
        (csr_array(np.ones((3, 3), dtype=bool)), "distance holds no numbers"),
        (csr_array(np.full((3, 3), 2.5)), r"participant 0: distance to 1 is 2.5, expected a finite number in \[0, 2\]"),
        (csr_array(np.full((3, 3), np.nan)), "participant 0: distance to 1 is nan"),
        (
            csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2, 2, 2])), shape=(3, 3)),
            "distance has a pair twice or columns out of order: call its sum_duplicates",
        ),
        (
            csr_array((np.ones(2), np.array([2, 1]), np.array([0, 2, 2, 2])), shape=(3, 3)),
            "distance has a pair twice or columns out of order",
        ),
    ],
)  # fmt: skip
def test_sparse_distances_that_make_no_market_are_refused(distance, message):
    bids = Bids(np.array([4, 4, 4]), np.array([36.0, 0, 0]), np.zeros(3))
    with pytest.raises(BidError, match=message):
        clear(bids, distance)


def test_other_sparse_formats_are_refused():
    from ipfl.market.problems import check_market

    bids = Bids(np.array([4, 4]), np.array([36.0, 0]), np.zeros(2))
    with pytest.raises(BidError, match=r"expected one of shape \(m, m\) or a csr_array"):
        check_market(bids, coo_array(np.ones((2, 2))), 0.1)


def test_an_audit_and_a_quote_need_all_distances():
    market = random_market(0, 3)
    sparse = everybody(market)
    with pytest.raises(BidError, match="an audit needs the distance of every pair: give a dense array"):
        audit(market.bids, sparse)
    with pytest.raises(BidError, match="a quote needs the distance of every pair: give a dense array"):
        quote(market.bids, sparse, 4, 1.0, 0.1)
    with pytest.raises(BidError, match="a quote needs the distance of every pair: give a dense array"):
        quote_range(market.bids, sparse, "valuation", [1.0], 4, 1.0, 0.1)


def test_memory_and_work_grow_with_candidates():
    """What a block holds does not depend on m: 16 buyers, their candidates and themselves."""
    m, k = 5000, 4
    random = np.random.default_rng(0)
    distance = csr_array(
        (random.random(m * k), random.integers(0, m, m * k), np.arange(0, m * k + 1, k)), shape=(m, m)
    )
    distance.sum_duplicates()
    distance.data %= 2.0
    bids = Bids(np.full(m, 5), np.full(m, 40.0), np.full(m, 0.1))
    block, sellers = candidates.candidate_problems(bids, distance, 0.1, slice(32, 48))
    assert block.frictions.shape == (16, len(sellers))
    assert len(sellers) <= 16 * (k + 1)
    assert (sellers[block.buyers] == np.arange(32, 48)).all()
    outcome = clear(bids, distance, 0.1)
    assert outcome.allocation.nnz > 0
    assert {field.name for field in dataclasses.fields(outcome)} >= set(VECTORS)

"""Laws of rounding shares to counts that the stock can serve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ipfl.data.apportion import apportion, quotas, ration, size_served
from tried import tried


@given(
    total=st.integers(0, 500), shares=hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(0.01, 1.0))
)
def test_apportioned_counts_sum_up_and_are_within_one(total, shares):
    counts = apportion(total, shares)
    assert counts.sum() == total
    assert np.abs(counts - total * shares / shares.sum()).max() < 1


@st.composite
def markets(draw):
    m, classes = draw(st.integers(1, 7)), draw(st.integers(2, 5))
    shares = draw(hnp.arrays(np.float64, (m, classes), elements=st.floats(0.0, 1.0))) + 1e-3
    stock = draw(hnp.arrays(np.int64, classes, elements=st.integers(0, 60)))
    return shares / shares.sum(axis=1, keepdims=True), stock


@tried(markets(), times=100, in_full=1000, how=settings(deadline=None))
def test_quotas_keep_within_stock_shares_and_two_classes(market):
    shares, stock = market
    counts = quotas(shares, stock)
    sizes = counts.sum(axis=1)
    assert (sizes == sizes[0]).all()
    assert (counts.sum(axis=0) <= stock).all()
    assert sizes[0] <= size_served(shares, stock) + 1e-6
    if sizes[0] > 0:
        assert ((counts > 0).sum(axis=1) >= 2).all()
        away = np.abs(counts - sizes[0] * shares)
        lonely = np.sort(shares, axis=1)[:, -2] * sizes[0] < 1
        assert (away[~lonely] < 1 + 1e-9).all()
        assert (away < 2 + 1e-9).all()


def test_rounding_up_too_often_is_moved_to_a_class_in_stock():
    # 1.5 and 2.5 each: all would round to 2 and 2, but class 0 has 6 examples only
    shares = np.tile([0.375, 0.625], (4, 1))
    assert sorted(quotas(shares, np.array([6, 10])).tolist()) == [[1, 3], [1, 3], [2, 2], [2, 2]]


def test_a_single_class_is_given_a_second():
    assert quotas(np.array([[1.0, 0.0, 0.0]]), np.array([5, 0, 3])).tolist() == [[4, 0, 1]]


def test_stock_of_one_class_serves_nobody():
    assert quotas(np.array([[1.0, 0.0]]), np.array([5, 0])).tolist() == [[0, 0]]


@settings(max_examples=100, deadline=None)
@given(markets())
def test_rationed_shares_can_be_served_and_keep_their_odds(market):
    shares, stock = market
    size = int(0.8 * stock.sum() / len(shares))
    rationed = ration(shares, stock, size)
    assert np.allclose(rationed.sum(axis=1), 1.0)
    assert (size * rationed.sum(axis=0) <= stock + 0.02 * size + 1e-6).all()
    weights = rationed / shares
    if (weights > 1e-6).all():
        relative = weights / weights[:, :1]
        assert np.allclose(relative, relative[0], rtol=1e-6)


def test_shares_that_the_stock_serves_are_left_alone():
    shares = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert np.allclose(ration(shares, np.array([100, 100]), 10), shares)


@pytest.mark.parametrize("times", [800, pytest.param(10_000, id="in-full", marks=pytest.mark.slow)])
def test_where_moving_single_examples_fails_the_size_gives_way_by_one_at_most(times):
    rng = np.random.default_rng(0)
    short = set()
    for _ in range(times):
        shares = rng.dirichlet(np.ones(4), size=3)
        stock = rng.integers(1, 12, 4)
        short.add(int(size_served(shares, stock)) - int(quotas(shares, stock)[0].sum()))
    assert short == {0, 1}


def test_rationing_ends_even_where_nothing_can_be_served():
    rationed = ration(np.array([[0.5, 0.5]]), np.array([1, 1]), 100)
    assert np.allclose(rationed.sum(axis=1), 1.0)

"""The parts of the search, one by one, as plain Python; and how it is compiled."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.market import compiled, search
from market.oracles import CURVES, LAW

SQUARE_ROOT = (0.0, 0.0, 0.0)


@settings(LAW, max_examples=150)
@given(
    st.sampled_from([SQUARE_ROOT, (1.0, 0.3, 1.0), (2.0, 1.0, 5.0), CURVES[-1]]),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 60),
    st.one_of(st.just(0.0), st.floats(1e-5, 1.0)),
    st.floats(-500, 1000),
)
def test_peak_total_is_the_best_total_of_the_lattice_from_any_guess(curve, own, step, count, rate, guess):
    totals = own + step * np.arange(count + 1.0)
    values = np.array([3.0 * search.added_gain(curve, own, n - own) - rate * n for n in totals])
    found = search.peak_total(curve, 3.0, rate, float(own), float(step), totals[-1], guess)
    assert found in totals
    assert values[totals == found][0] == pytest.approx(values.max(), rel=1e-12, abs=1e-12)


@LAW
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_common_divisor_is_the_greatest(sizes):
    assert search.common_divisor(np.array(sizes, dtype=float)) == math.gcd(*sizes)


STATES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8)


@settings(LAW, max_examples=100)
@given(STATES, st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_merge_keeps_the_states_that_no_other_dominates(points, size, price, adding):
    """A state is kept if none has as many examples or more at no higher cost."""
    frontier = pareto(points)
    if not adding:
        size, price = -size, -price
    totals, costs = (np.array(column, dtype=float) for column in zip(*frontier, strict=True))
    count = len(frontier)
    parents, items = np.zeros(100, dtype=np.int64), np.zeros(100, dtype=np.int64)
    out = np.empty(100), np.empty(100), np.empty(100, dtype=np.int64)
    nodes = np.arange(count)
    written, made = search.merge_flips(
        totals, costs, nodes, count, size, price, 7, count, parents, items, *out
    )
    expected = pareto([*frontier, *((n + size, cost + price) for n, cost in frontier)])
    assert list(zip(out[0][:written], out[1][:written], strict=True)) == expected
    for n, cost, node in zip(*(column[:written] for column in out), strict=True):
        if node < count:
            assert (n, cost) == frontier[node]
        else:
            assert node < made
            assert items[node] == 7
            before = frontier[parents[node]]
            assert (n, cost) == (before[0] + size, before[1] + price)


def pareto(points):
    """Largest total first; strictly cheaper from each to the next."""
    kept = []
    for n, cost in sorted(set(points), key=lambda point: (-point[0], point[1])):
        if not kept or cost < kept[-1][1]:
            kept.append((n, cost))
    return kept


def test_fill_worked_by_hand():
    """K = 36, N = 4, sellers of 5 and 7: the 5 add 3 - 2 = 1 and the 7 then 2 - 1.5 = 0.5."""
    sizes = np.array([5.0, 7.0])
    assert search.fill(SQUARE_ROOT, 6.0, sizes, np.array([0.4, 0.49]), -1, 0, 4.0, 0.0) == (2, 16.0, 0.89)
    assert search.fill(SQUARE_ROOT, 6.0, sizes, np.array([0.4, 0.51]), -1, 0, 4.0, 0.0) == (1, 9.0, 0.4)
    assert search.fill(SQUARE_ROOT, 6.0, sizes, np.array([0.4, 0.49]), 0, 0, 4.0, 0.0) == (2, 11.0, 0.49)


def test_set_is_written_from_its_flips():
    """Filled up to place 2; node 2 flips place 0, its parent node 1 flips place 3."""
    chosen = np.zeros(4, dtype=bool)
    parents, items = np.array([0, 0, 1]), np.array([0, 3, 0])
    search.write_set(chosen, 4, 2, -1, 2, parents, items)
    assert chosen.tolist() == [False, True, False, True]
    search.write_set(chosen, 4, 2, 1, -1, parents, items)
    assert chosen.tolist() == [True, False, False, False]


def test_compiled_code_takes_helpers_by_name():
    """What Numba is told: where plain code calls one function, compiled code calls another of like arguments."""
    for name in compiled.HELPERS:
        assert callable(getattr(search, name))
    choose = compiled.stand_in(search.coded_gain)
    bare = choose("curve", "before", more="more")
    assert bare.__code__ is search.coded_gain.__code__
    assert not bare.__annotations__
    assert [*choose.__signature__.parameters] == ["curve", "before", "more"]


def test_compiled_without_a_cache_where_no_folder_can_be_written():
    asked = []

    def njit(**options):
        asked.append(options)
        if "cache" in options:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    assert compiled.compile_cached(njit, search.solve_rows) is search.solve_rows
    assert asked == [{"cache": True, "nogil": True}, {"nogil": True}]


def test_every_pair_of_flips_is_reachable():
    """Two sellers left and right of where filling stops: all four sets can be the best."""
    seen = set()
    for prices in itertools.product([0.1, 0.5, 0.9, 1.3], repeat=2):
        values = np.zeros(1), np.zeros(1)
        allocation = np.zeros((1, 3), dtype=bool)
        search.solve_rows(
            [SQUARE_ROOT], np.array([6.0]), np.array([4.0]), np.array([2]), np.array([5.0, 7.0, 4.0]),
            np.array([[*prices, 0.0]]), False, 1e-12, 1000, allocation, np.zeros((1, 3)), *values,
        )  # fmt: skip
        seen.add(tuple(allocation[0].tolist()))
        assert values[0] == values[1]
    assert seen == {(a, b, False) for a, b in itertools.product([False, True], repeat=2)}


def test_sellers_that_add_less_than_their_price_are_left_out():
    """K = 36, N = 4, sellers of 5 and 7, all three together worth 1.5. The 5 add 0.309068 and the 7 add 0.5: at 0.4
    the 5 are left out, which is worth 0.090932 more; the 7 then add 3 - 6/sqrt(11) = 1.190932, more than 0.6."""
    chosen = np.array([True, True])
    total, value = search.drop_losers(
        SQUARE_ROOT, 6.0, 4.0, np.array([5.0, 7.0]), np.array([0.4, 0.6]), 0.5, chosen
    )
    assert chosen.tolist() == [False, True]
    assert total == 11.0
    assert value == pytest.approx(3 - 6 / math.sqrt(11) - 0.6)

"""Distances: worked by hand, and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import cosine_distances, distance
from market.oracles import LAW, SEEDS


def test_distance_worked_by_hand():
    """cos((1, 0), (3, 4)) = 3/5, cos((1, 0), (0, -2)) = 0, cos((3, 4), (0, -2)) = -4/5."""
    found = cosine_distances(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]]))
    np.testing.assert_allclose(found, [[0, 0.4, 1], [0.4, 0, 1.8], [1, 1.8, 0]], atol=1e-15)


@LAW
@given(SEEDS, st.integers(0, 6), st.integers(0, 30), st.sampled_from([np.float32, np.float64]))
def test_distance_is_symmetric_in_range_and_one_minus_cosine(seed, m, p, dtype):
    updates = np.random.default_rng(seed).standard_normal((m, p)).astype(dtype)
    found = cosine_distances(updates)
    assert (found == found.T).all()
    assert ((found >= 0) & (found <= 2)).all()
    assert (found.diagonal() == 0).all()
    for a in range(m):
        for b in range(a):
            v, w = updates[a].astype(float), updates[b].astype(float)
            norms = np.linalg.norm(v) * np.linalg.norm(w)
            assert found[a, b] == pytest.approx(1 - v @ w / norms if norms else 1.0, abs=2e-6)


@LAW
@given(SEEDS, st.floats(-30, 30))
def test_distance_does_not_depend_on_length(seed, exponent):
    updates = np.random.default_rng(seed).standard_normal((4, 7))
    longer = updates.copy()
    longer[1] *= 10.0**exponent
    np.testing.assert_allclose(cosine_distances(longer), cosine_distances(updates), atol=1e-14)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1e307])
def test_squares_neither_overflow_nor_vanish(size):
    found = cosine_distances(size * np.array([[1.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(found, [[0, 0.4], [0.4, 0]], atol=1e-3)


def test_update_of_zeros_is_at_distance_one_from_all_others():
    found = cosine_distances(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))
    assert found.tolist() == [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]


def test_columns_are_summed_in_chunks(monkeypatch):
    updates = np.random.default_rng(0).standard_normal((3, 50))
    whole = cosine_distances(updates)
    monkeypatch.setattr(distance, "COLUMN_CHUNK", 7)
    np.testing.assert_allclose(cosine_distances(updates), whole, atol=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_update_that_is_not_finite_is_refused_by_row(value):
    updates = np.ones((4, 3))
    updates[2, 1] = value
    with pytest.raises(BidError, match="the update of participant 2 has an entry that is not finite"):
        cosine_distances(updates)

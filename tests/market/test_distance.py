"""Distances: worked by hand, and their laws."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ipfl.errors import BidError
from ipfl.market import cosine_distances, distance, pair_distances
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


@pytest.mark.parametrize("tile", [1, 2, 5])
@pytest.mark.parametrize("m", [0, 1, 4, 11])
def test_rows_are_multiplied_in_tiles_on_threads(monkeypatch, m, tile):
    updates = np.random.default_rng(0).standard_normal((m, 9))
    whole = cosine_distances(updates)
    monkeypatch.setattr(distance, "TILE", tile)
    monkeypatch.setattr(distance, "THREADS_FROM", 0)
    found = cosine_distances(updates)
    np.testing.assert_allclose(found, whole, atol=1e-15)
    assert (found == found.T).all()


DIGEST = """
import hashlib, numpy as np
from ipfl.market import cosine_distances
updates = np.random.default_rng(0).standard_normal(({m}, 5000), dtype=np.float32)
print(hashlib.sha256(cosine_distances(updates).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("m", [12, 200])
def test_last_digits_do_not_depend_on_the_threads_of_linear_algebra(m):
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGEST.format(m=m)],
            env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads)},
            capture_output=True, text=True, check=True,
        ).stdout
        for threads in (1, 2)
    }  # fmt: skip
    updates = np.random.default_rng(0).standard_normal((m, 5000), dtype=np.float32)
    assert found == {hashlib.sha256(cosine_distances(updates).tobytes()).hexdigest() + "\n"}


def test_float32_sums_are_as_good_as_float64_in_long_updates():
    updates = np.random.default_rng(1).standard_normal((3, 1_000_000), dtype=np.float32)
    np.testing.assert_allclose(
        cosine_distances(updates), cosine_distances(updates.astype(np.float64)), atol=1e-7
    )


@LAW
@given(SEEDS, st.integers(0, 6), st.integers(0, 30), st.sampled_from([np.float32, np.float64]))
def test_distances_of_pairs_are_those_of_all(seed, m, p, dtype):
    random = np.random.default_rng(seed)
    updates = random.standard_normal((m, p)).astype(dtype)
    updates[random.random(m) < 0.2] = 0.0
    if m:
        updates[0] *= 1e-30 if dtype is np.float32 else 1e-200  # squares of these vanish
    wanted = random.random((m, m)) < 0.4
    found = pair_distances(updates, csr_array(wanted))
    assert (found.nnz, found.dtype) == (wanted.sum(), np.float64)
    rows, columns = np.nonzero(wanted)
    expected = cosine_distances(updates)[rows, columns]
    expected[rows == columns] = found.data[rows == columns]  # oneself: 0, or 1 for an update of zeros
    np.testing.assert_allclose(found.data, expected, atol=2e-6)


def test_pairs_of_long_updates_are_summed_in_chunks_on_threads(monkeypatch):
    updates = np.random.default_rng(0).standard_normal((7, 50))
    pairs = csr_array(1.0 - np.eye(7))
    monkeypatch.setattr(distance, "PAIR_CHUNK", 8)
    monkeypatch.setattr(distance, "TILE", 2)
    monkeypatch.setattr(distance, "THREADS_FROM", 0)
    np.testing.assert_allclose(
        pair_distances(updates, pairs).toarray(), cosine_distances(updates), atol=1e-14
    )


def test_pairs_of_another_number_of_participants_are_refused():
    with pytest.raises(BidError, match=r"pairs have shape \(2, 2\), expected \(3, 3\)"):
        pair_distances(np.ones((3, 4)), csr_array(np.eye(2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_update_that_is_not_finite_is_refused_by_row(value):
    updates = np.ones((4, 3))
    updates[2, 1] = value
    for measure in (cosine_distances, lambda given: pair_distances(given, csr_array(np.eye(4)))):
        with pytest.raises(BidError, match="the update of participant 2 has an entry that is not finite"):
            measure(updates)

"""Candidates: the k nearest by brute force, ties, and the library that searches among thousands."""

import builtins

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import BidError, ConfigError
from ipfl.market import cosine_distances, nearest, neighbours
from ipfl.market.neighbours import fold, smallest
from market.oracles import LAW, SEEDS


def brute_force(distance, k):
    """For each row the k smallest, lower index first among equals, without oneself."""
    m = len(distance)
    return [sorted(sorted(set(range(m)) - {i}, key=lambda j: (distance[i, j], j))[:k]) for i in range(m)]


@LAW
@given(SEEDS, st.integers(0, 9), st.integers(1, 12))
def test_candidates_are_the_k_nearest(seed, m, k):
    sketches = np.random.default_rng(seed).standard_normal((m, 5))
    found = nearest(sketches, k)
    assert found.shape == (m, m)
    distance = cosine_distances(sketches)
    rows = [row.tolist() for row in np.split(found.indices, found.indptr[1:-1])] if m else []
    assert rows == brute_force(distance, k)
    for row in range(m):
        np.testing.assert_allclose(
            found.data[found.indptr[row] : found.indptr[row + 1]], distance[row, rows[row]], atol=1e-6
        )


def test_of_equals_the_lower_index_is_nearer():
    sketches = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    assert nearest(sketches, 2).indices.reshape(5, 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [1, 2]]


@LAW
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=4, max_size=4), min_size=1),
    st.integers(1, 4),
)
def test_smallest_takes_the_first_of_equals(values, k):
    expected = [sorted(sorted(range(4), key=lambda place: (row[place], place))[:k]) for row in values]
    assert smallest(np.array(values), k).tolist() == expected


def test_blocks_of_rows_do_not_matter(monkeypatch):
    sketches = np.random.default_rng(0).standard_normal((1010, 6))
    whole = nearest(sketches, 4)
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 100)
    parts = nearest(sketches, 4)
    assert (whole.indices == parts.indices).all()
    assert (whole.data == parts.data).all()


def clusters(m, size):
    random = np.random.default_rng(0)
    centres = random.standard_normal((m // 20, size))
    return (centres[np.arange(m) % len(centres)] + 0.5 * random.standard_normal((m, size))).astype(np.float32)


def test_a_searched_graph_finds_nearly_all_and_the_same_every_time():
    pytest.importorskip("faiss")
    sketches = clusters(600, 700)
    exact, searched = nearest(sketches, 10, search=False), nearest(sketches, 10, search=True)
    assert exact.multiply(searched).nnz >= 0.95 * exact.nnz
    again = nearest(sketches, 10, search=True)
    for field in ("indices", "indptr", "data"):
        np.testing.assert_array_equal(getattr(searched, field), getattr(again, field))
    assert searched.data.max() <= 2
    assert not searched.diagonal().any()
    assert np.diff(searched.indptr).tolist() == [10] * 600


def test_a_graph_is_searched_from_so_many_participants_on(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "SEARCH_FROM", 40)
    asked = []
    searched = neighbours._searched
    monkeypatch.setattr(neighbours, "_searched", lambda *given: asked.append(1) or searched(*given))
    nearest(clusters(40, 8), 3)
    assert asked == [1]
    nearest(clusters(39, 8), 3)
    assert asked == [1]
    assert nearest(clusters(40, 8)[:1], 3, search=True).nnz == 0  # nobody to find


def test_without_the_library_its_extra_is_named(monkeypatch):
    real = builtins.__import__

    def fail(name, *rest):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(ConfigError, match=r"needs faiss: pip install 'ipfl\[scale\]'"):
        nearest(clusters(40, 8), 3, search=True)


def test_folded_sketches_are_sums_of_buckets():
    assert fold(np.arange(10.0)[None], 4).tolist() == [[0 + 4 + 8, 1 + 5 + 9, 2 + 6, 3 + 7]]


def test_bad_input_is_refused():
    with pytest.raises(BidError, match="candidates are 0, expected a whole number >= 1"):
        nearest(np.ones((3, 2)), 0)
    with pytest.raises(BidError, match="the sketch of participant 1 has an entry that is not finite"):
        nearest(np.array([[1.0, 2.0], [np.nan, 1.0]]), 1)

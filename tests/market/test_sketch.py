"""Sketches: their laws, and their error against the formulas, over many seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import cosine_distances, sketch, sketch_error
from market.oracles import LAW, SEEDS


def pair(cosine, p, seed=0):
    """Two updates of length one at this cosine."""
    random = np.random.default_rng(seed)
    x, z = np.linalg.qr(random.standard_normal((p, 2)))[0].T
    return np.stack([x, cosine * x + np.sqrt(1 - cosine**2) * z])


@LAW
@given(SEEDS, st.integers(0, 5), st.integers(1, 40), st.integers(1, 60))
def test_a_sketch_is_linear_and_of_each_row_alone(seed, m, p, size):
    updates = np.random.default_rng(seed).standard_normal((m, p))
    found = sketch(updates, size, seed=7)
    assert found.shape == (m, size)
    for row in range(m):
        np.testing.assert_array_equal(sketch(updates[row : row + 1], size, seed=7)[0], found[row])
    np.testing.assert_array_equal(sketch(-2.0 * updates, size, seed=7), -2.0 * found)
    total = sketch(updates.sum(axis=0, keepdims=True), size, seed=7)
    np.testing.assert_allclose(total[0], found.sum(axis=0), atol=1e-5)


@LAW
@given(SEEDS, st.integers(1, 40), st.integers(0, 30))
def test_nothing_is_lost_where_a_sketch_is_as_long_as_the_update(seed, p, more):
    updates = np.random.default_rng(seed).standard_normal((4, p))
    found = sketch(updates, p + more, seed)
    np.testing.assert_allclose(np.sort(np.abs(found))[:, more:], np.sort(np.abs(updates)), rtol=1e-6)
    np.testing.assert_allclose(cosine_distances(found), cosine_distances(updates), atol=1e-5)


@pytest.mark.parametrize(("p", "size"), [(10, 4), (9, 3), (1000, 64)])
def test_every_coordinate_is_in_one_bucket_and_buckets_are_equally_full(p, size):
    """The sketches of unit vectors are the columns of the projection."""
    columns = sketch(np.eye(p), size, seed=3)
    assert (np.abs(columns).sum(axis=1) == 1).all()
    full = np.abs(columns).sum(axis=0)
    assert set(full) <= {p // size, -(-p // size)}
    together = (full * (full - 1)).sum() / (p * (p - 1))
    assert sketch_error(p, size) == pytest.approx(np.sqrt(together))
    assert together <= 1 / size


def test_another_seed_is_another_projection():
    updates = np.random.default_rng(0).standard_normal((2, 50))
    np.testing.assert_array_equal(sketch(updates, 20, 1), sketch(updates, 20, 1))
    assert (sketch(updates, 20, 1) != sketch(updates, 20, 2)).any()


@pytest.mark.parametrize("p", [300, 4000])
@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9, -0.7])
def test_error_of_a_sketched_distance_is_the_one_stated(cosine, p):
    """Over 400 seeds: no bias worth the name, and the standard deviation within 15 % of the formula."""
    updates, size = pair(cosine, p), 200
    sketches = np.concatenate([sketch(updates, size, seed) for seed in range(400)])
    found = np.diagonal(cosine_distances(sketches), offset=1)[::2]
    stated = sketch_error(p, size, cosine)
    assert abs(found.mean() - (1 - cosine)) <= 4 * stated / np.sqrt(400) + 2 / size * abs(cosine)
    assert found.std() == pytest.approx(stated, rel=0.15)


def test_inner_products_have_the_mean_and_the_variance_stated_even_where_few_coordinates_dominate():
    x, y = np.zeros((2, 60))
    x[:4], y[:6] = (5.0, -3.0, 1.0, 2.0), (4.0, 1.0, 1.0, -1.0, 0.5, 2.0)
    size, p = 20, 60
    products = [float(np.prod(sketch(np.stack([x, y]), size, s), axis=0).sum()) for s in range(1000)]
    variance = sketch_error(p, size) ** 2 * ((x @ x) * (y @ y) + (x @ y) ** 2 - 2 * (x**2 * y**2).sum())
    assert np.mean(products) == pytest.approx(x @ y, abs=4 * np.sqrt(variance / 1000))
    assert np.var(products) == pytest.approx(variance, rel=0.25)


def test_an_error_is_smaller_the_longer_the_sketch_and_the_smaller_the_angle():
    assert sketch_error(62_006, 4096) < sketch_error(62_006, 1024)
    assert sketch_error(62_006, 4096, 0.9) < sketch_error(62_006, 4096, 0.1)
    assert sketch_error(1, 1) == 0.0


def test_the_direction_of_an_enormous_update_is_kept():
    updates = np.ones((2, 4), dtype=np.float32)
    updates[1] *= np.float32(3e38)
    found = sketch(updates, 1, seed=0)
    assert np.isfinite(found).all()
    assert abs(found[1, 0]) == pytest.approx(1e30) or found[0, 0] == 0.0


def test_many_updates_are_sketched_on_threads():
    updates = np.random.default_rng(0).standard_normal((64, 20_000))
    found = sketch(updates, 100)
    np.testing.assert_array_equal(found[5:6], sketch(updates[5:6], 100))


def test_a_size_below_one_is_refused():
    with pytest.raises(BidError, match="the size of a sketch is 0, expected a whole number >= 1"):
        sketch(np.ones((2, 3)), 0)

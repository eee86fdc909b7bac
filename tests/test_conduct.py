"""What each conduct does to an update, and to nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.conduct import CONDUCTS, find_conduct
from ipfl.errors import ConfigError

LAW = settings(deadline=None, derandomize=True, max_examples=60)
SEEDS = st.integers(0, 2**32 - 1)


def applied(name, seed, p=11):
    update = np.random.default_rng(seed).standard_normal(p).astype(np.float32)
    before = update.copy()
    others = np.random.default_rng(seed + 2).standard_normal((2, p)).astype(np.float32)
    updates = np.stack([others[0], update, others[1]])
    published = find_conduct(name, "a")(updates, 1, np.random.default_rng(seed + 1))
    np.testing.assert_array_equal(updates[1], before, err_msg="the participant's own update must not change")
    return update, published


@LAW
@given(st.sampled_from(sorted(CONDUCTS)), SEEDS, st.integers(1, 40))
def test_every_conduct_keeps_shape_and_type_and_repeats_and_most_keep_the_norm(name, seed, p):
    update, published = applied(name, seed, p)
    assert published.shape == update.shape
    assert published.dtype == np.float32
    if name not in ("scaled", "little", "free_ride"):
        assert np.linalg.norm(published) == pytest.approx(np.linalg.norm(update), rel=1e-5)
    np.testing.assert_array_equal(published, applied(name, seed, p)[1])


@LAW
@given(SEEDS)
def test_honest_publishes_its_update(seed):
    update, published = applied("honest", seed)
    np.testing.assert_array_equal(published, update)


@LAW
@given(SEEDS)
def test_sign_flip_points_the_other_way(seed):
    update, published = applied("sign_flip", seed)
    np.testing.assert_array_equal(published, -update)


@LAW
@given(SEEDS)
def test_shuffle_has_the_same_numbers_in_other_places(seed):
    update, published = applied("shuffle", seed)
    np.testing.assert_array_equal(np.sort(published), np.sort(update))
    assert (published != update).any()


def test_same_value_worked_by_hand():
    """Root mean square of (3, 4, 0, 0): sqrt(25 / 4) = 2.5."""
    update = np.array([3.0, 4.0, 0.0, 0.0], dtype=np.float32)
    published = find_conduct("same_value", "a")(update[None], 0, np.random.default_rng(0))
    np.testing.assert_array_equal(published, np.full(4, 2.5, dtype=np.float32))


def test_gaussian_knows_nothing_of_the_update_but_its_norm():
    """Of two updates of one norm it makes the same noise; in 4000 dimensions noise is at a right angle."""
    first = np.zeros(4000, dtype=np.float32)
    second = first.copy()
    first[0], second[1] = 5.0, -5.0
    noise = find_conduct("gaussian", "a")
    published = noise(first[None], 0, np.random.default_rng(3))
    np.testing.assert_array_equal(published, noise(second[None], 0, np.random.default_rng(3)))
    assert abs(published[0]) < 0.5
    assert np.linalg.norm(published) == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize("name", sorted(CONDUCTS))
def test_update_of_zeros_stays_one(name):
    zeros = np.zeros(6, dtype=np.float32)
    np.testing.assert_array_equal(find_conduct(name, "a")(zeros[None], 0, np.random.default_rng(0)), zeros)


@pytest.mark.parametrize(("name", "factor"), [("scaled", 10.0), ("scaled:2.5", 2.5), ("scaled:-1", -1.0)])
def test_scaled_is_so_many_times_the_update(name, factor):
    updates = np.array([[1.0, -2.0], [5.0, 5.0]], dtype=np.float32)
    published = find_conduct(name, "a")(updates, 0, np.random.default_rng(0))
    np.testing.assert_allclose(published, factor * updates[0])


def test_a_little_is_enough_worked_by_hand():
    """Updates 1 and 3 in one coordinate: mean 2, deviation 1; 4 and 4 in the other: mean 4, deviation 0."""
    updates = np.array([[1.0, 4.0], [3.0, 4.0]], dtype=np.float32)
    for name, expected in (("little", [0.5, 4.0]), ("little:2", [0.0, 4.0])):
        for row in (0, 1):  # attackers publish the same, whatever their own update
            published = find_conduct(name, "a")(updates, row, np.random.default_rng(0))
            np.testing.assert_allclose(published, expected)


def test_a_free_rider_shows_nothing():
    updates = np.ones((2, 3), dtype=np.float32)
    assert not find_conduct("free_ride", "a")(updates, 0, np.random.default_rng(0)).any()


@pytest.mark.parametrize("name", ["scaled:", "scaled:much", "little:nan", "scaled:inf"])
def test_a_conduct_with_something_else_than_a_number_is_refused(name):
    with pytest.raises(ConfigError) as error:
        find_conduct(name, "a")
    expected = f"participant a: conduct {name!r}: expected a number after the colon"
    assert str(error.value).startswith(expected)


def test_unknown_conduct_is_refused_with_the_known_ones():
    message = "participant b: unknown conduct 'sulk'; known: honest, sign_flip, shuffle, same_value, gaussian"
    with pytest.raises(ConfigError, match=message):
        find_conduct("sulk", "b")

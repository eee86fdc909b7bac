"""Seeding: every draw is a function of what it is for, and of nothing else."""

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipfl.seeding import Purpose, generator, torch_seed

GOLDEN_DRAW = [6565127009131469259, 1969203116716489924]
GOLDEN_SEED = 1321324144510260761

keys = st.tuples(
    st.integers(0, 2**63 - 1),
    st.integers(-1, 10_000),
    st.integers(-1, 100_000),
    st.sampled_from(get_args(Purpose)),
)


def draw(key, size=4):
    return generator(*key).integers(2**63 - 1, size=size).tolist()


@given(keys)
def test_the_same_key_draws_the_same_whatever_was_drawn_before(key):
    first = draw(key)
    np.random.default_rng(0).random(10)
    generator(*key).random(1000)
    assert draw(key) == first


@given(keys, keys)
def test_different_keys_are_different_streams(one, other):
    if one != other:
        assert draw(one) != draw(other)


def test_a_key_is_not_a_sum_of_its_parts():
    """Participant 11 of round 1 is not participant 1 of round 11, and the like."""
    streams = {tuple(draw((seed, r, p, "batches"))) for seed in (1, 11) for r in (1, 11) for p in (1, 11)}
    assert len(streams) == 8


def test_streams_stay_what_they_were():
    """A golden: changing how generators are keyed would change the result of every run."""
    assert draw((0, 0, 0, "batches"), 2) == GOLDEN_DRAW
    assert torch_seed(0, -1, -1) == GOLDEN_SEED


def test_streams_are_uncorrelated():
    a = np.concatenate([generator(0, r, 0, "batches").standard_normal(200) for r in range(50)])
    b = np.concatenate([generator(0, r, 1, "batches").standard_normal(200) for r in range(50)])
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.04
    assert abs(a.mean()) < 0.04
    assert abs(a.std() - 1) < 0.04


@given(st.integers(0, 2**63 - 1), st.integers(-1, 10_000), st.integers(-1, 100_000))
def test_torch_seeds_are_what_torch_takes(seed, round_index, index):
    assert 0 <= torch_seed(seed, round_index, index) < 2**63

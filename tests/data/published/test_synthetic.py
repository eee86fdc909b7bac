"""Made-up images: their laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.data.published.synthetic import SyntheticSettings, synthetic


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    classes=st.integers(2, 12),
    examples=st.integers(2, 60),
    test_examples=st.integers(0, 20),
    difficulty=st.floats(0, 5),
    seed=st.integers(0, 99),
)
def test_any_shape_equal_classes_and_the_same_again_from_the_same_seed(
    shape, classes, examples, test_examples, difficulty, seed
):
    wanted = SyntheticSettings(
        shape=shape, classes=classes, examples=examples, test_examples=test_examples, difficulty=difficulty
    )
    source, again = synthetic(wanted, seed), synthetic(wanted, seed)
    assert source.x.shape == (examples, *shape)
    assert source.x.dtype == np.float32
    assert np.isfinite(source.x).all()
    counts = np.bincount(source.y, minlength=classes)
    assert counts.max() - counts.min() <= 1
    assert len(set(source.class_names)) == classes
    assert np.array_equal(source.x, again.x)
    assert (source.test is None) == (test_examples == 0)
    assert not np.array_equal(source.x, synthetic(wanted, seed + 1).x)


@pytest.mark.parametrize("shape", [(100,), (1, 16, 16), (3, 24, 24)])
@pytest.mark.parametrize("difficulty", [0.5, 1.0])
def test_who_knows_the_prototypes_errs_as_often_as_difficulty_says(shape, difficulty):
    """Two prototypes at distance D are confused with Phi(-D / (2 sigma)); D^2 is 2 a value in the mean."""
    wanted = SyntheticSettings(shape=shape, classes=2, examples=1200, difficulty=difficulty)
    sigma = difficulty * math.sqrt(math.prod(shape))
    errors, expected, squares = [], [], []
    for seed in range(4):
        source, true = synthetic(wanted, seed), synthetic(wanted.model_copy(update={"difficulty": 0.0}), seed)
        examples = (source.x * math.sqrt(1 + sigma**2)).reshape(1200, -1)
        zero, one = (true.x[true.y == label][0].ravel() for label in (0, 1))
        chosen = (examples - (zero + one) / 2) @ (one - zero) > 0
        errors.append((chosen != source.y).mean())
        distance = float(np.linalg.norm(one - zero))
        expected.append(0.5 * math.erfc(distance / (2 * sigma) / math.sqrt(2)))
        squares.append(distance**2 / math.prod(shape))
    assert np.mean(errors) == pytest.approx(np.mean(expected), abs=0.02)
    assert np.mean(squares) == pytest.approx(2.0, rel=0.4)


def test_neighbouring_pixels_are_alike_in_blocks():
    source = synthetic(SyntheticSettings(shape=(2, 8, 6), classes=2, examples=2, difficulty=0.0), 0)
    picture = source.x[0]
    assert np.array_equal(picture[:, 0::2], picture[:, 1::2])
    assert [len(np.unique(channel)) for channel in picture] == [16, 16]
    small = synthetic(SyntheticSettings(shape=(1, 3, 2), classes=2, examples=2, difficulty=0.0), 0)
    assert len(np.unique(small.x[0])) == 6


def test_more_than_memory_holds_is_refused():
    with pytest.raises(ValueError, match="numbers are more than 2,000,000,000: lower examples or shape"):
        SyntheticSettings(shape=(3, 1000, 1000), examples=1000)


def test_training_and_test_examples_share_prototypes_and_nothing_else():
    wanted = SyntheticSettings(shape=(200,), classes=3, examples=60, test_examples=60, difficulty=0.01)
    source = synthetic(wanted, 0)
    for label in range(3):
        train, test = (part.x[part.y == label] for part in (source, source.test))
        assert np.abs(train.mean(axis=0) - test.mean(axis=0)).max() < 0.2
    assert not set(map(bytes, source.x)) & set(map(bytes, source.test.x))

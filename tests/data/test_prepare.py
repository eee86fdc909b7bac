"""Laws of splitting and standardising one participant's rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ipfl.data.prepare import standardise, stratified_split

VALUES = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
TABLES = hnp.arrays(np.float64, st.tuples(st.integers(2, 20), st.integers(1, 5)), elements=VALUES)


@given(TABLES)
def test_training_features_have_mean_0_and_deviation_1_or_are_0(train):
    x, _ = standardise(train, train[:1])
    assert x.dtype == np.float32
    varied = train.std(axis=0) > 1e-9 * np.abs(train).max(axis=0)
    assert np.allclose(x.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(x.std(axis=0)[varied], 1, atol=1e-4)
    assert (x[:, ~varied & (train.min(axis=0) == train.max(axis=0))] == 0).all()


@settings(max_examples=50)
@given(TABLES, st.sampled_from([0.01, 2.0, 1e6]), st.integers(-50, 50))
def test_units_do_not_matter(train, scale, shift):
    x, test = standardise(train, train[:1])
    x_scaled, test_scaled = standardise(scale * (train + shift), scale * (train[:1] + shift))
    spread = train.std(axis=0)
    clear = spread > 1e-3
    assert np.allclose(x[:, clear], x_scaled[:, clear], atol=1e-3)
    assert np.allclose(test[:, clear], test_scaled[:, clear], atol=1e-3)


def test_test_rows_do_not_enter_the_statistics():
    train = np.array([[0.0], [2.0]])
    near, far = standardise(train, np.array([[1.0]])), standardise(train, np.array([[1e9]]))
    assert np.array_equal(near[0], far[0])


def test_extreme_values_stay_finite():
    train = np.array([[1e308, 1e-308, 5.0], [-1e308, 0.0, 5.0]])
    x, test = standardise(train, np.array([[1e308, 1e308, 6.0]]))
    assert x.tolist() == [[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]
    assert test.tolist() == [[1.0, 1e6, 0.0]]


def test_a_large_offset_is_not_taken_for_a_constant():
    seconds = 1.7e9 + np.arange(10.0)[:, None]
    assert np.isclose(standardise(seconds, seconds)[0].std(), 1.0, atol=1e-4)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.int64, st.integers(2, 40), elements=st.integers(0, 4)),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_split_keeps_every_row_once_and_classes_in_training(labels, test_fraction, seed):
    train, test = stratified_split(labels, test_fraction, np.random.default_rng(seed))
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(labels)))
    assert len(train) >= 1
    assert len(test) >= 1
    counts = np.bincount(labels)
    kept = np.bincount(labels[train], minlength=len(counts))
    assert (kept[counts >= 2] >= 1).all()
    if len(labels) >= 3 and np.count_nonzero(counts) >= 2:
        assert np.count_nonzero(kept) >= 2


def test_split_follows_the_classes():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    _, test = stratified_split(labels, 0.3, np.random.default_rng(0))
    assert np.bincount(labels[test]).tolist() == [18, 9, 3]

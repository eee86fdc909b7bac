"""Laws of sharing one data set out in parts of equal size."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.config import PartitionConfig
from ipfl.data.partition import TEST_EXAMPLES_MIN, partition
from ipfl.data.shares import deal, dirichlet, draw_shares
from ipfl.data.sources import digits
from ipfl.errors import DataError

KINDS = st.sampled_from(["cluster", "dirichlet", "iid"])


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(
    kind=KINDS,
    seed=st.integers(0, 2**32),
    num_participants=st.integers(2, 9),
    num_classes=st.integers(2, 6),
    alpha=st.sampled_from([0.01, 0.1, 0.5, 10.0, 1e6]),
    clusters=st.integers(1, 4),
)
def test_no_example_twice_equal_sizes_train_in_range_with_two_classes(
    kind, seed, num_participants, num_classes, alpha, clusters
):
    labels = np.arange(60 * num_participants) % num_classes
    low, high = 5, 20
    config = PartitionConfig(
        kind=kind,
        clusters=clusters,
        alpha_between=alpha,
        alpha_within=1 / alpha,
        alpha=alpha,
        train_examples=(low, high),
    )
    parts = partition(labels, num_participants, config, rng(seed))
    assert len(parts) == num_participants
    used = np.concatenate([np.concatenate(part) for part in parts])
    assert len(np.unique(used)) == len(used)
    assert used.min() >= 0
    assert used.max() < len(labels)
    assert len({len(part.train) + len(part.test) for part in parts}) == 1
    for part in parts:
        assert low <= len(part.train) <= high
        assert len(part.test) >= TEST_EXAMPLES_MIN
        assert len(np.unique(labels[part.train])) >= 2


@pytest.mark.parametrize("kind", ["cluster", "dirichlet", "iid"])
def test_same_generator_state_gives_same_parts_and_another_gives_others(kind):
    labels = np.arange(600) % 4
    config = PartitionConfig(kind=kind, train_examples=(10, 20))
    first, again, other = (partition(labels, 5, config, rng(seed)) for seed in (3, 3, 4))
    assert all(
        np.array_equal(a.train, b.train) and np.array_equal(a.test, b.test)
        for a, b in zip(first, again, strict=True)
    )
    assert any(not np.array_equal(a.train, b.train) for a, b in zip(first, other, strict=True))


def test_members_of_a_cluster_have_like_label_shares_and_clusters_differ():
    labels = np.arange(3000) % 6
    config = PartitionConfig(clusters=3, alpha_between=0.3, alpha_within=1000.0, train_examples=(10, 20))
    parts = partition(labels, 9, config, rng(1))
    shares = np.stack([np.bincount(labels[np.concatenate(part)], minlength=6) for part in parts])
    shares = shares / shares.sum(axis=1, keepdims=True)
    gap = np.abs(shares[:, None] - shares[None]).sum(axis=2)
    same = (np.arange(9)[:, None] - np.arange(9)) % 3 == 0
    assert gap[same].max() < gap[~same].min()


def test_train_and_test_have_the_class_proportions_of_the_part():
    labels = np.arange(2000) % 4
    for part in partition(labels, 4, PartitionConfig(train_examples=(40, 40)), rng(2)):
        whole = np.bincount(labels[np.concatenate(part)], minlength=4)
        train = np.bincount(labels[part.train], minlength=4)
        assert np.abs(train - 40 * whole / whole.sum()).max() <= 1


def test_shares_are_those_of_dirichlet_in_mean_and_variance():
    alpha = np.array([0.3, 1.0, 2.0])
    shares = dirichlet(np.tile(alpha, (20_000, 1)), rng(0))
    mean = alpha / alpha.sum()
    assert np.allclose(shares.mean(axis=0), mean, atol=0.01)
    assert np.allclose(shares.var(axis=0), mean * (1 - mean) / (alpha.sum() + 1), atol=0.005)


def test_cluster_shares_are_the_mean_of_their_members():
    config = PartitionConfig(clusters=1, alpha_between=1.0, alpha_within=50.0)
    shares = draw_shares(4000, 5, config, rng(0))
    assert shares.shape == (4000, 5)
    # a Dirichlet of total 50 spreads by mean * (1 - mean) / 51 about its mean
    mean = shares.mean(axis=0)
    assert np.allclose(shares.var(axis=0), mean * (1 - mean) / 51, rtol=0.15)


def test_more_participants_than_shares_allow_are_served_by_rationing():
    labels = np.arange(1797) % 10
    parts = partition(labels, 27, PartitionConfig(train_examples=(25, 50)), rng(0))
    assert {len(part.train) + len(part.test) for part in parts} == {60}


def test_deal_gives_the_counts_asked_for():
    labels = np.array([0, 1, 0, 1, 1, 0])
    piles = deal(labels, np.array([[2, 1], [0, 2]]), rng(0))
    assert [np.bincount(labels[pile], minlength=2).tolist() for pile in piles] == [[2, 1], [0, 2]]


@pytest.mark.parametrize("kind", ["cluster", "dirichlet", "iid"])
def test_too_few_examples_end_with_what_to_change(kind):
    with pytest.raises(DataError, match=r"too few for 50 participants.*lower participants.count"):
        partition(np.arange(300) % 3, 50, PartitionConfig(kind=kind), rng(0))


@pytest.mark.parametrize("kind", ["cluster", "dirichlet", "iid"])
def test_more_participants_than_examples_are_refused(kind):
    with pytest.raises(DataError, match="too few for 50 participants: each would get 0"):
        partition(np.arange(30) % 3, 50, PartitionConfig(kind=kind), rng(0))


def test_one_class_is_refused():
    with pytest.raises(DataError, match=r"1 class\(es\): choose data with at least 2"):
        partition(np.zeros(300, np.int64), 2, PartitionConfig(), rng(0))


def test_one_training_example_is_refused():
    with pytest.raises(DataError, match="needs at least 2 examples"):
        partition(np.arange(300) % 3, 2, PartitionConfig(train_examples=(1, 5)), rng(0))


def test_iid_parts_of_one_class_are_refused_in_the_end():
    labels = np.zeros(300, np.int64)
    labels[0] = 1
    with pytest.raises(DataError, match="in each of 100 random partitions"):
        partition(labels, 3, PartitionConfig(kind="iid"), rng(0))


def test_training_examples_of_one_class_by_proportion_still_get_a_second():
    labels = np.zeros(400, np.int64)
    labels[::20] = 1
    for part in partition(labels, 2, PartitionConfig(kind="iid", train_examples=(2, 3)), rng(0)):
        assert np.bincount(labels[part.train]).min() == 1


def test_gaps_among_labels_do_not_matter():
    labels = np.arange(300) % 3
    parts, gapped = (partition(kind, 3, PartitionConfig(), rng(0)) for kind in (labels, 5 * labels + 1))
    assert all(np.array_equal(a.train, b.train) for a, b in zip(parts, gapped, strict=True))


@pytest.mark.parametrize(
    ("kind", "start"),
    [("cluster", "0e479c4277a3ce0b"), ("dirichlet", "abbb3d2d4dfe07da"), ("iid", "76b3ed4813a2dd2f")],
)
def test_a_seed_gives_the_parts_that_it_always_gave(kind, start):
    parts = partition(digits().y, 12, PartitionConfig(kind=kind), rng(0))
    positions = b"".join(split.astype("<i8").tobytes() for part in parts for split in part)
    assert hashlib.sha256(positions).hexdigest().startswith(start)

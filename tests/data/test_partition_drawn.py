"""Laws of the partitions whose sizes differ, and of training on whole parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.config import Config, PartitionConfig
from ipfl.data import dealing
from ipfl.data.dealing import cluster_counts, niid_counts, skew_counts
from ipfl.data.partition import KINDS, TEST_EXAMPLES_MIN, has_equal_sizes, partition
from ipfl.errors import ConfigError, DataError

DRAWN = {
    "niid": {"kind": "niid"},
    "cluster": {"kind": "cluster", "sizes": "drawn"},
    "skew": {"kind": "skew"},
    "quantity": {"kind": "quantity"},
    "natural": {"kind": "natural"},
    "domain": {"kind": "domain"},
}
EQUAL = {kind: {"kind": kind} for kind in ("cluster", "dirichlet", "iid")}
ALL = {"train_examples": "all"}


def rng(seed=0):
    return np.random.default_rng(seed)


def data(num_participants, num_classes, num_groups, seed):
    """Labels of every class, and groups of different sizes that all hold two classes."""
    n = 80 * num_participants
    labels = np.arange(n) % num_classes
    rest = rng(seed).choice(num_groups, size=n - 24 * num_groups, p=rng(seed).dirichlet(np.ones(num_groups)))
    groups = np.concatenate([np.repeat(np.arange(num_groups), 24), rest])
    return labels, groups.astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(DRAWN)),
    seed=st.integers(0, 2**32),
    num_participants=st.integers(2, 9),
    num_classes=st.integers(3, 6),
    alpha=st.sampled_from([1.0, 3.0, 10.0, 1e6]),
    clusters=st.integers(1, 4),
    whole=st.booleans(),
)
def test_nothing_is_used_twice_and_everybody_has_enough_of_two_classes(
    name, seed, num_participants, num_classes, alpha, clusters, whole
):
    labels, groups = data(num_participants, num_classes, num_participants, seed)
    low, high = 4, 9
    config = PartitionConfig(
        **DRAWN[name],
        alpha=alpha,
        alpha_between=alpha,
        alpha_within=10.0,
        clusters=clusters,
        classes_per_participant=3,
        train_examples="all" if whole else (low, high),
    )
    parts = partition(labels, num_participants, config, rng(seed), groups)
    assert len(parts) == num_participants
    used = np.concatenate([np.concatenate(part) for part in parts])
    assert len(np.unique(used)) == len(used)
    if name in ("niid", "cluster", "quantity", "domain", "natural"):
        assert np.array_equal(np.sort(used), np.arange(len(labels)))
    for part in parts:
        assert len(np.unique(labels[part.train])) >= 2
        assert np.array_equal(part.train, np.sort(part.train))
        if whole:
            assert len(part.train) >= config.min_examples
            assert len(part.test) == 0
        else:
            assert low <= len(part.train) <= high
            assert len(part.test) >= TEST_EXAMPLES_MIN


@settings(max_examples=40, deadline=None)
@given(
    stock=st.lists(st.integers(1, 90), min_size=2, max_size=7).map(lambda counts: np.array(counts)),
    num_participants=st.integers(1, 12),
    alpha=st.sampled_from([0.01, 0.5, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_drawn_counts_add_up_to_the_stock(stock, num_participants, alpha, seed):
    config = PartitionConfig(alpha_between=alpha, alpha_within=1 / alpha)
    for counts in (
        niid_counts(stock, num_participants, alpha, rng(seed)),
        cluster_counts(stock, num_participants, config, rng(seed)),
    ):
        assert counts.min() >= 0
        assert counts.sum(axis=0).tolist() == stock.tolist()


@settings(max_examples=60, deadline=None)
@given(
    stock=st.lists(st.integers(60, 300), min_size=2, max_size=9).map(lambda counts: np.array(counts)),
    num_participants=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    pick=st.data(),
)
def test_skew_gives_everybody_its_classes_and_every_class_about_as_many_holders(
    stock, num_participants, seed, pick
):
    classes_each = pick.draw(st.integers(2, len(stock)))
    counts = skew_counts(stock, num_participants, classes_each, rng(seed))
    assert ((counts > 0).sum(axis=1) == classes_each).all()
    holders = (counts > 0).sum(axis=0)
    assert holders.max() - holders.min() <= 1
    assert counts.sum(axis=0)[holders > 0].tolist() == stock[holders > 0].tolist()
    for column in counts.T:
        pieces = column[column > 0]
        assert len(pieces) == 0 or pieces.max() - pieces.min() <= 1


def test_skew_sizes_are_equal_where_the_stock_allows():
    counts = skew_counts(np.full(10, 60), 12, 5, rng(0))
    assert counts.sum(axis=1).tolist() == [50] * 12


@pytest.mark.parametrize("settings_", [*EQUAL.values()], ids=[*EQUAL])
def test_whole_parts_of_equal_size_are_all_for_training(settings_):
    labels = np.arange(997) % 4
    config = PartitionConfig(**settings_, **ALL)
    parts = partition(labels, 6, config, rng(0))
    sizes = [len(part.train) for part in parts]
    assert max(sizes) - min(sizes) <= (1 if config.kind == "iid" else 0)
    assert all(len(part.test) == 0 for part in parts)
    used = np.concatenate([part.train for part in parts])
    assert len(np.unique(used)) == len(used)
    if config.kind == "iid":
        assert len(used) == 997


@pytest.mark.parametrize("settings_", [*DRAWN.values()], ids=[*DRAWN])
def test_same_generator_state_gives_same_parts_and_another_gives_others(settings_):
    labels, groups = data(5, 4, 2 if settings_["kind"] == "domain" else 8, 1)
    config = PartitionConfig(**settings_, classes_per_participant=2, alpha=2.0, alpha_between=2.0, **ALL)
    first, again, other = (partition(labels, 5, config, rng(seed), groups) for seed in (3, 3, 4))
    assert all(np.array_equal(a.train, b.train) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.train, b.train) for a, b in zip(first, other, strict=True))


def test_which_kinds_have_equal_sizes():
    kinds = {name: has_equal_sizes(PartitionConfig(**settings_)) for name, settings_ in DRAWN.items()}
    assert not any(kinds.values())
    assert all(has_equal_sizes(PartitionConfig(**settings_)) for settings_ in EQUAL.values())


# ---------------------------------------------------------------- distributions, with fixed seeds


def test_a_class_is_shared_out_as_dirichlet_says_in_mean_and_variance():
    m, alpha = 4, 0.5
    # one class: nobody has reached its even part before, so the even part decides nothing
    shares = np.stack(
        [niid_counts(np.array([10_000]), m, alpha, rng(seed))[:, 0] / 1e4 for seed in range(1500)]
    )
    mean = 1 / m
    assert np.allclose(shares.mean(axis=0), mean, atol=0.02)
    assert np.allclose(shares.var(axis=0), mean * (1 - mean) / (m * alpha + 1), rtol=0.1)


def test_whoever_has_its_even_part_gets_nothing_of_the_classes_that_follow():
    stock = np.full(10, 1000)
    for seed in range(50):
        counts = niid_counts(stock, 5, 0.3, rng(seed))
        largest_class = counts.max(axis=1)
        assert (counts.sum(axis=1) < 2000 + largest_class).all()


def test_a_cluster_that_has_its_even_part_gets_nothing_of_the_classes_that_follow():
    config = PartitionConfig(clusters=3, alpha_between=0.1, alpha_within=0.3)
    for seed in range(50):
        counts = cluster_counts(np.full(10, 900), 9, config, rng(seed))
        clusters = np.stack([counts[cluster::3].sum(axis=0) for cluster in range(3)])
        assert (clusters.sum(axis=1) < 3000 + clusters.max(axis=1)).all()
        for cluster in range(3):
            members = counts[cluster::3]
            assert (members.sum(axis=1) < members.sum() / 3 + members.max(axis=1)).all()


def test_clusters_share_a_class_as_dirichlet_says_and_members_their_cluster_s():
    config = PartitionConfig(clusters=3, alpha_between=0.1, alpha_within=10.0)
    counts = np.stack(
        [cluster_counts(np.array([90_000]), 9, config, rng(seed))[:, 0] for seed in range(1500)]
    )
    clusters = counts.reshape(-1, 3, 3).sum(axis=1) / 90_000  # participant i is in cluster i % 3
    assert np.allclose(clusters.mean(axis=0), 1 / 3, atol=0.03)
    assert np.allclose(clusters.var(axis=0), (1 / 3) * (2 / 3) / (3 * 0.1 + 1), rtol=0.1)
    large = counts[clusters[:, 0] > 0.1][:, [0, 3, 6]]
    within = large / large.sum(axis=1, keepdims=True)
    assert np.allclose(within.mean(axis=0), 1 / 3, atol=0.01)
    assert np.allclose(within.var(axis=0), (1 / 3) * (2 / 3) / (3 * 10 + 1), rtol=0.15)


def test_quantities_are_dirichlet_and_labels_are_even():
    config = PartitionConfig(kind="quantity", alpha=5.0, **ALL)
    labels = np.arange(8000) % 2
    parts = [partition(labels, 4, config, rng(seed)) for seed in range(200)]
    sizes = np.array([[len(part.train) for part in one] for one in parts]) / 8000
    assert np.allclose(sizes.mean(axis=0), 0.25, atol=0.02)
    assert sizes.var() == pytest.approx(0.25 * 0.75 / 21, rel=0.2)
    shares = np.array([labels[part.train].mean() for one in parts for part in one])
    assert shares.mean() == pytest.approx(0.5, abs=0.005)
    assert np.abs(shares - 0.5).max() < 0.1


# ---------------------------------------------------------------- groups


def test_natural_participants_are_whole_groups_in_the_source_s_order():
    groups = np.repeat(np.array([7, 1, 5, 3], dtype=np.int64), [40, 30, 5, 20])
    labels = np.arange(95) % 3
    parts = partition(labels, 3, PartitionConfig(kind="natural", **ALL), rng(0), groups)
    assert [np.unique(groups[part.train]).tolist() for part in parts] == [[1], [3], [7]]
    assert [len(part.train) for part in parts] == [30, 20, 40]


def test_fewer_natural_participants_than_groups_are_drawn_at_random():
    groups = np.repeat(np.arange(30), 12).astype(np.int64)
    labels = np.arange(360) % 4
    config = PartitionConfig(kind="natural", **ALL)
    drawn = {
        tuple(int(groups[part.train[0]]) for part in partition(labels, 3, config, rng(seed), groups))
        for seed in range(40)
    }
    assert len(drawn) > 35
    assert len({group for one in drawn for group in one}) > 25


def test_domains_take_participants_in_turns_and_share_their_examples_evenly():
    groups = np.repeat(np.arange(3), [100, 61, 80]).astype(np.int64)
    labels = np.arange(241) % 4
    parts = partition(labels, 7, PartitionConfig(kind="domain", **ALL), rng(0), groups)
    assert [np.unique(groups[part.train]).tolist() for part in parts] == [[0], [1], [2]] * 2 + [[0]]
    assert sorted(len(part.train) for part in parts) == [30, 31, 33, 33, 34, 40, 40]


def test_of_more_domains_than_participants_the_first_are_taken():
    groups = np.repeat(np.arange(5), 20).astype(np.int64)
    parts = partition(np.arange(100) % 2, 2, PartitionConfig(kind="domain", **ALL), rng(0), groups)
    assert [np.unique(groups[part.train]).tolist() for part in parts] == [[0], [1]]


# ---------------------------------------------------------------- refusals, and that they come


@pytest.mark.parametrize("kind", ["natural", "domain"])
def test_no_groups_are_refused(kind):
    with pytest.raises(
        DataError, match=f"'{kind}' needs data that names a writer, role or domain.*choose another"
    ):
        partition(np.arange(300) % 3, 3, PartitionConfig(kind=kind), rng(0))


def test_too_few_large_groups_are_refused():
    groups = np.repeat(np.arange(10), [50] * 3 + [5] * 7).astype(np.int64)
    with pytest.raises(
        DataError, match=r"3 of 10 groups have at least 10 examples of 2 classes, too few for 4"
    ):
        partition(np.arange(185) % 3, 4, PartitionConfig(kind="natural", **ALL), rng(0), groups)


@pytest.mark.parametrize(
    ("settings_", "remedy"),
    [
        ({"kind": "niid", "alpha": 1e-6}, "raise partition.alpha"),
        (
            {"kind": "cluster", "sizes": "drawn", "alpha_between": 1e-6, "clusters": 9},
            "lower partition.clusters",
        ),
        ({"kind": "quantity", "alpha": 1e-3}, "raise partition.alpha"),
    ],
)
def test_draws_that_never_serve_everybody_end_after_so_many(settings_, remedy, monkeypatch):
    drawn = []

    def counted(*arguments):
        drawn.append(1)
        return original(*arguments)

    name = {"niid": "niid_counts", "cluster": "cluster_counts", "quantity": "_quantity"}[settings_["kind"]]
    original = getattr(dealing, name)
    monkeypatch.setattr(dealing, name, counted)
    monkeypatch.setattr(dealing, "DRAWS_MAX", 50)
    with pytest.raises(DataError, match=f"in none of 50 draws.*{remedy}.*partition.min_examples"):
        partition(np.arange(120) % 3, 9, PartitionConfig(**settings_, **ALL), rng(0))
    assert len(drawn) == 50


def test_a_domain_of_one_class_ends_after_so_many_draws(monkeypatch):
    monkeypatch.setattr(dealing, "DRAWS_MAX", 50)
    groups = (np.arange(200) % 2).astype(np.int64)
    with pytest.raises(DataError, match=r"in none of 50 draws.*choose partition.kind iid"):
        partition(groups, 4, PartitionConfig(kind="domain", **ALL), rng(0), groups)


@pytest.mark.parametrize("name", ["niid", "cluster", "skew", "quantity", "domain"])
def test_more_participants_than_the_data_can_serve_are_refused_at_once(name, monkeypatch):
    monkeypatch.setattr(dealing, "DRAWS_MAX", 0)  # nothing is drawn
    groups = (np.arange(300) % 3).astype(np.int64)
    config = PartitionConfig(**DRAWN[name], classes_per_participant=2, train_examples=(25, 50))
    with pytest.raises(DataError, match=r"300 examples are too few for 50 .* at least 35 .*train_examples"):
        partition(np.arange(300) % 3, 50, config, rng(0), groups)


@pytest.mark.parametrize("kind", ["cluster", "dirichlet", "iid"])
def test_equal_parts_smaller_than_the_least_are_refused(kind):
    config = PartitionConfig(kind=kind, min_examples=40, **ALL)
    with pytest.raises(DataError, match=r"each would get \d+, but partition.min_examples = 40; lower"):
        partition(np.arange(300) % 3, 9, config, rng(0))


def test_more_classes_each_than_there_are_is_refused():
    with pytest.raises(DataError, match="classes_per_participant = 5, but the data has 3 classes: lower it"):
        partition(np.arange(300) % 3, 3, PartitionConfig(kind="skew", **ALL), rng(0))


@pytest.mark.parametrize("value", ["some", 3, None, True])
def test_training_on_neither_some_nor_all_is_refused(value):
    with pytest.raises(
        ConfigError, match=r'partition.train_examples: .* is neither two counts, .*, nor "all"'
    ):
        Config.from_mapping({"partition": {"train_examples": value}})


def test_training_on_all_survives_toml():
    config = Config.from_mapping({"partition": {"kind": "skew", "train_examples": "all"}})
    assert Config.from_toml(config.to_toml()) == config


# ---------------------------------------------------------------- kinds of one's own


@pytest.fixture
def own_kind(monkeypatch):
    """own_kind(piles) -> parts: a kind that gives these piles, and how it is taken."""

    def take(piles, **settings_):
        monkeypatch.setitem(KINDS, "own", lambda labels, m, config, rng, groups: piles)
        config = PartitionConfig(kind="own", min_examples=2, **(ALL | settings_))
        return partition(np.arange(40) % 4, 2, config, rng(0))

    return take


def test_a_kind_of_one_s_own_is_used_by_name(own_kind):
    parts = own_kind([np.array([3, 0, 1]), np.array([5, 6])])
    assert [part.train.tolist() for part in parts] == [[0, 1, 3], [5, 6]]
    parts = own_kind([np.arange(20), np.arange(20, 40)], train_examples=(4, 4))
    assert [len(part.train) for part in parts] == [4, 4]
    assert [len(part.test) for part in parts] == [16, 16]


@pytest.mark.parametrize(
    ("piles", "problem"),
    [
        ([[0, 1]], "1 parts for 2 participants"),
        ([], "0 parts for 2 participants"),
        ([[0, 1], [1, 2]], "an example twice"),
        ([[0, 1], [2, 2, 3]], "an example twice"),
        ([[0, 1], [2, 40]], r"positions that are none of 0 to 39"),
        ([[0, 1], [-1, 3]], r"positions that are none of 0 to 39"),
        ([[0, 1], [2]], "participant 1 a part of 1 examples: fewer than 2"),
        ([[0, 1], [2, 6]], "participant 1 a part of 2 examples: fewer than 2, or of one class"),
    ],
)
def test_what_a_kind_of_one_s_own_gives_is_checked(piles, problem, own_kind):
    with pytest.raises(DataError, match=f"partition.kind = 'own' gives {problem}.*mend it"):
        own_kind([np.array(pile, dtype=np.int64) for pile in piles])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"unknown partition.kind 'zipf'; known kinds: cluster, niid, skew"):
        partition(np.arange(40) % 4, 2, PartitionConfig(kind="zipf"), rng(0))

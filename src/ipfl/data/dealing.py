"""Parts whose sizes differ: kinds `niid`, `cluster` (drawn sizes), `skew`, `quantity`, `natural` and `domain`.

Each kind has a function that draws once. A draw that leaves somebody with too few examples, or with one class
only, is thrown away as a whole and drawn again, DRAWS_MAX times at most; then an error says what to change.

- `niid`: every class is shared out by Dirichlet(alpha); whoever already holds its even part of the data gets
  nothing of the classes that follow. Yurochkin et al., ICML 2019 (arXiv 1905.12022), in the form of NIID-Bench,
  Li et al., ICDE 2022 (arXiv 2102.02079); there classes follow their numbers, here a random order.
- `cluster`: every class is shared out among clusters, then within each, both as in `niid` (arXiv 2505.02462).
- `skew`: so many classes each (NIID-Bench, "#C = k"). `quantity`: sizes by Dirichlet(alpha) (there too).
- `natural`: the source's own groups, such as the writers and roles of LEAF (arXiv 1812.01097).
- `domain`: the source's groups, each shared out among several participants.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64

from ipfl.config import PartitionConfig
from ipfl.data.apportion import apportion
from ipfl.data.shares import deal, dirichlet
from ipfl.errors import DataError

DRAWS_MAX = 1000
CLASSES_MIN = 2
"""Nobody can learn from one class."""

Piles = list[Int64[np.ndarray, "size"]]
_REMEDIES = {
    "niid": "raise partition.alpha",
    "cluster": "raise partition.alpha_between or partition.alpha_within, or lower partition.clusters",
    "skew": "raise partition.classes_per_participant",
    "quantity": "raise partition.alpha",
    "domain": "choose partition.kind iid",
}


def unequal_piles(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    needed: int,
    config: PartitionConfig,
    rng: np.random.Generator,
    groups: Int64[np.ndarray, "n"] | None,
) -> Piles:
    """One pile of positions per participant, of at least `needed` examples and two classes each.

    Laws: no position twice; `niid`, `cluster` and `quantity` use every example, `skew` every one of a class
    that somebody has, `domain` every one of a domain that somebody is in, `natural` all of the groups drawn.

    Args:
      labels: class of each example, from 0 and without gaps.
      num_participants: m >= 1.
      needed: the smallest pile allowed.
      config: the kind and its parameters.
      rng: where every draw comes from.
      groups: writer, role or domain of each example; only `natural` and `domain` ask for it.
    Raises:
      DataError: no such draw is possible, or none was found in DRAWS_MAX; says what to change.
    """
    if config.kind == "natural":
        return _natural(labels, num_participants, needed, config, _known(groups, config), rng)
    draw = _drawer(labels, num_participants, config, groups, rng)
    if num_participants * needed > len(labels):
        raise DataError(
            f"{len(labels)} examples are too few for {num_participants} participants with at least {needed} "
            f"each; lower participants.count or {_lower(config)}"
        )
    return _drawn(draw, labels, needed, config, rng)


def niid_counts(
    stock: Int64[np.ndarray, "classes"], num_participants: int, alpha: float, rng: np.random.Generator
) -> Int64[np.ndarray, "m classes"]:
    """Examples of each class per participant, once drawn; columns add up to the stock.

    >>> niid_counts(np.array([30, 30]), 3, 1e6, np.random.default_rng(0)).tolist()
    [[10, 10], [10, 10], [10, 10]]
    """
    counts = np.zeros((num_participants, len(stock)), dtype=np.int64)
    even = stock.sum() / num_participants
    for label in rng.permutation(np.flatnonzero(stock)):
        open_ = np.flatnonzero(counts.sum(axis=1) < even)
        shares = dirichlet(np.full((1, len(open_)), alpha), rng)[0]
        counts[open_, label] = apportion(int(stock[label]), shares)
    return counts


def cluster_counts(
    stock: Int64[np.ndarray, "classes"],
    num_participants: int,
    config: PartitionConfig,
    rng: np.random.Generator,
) -> Int64[np.ndarray, "m classes"]:
    """Every class among clusters by Dirichlet(alpha_between), each cluster's among its members by alpha_within.

    On both levels as in `niid_counts`: who has an even share already gets no more.

    >>> config = PartitionConfig(sizes="drawn", clusters=2, alpha_between=1e6, alpha_within=1e6)
    >>> cluster_counts(np.array([40, 80]), 4, config, np.random.default_rng(0)).tolist()
    [[10, 20], [10, 20], [10, 20], [10, 20]]
    """
    num_clusters = min(config.clusters, num_participants)
    counts = np.zeros((num_participants, len(stock)), dtype=np.int64)
    amounts = niid_counts(stock, num_clusters, config.alpha_between, rng)
    for cluster in range(num_clusters):
        mine = np.arange(cluster, num_participants, num_clusters)
        counts[mine] = niid_counts(amounts[cluster], len(mine), config.alpha_within, rng)
    return counts


def skew_counts(
    stock: Int64[np.ndarray, "classes"],
    num_participants: int,
    classes_each: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, "m classes"]:
    """Each participant gets the next classes of a random order, round and round; a class is cut evenly.

    So where classes_each divides the number of classes, participants form groups with the same classes, as in the
    paper. Laws: everybody has `classes_each` classes where the stock allows; holders of two classes differ in number
    by one at most, and pieces of one class in size by one at most.

    >>> skew_counts(np.array([30, 30, 30, 30]), 4, 2, np.random.default_rng(0)).sum(axis=1).tolist()
    [30, 30, 30, 30]
    """
    num_classes = len(stock)
    if classes_each > num_classes:
        raise DataError(
            f"partition.classes_per_participant = {classes_each}, but the data has {num_classes} classes: "
            "lower it"
        )
    order = rng.permutation(num_classes)
    has = np.zeros((num_participants, num_classes), dtype=bool)
    for participant in range(num_participants):
        has[participant, order[(participant * classes_each + np.arange(classes_each)) % num_classes]] = True
    counts = np.zeros(has.shape, dtype=np.int64)
    for label in np.flatnonzero(has.any(axis=0)):
        who = np.flatnonzero(has[:, label])
        piece, left = divmod(int(stock[label]), len(who))
        counts[who, label] = piece
        smallest = np.argsort(counts[who].sum(axis=1), kind="stable")  # what is left over evens sizes out
        counts[who[smallest[:left]], label] += 1
    return counts


def _drawer(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    config: PartitionConfig,
    groups: Int64[np.ndarray, "n"] | None,
    rng: np.random.Generator,
) -> Callable[[], Piles | Int64[np.ndarray, "m classes"]]:
    """What draws once: counts per class that are still to be dealt, or piles."""
    stock = np.bincount(labels)
    if config.kind == "niid":
        return lambda: niid_counts(stock, num_participants, config.alpha, rng)
    if config.kind == "cluster":
        return lambda: cluster_counts(stock, num_participants, config, rng)
    if config.kind == "skew":
        return lambda: skew_counts(stock, num_participants, config.classes_per_participant, rng)
    if config.kind == "quantity":
        return lambda: _quantity(len(labels), num_participants, config.alpha, rng)
    known = _known(groups, config)
    return lambda: _domain(known, num_participants, rng)


def _drawn(
    draw: Callable[[], Piles | Int64[np.ndarray, "m classes"]],
    labels: Int64[np.ndarray, "n"],
    needed: int,
    config: PartitionConfig,
    rng: np.random.Generator,
) -> Piles:
    """The first draw that serves everybody."""
    num_classes = int(labels.max()) + 1
    nearest = (0.0, 0, 0)
    for _ in range(DRAWS_MAX):
        found = draw()
        counts = found if isinstance(found, np.ndarray) else _counted(found, labels, num_classes)
        sizes, classes = counts.sum(axis=1), (counts > 0).sum(axis=1)
        if sizes.min() >= needed and classes.min() >= CLASSES_MIN:
            return deal(labels, counts, rng) if isinstance(found, np.ndarray) else found
        size, few = int(sizes.min()), int(classes.min())
        nearest = max(nearest, (min(size / needed, 1.0) + min(few / CLASSES_MIN, 1.0), size, few))
    raise DataError(
        f"partition.kind = {config.kind!r}: in none of {DRAWS_MAX} draws had everybody at least {needed} examples "
        f"of {CLASSES_MIN} classes (in the nearest, the smallest part had {nearest[1]} examples and the narrowest "
        f"{nearest[2]} class{'' if nearest[2] == 1 else 'es'}); {_REMEDIES[config.kind]}, or lower "
        f"participants.count or {_lower(config)}"
    )


def _quantity(num_examples: int, num_participants: int, alpha: float, rng: np.random.Generator) -> Piles:
    """Random examples, as many each as Dirichlet(alpha) says."""
    sizes = apportion(num_examples, dirichlet(np.full((1, num_participants), alpha), rng)[0])
    return [np.sort(pile) for pile in np.split(rng.permutation(num_examples), np.cumsum(sizes)[:-1])]


def _domain(groups: Int64[np.ndarray, "n"], num_participants: int, rng: np.random.Generator) -> Piles:
    """Participant i is in domain i % number of domains, whose examples are spread evenly among its members."""
    domains = np.unique(groups)[:num_participants]
    piles: Piles = [np.empty(0, dtype=np.int64)] * num_participants
    for position, domain in enumerate(domains):
        members = range(position, num_participants, len(domains))
        parts = np.array_split(rng.permutation(np.flatnonzero(groups == domain)), len(members))
        for member, part in zip(members, parts, strict=True):
            piles[member] = np.sort(part)
    return piles


def _natural(
    labels: Int64[np.ndarray, "n"],
    num_participants: int,
    needed: int,
    config: PartitionConfig,
    groups: Int64[np.ndarray, "n"],
    rng: np.random.Generator,
) -> Piles:
    """Random ones of the groups that are large enough, in the order of the source."""
    order = np.argsort(groups, kind="stable")
    piles = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    fit = [pile for pile in piles if len(pile) >= needed and len(np.unique(labels[pile])) >= CLASSES_MIN]
    if len(fit) < num_participants:
        raise DataError(
            f"partition.kind = 'natural': {len(fit)} of {len(piles)} groups have at least {needed} examples of "
            f"{CLASSES_MIN} classes, too few for {num_participants} participants; lower participants.count or "
            f"{_lower(config)}"
        )
    return [fit[index] for index in np.sort(rng.permutation(len(fit))[:num_participants])]


def _known(groups: Int64[np.ndarray, "n"] | None, config: PartitionConfig) -> Int64[np.ndarray, "n"]:
    if groups is None:
        raise DataError(
            f"partition.kind = {config.kind!r} needs data that names a writer, role or domain of each example, "
            "which this task does not: choose another partition.kind"
        )
    return groups


def _counted(
    piles: Sequence[Int64[np.ndarray, "..."]], labels: Int64[np.ndarray, "n"], num_classes: int
) -> Int64[np.ndarray, "m classes"]:
    return np.stack([np.bincount(labels[pile], minlength=num_classes) for pile in piles])


def _lower(config: PartitionConfig) -> str:
    return "partition.min_examples" if config.train_examples == "all" else "partition.train_examples"

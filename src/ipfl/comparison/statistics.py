"""What a grid of runs comes to: figures of each run, then means over seeds with 95 % intervals.

Pure functions of loaded runs. Accuracies of both protocols are read from summary.json, never worked out a second
time: `paper` is a participant's best round on the common test set weighted by its labels, `held_out` its own
test split in the round that was best on its validation split. A buyer here is an honest participant that a
better model is worth something to; if there is none, every honest participant stands in.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ipfl.config import PROHIBITIVE_COST, ParticipantConfig
from ipfl.run_folder import Run

LEVEL = 0.95
EQUAL = 1e-12
"""Accuracies closer than this are the same."""


class Estimate(NamedTuple):
    """A mean over seeds and the half-width of its 95 % Student-t interval (None for one seed)."""

    mean: float
    half_width: float | None
    num_seeds: int


@dataclass(frozen=True)
class Person:
    """One participant of one run. What was not measured is None."""

    participant: str
    kind: str
    honest: bool
    buyer: bool
    liar: bool
    accuracy: float | None
    accuracy_alone: float | None
    held_out: float | None
    held_out_alone: float | None
    utility: float
    surplus: float
    received: float

    @property
    def difference(self) -> float | None:
        """Held-out accuracy minus that of training alone."""
        if self.held_out is None or self.held_out_alone is None:
            return None
        return self.held_out - self.held_out_alone


@dataclass(frozen=True)
class Figures:
    """One run in figures. Means of accuracy are over buyers, that of utility over the honest."""

    variant: str
    method: str
    seed: int
    accuracy: float | None
    accuracy_alone: float | None
    accuracy_held_out: float | None
    accuracy_held_out_alone: float | None
    utility: float
    people: tuple[Person, ...]
    curve: tuple[float | None, ...]
    seconds: float

    @property
    def differences(self) -> list[float]:
        """Held-out accuracy minus alone's, of every buyer it is known of."""
        return [p.difference for p in self.people if p.buyer and p.difference is not None]

    @property
    def better_off(self) -> float | None:
        """The share of buyers whose held-out accuracy is above alone's."""
        known = self.differences
        return sum(value > EQUAL for value in known) / len(known) if known else None

    @property
    def worst_off(self) -> float | None:
        """The smallest held-out difference to alone among buyers."""
        return min(self.differences, default=None)

    @property
    def spread(self) -> float | None:
        """Standard deviation of held-out accuracy over buyers."""
        known = [p.held_out for p in self.people if p.buyer and p.held_out is not None]
        return _deviation(known) if len(known) > 1 else None

    @property
    def attackers_income(self) -> float | None:
        """What an attacker was paid over the run, on average; None without attackers."""
        return _mean([p.received for p in self.people if not p.honest])


def figures_of(run: Run, variant: str) -> Figures:
    """The figures of a finished run; what an older summary lacks is None (see `lacking`)."""
    summary = run.summary or {}
    conducts = {row.id: row.conduct for row in run.config.participants.rows}
    liars = {row.id for row in run.config.participants.rows if any(factor != 1.0 for factor in _reports(row))}
    rows = summary["participants"]
    honest = [row.get("conduct", conducts.get(row["id"], "honest")) == "honest" for row in rows]
    buying = [sincere and row["valuation"] > 0 for row, sincere in zip(rows, honest, strict=True)]
    buyers = buying if any(buying) else honest
    protocols = summary.get("protocols", {})
    paper, held_out = protocols.get("paper", {}), protocols.get("held_out", {})
    surpluses = _surpluses(run)
    people = tuple(
        Person(
            participant=row["id"],
            kind=row["kind"],
            honest=sincere,
            buyer=buyer,
            liar=row["id"] in liars,
            accuracy=row.get("accuracy_paper"),
            accuracy_alone=row.get("accuracy_paper_alone"),
            held_out=row.get("accuracy_held_out"),
            held_out_alone=row.get("accuracy_held_out_alone"),
            utility=row["utility"],
            surplus=surpluses.get(row["id"], 0.0),
            received=row["received"],
        )
        for row, sincere, buyer in zip(rows, honest, buyers, strict=True)
    )
    utility = summary.get("mean_utility", _mean([p.utility for p in people if p.honest]))
    return Figures(
        variant=variant,
        method=summary["method"],
        seed=summary["seed"],
        accuracy=paper.get("mean_accuracy"),
        accuracy_alone=paper.get("mean_accuracy_alone"),
        accuracy_held_out=held_out.get("mean_accuracy"),
        accuracy_held_out_alone=held_out.get("mean_accuracy_alone"),
        utility=0.0 if utility is None else utility,
        people=people,
        curve=tuple(line["mean_accuracy"] for line in run.rounds),
        seconds=float(summary["seconds"]["total"]),
    )


def lacking(runs: Iterable[Run]) -> str | None:
    """One sentence about runs whose summary has no protocols, or None when all have them."""
    old = [run.path for run in runs if "protocols" not in (run.summary or {})]
    if not old:
        return None
    where = str(old[0]) if len(old) == 1 else f"{len(old)} run folders (e.g. {old[0]})"
    return (
        f"{where} came from an older ipfl and say nothing of the protocols paper and held_out: their accuracy is left "
        "out; run them again with --force."
    )


def prohibitive(runs: Iterable[Run]) -> str | None:
    """One sentence where honest participants with a prohibitive export cost had to export, or None.

    A market never buys from them; methods without one have everybody export, and utility then says only that.
    """
    for run in runs:
        rows = (run.summary or {}).get("participants", [])
        forced = [row for row in rows if row["export_cost"] >= PROHIBITIVE_COST and row["exports"]]
        if forced:
            who, cost = forced[0]["id"], forced[0]["export_cost"]
            return (
                f"{run.config.method}, and others without a market, make {who} export, whose export cost of {cost:g} "
                "stands for never, so their utility says only that: set a cost that means something, e.g. "
                "--set participants.buyer_export_cost=1000."
            )
    return None


def estimate(values: Iterable[float | None]) -> Estimate | None:
    """Mean and t-interval of what is known; None where nothing is.

    half-width = t(0.975, n - 1) * s / sqrt(n), with s the sample standard deviation of the n seeds.

    >>> found = estimate([1.0, 2.0, 3.0])
    >>> found.mean, round(found.half_width, 6), found.num_seeds
    (2.0, 2.484138, 3)
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Estimate(math.fsum(known) / len(known), half_width(known), len(known))


def half_width(values: Sequence[float]) -> float | None:
    """Half of a 95 % Student-t interval of a mean; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, count - 1)) * _deviation(values) / math.sqrt(count)


def paired(ones: Mapping[int, float | None], others: Mapping[int, float | None]) -> Estimate | None:
    """The mean of one minus other over the seeds that both have, with its interval.

    Pairing takes out what a seed does to both alike, so the interval is often far narrower than those of the means.

    >>> paired({0: 1.0, 1: 5.0}, {0: 0.5, 1: 4.5, 2: 9.0})
    Estimate(mean=0.5, half_width=0.0, num_seeds=2)
    """
    differences = []
    for seed in sorted(ones.keys() & others.keys()):
        one, other = ones[seed], others[seed]
        if one is not None and other is not None:
            differences.append(one - other)
    return estimate(differences)


Quantity = Callable[[Figures], float | None]
QUANTITIES: dict[str, Quantity] = {
    "accuracy": lambda run: run.accuracy,
    "accuracy_alone": lambda run: run.accuracy_alone,
    "accuracy_held_out": lambda run: run.accuracy_held_out,
    "accuracy_held_out_alone": lambda run: run.accuracy_held_out_alone,
    "utility": lambda run: run.utility,
    "better_off": lambda run: run.better_off,
    "worst_off": lambda run: run.worst_off,
    "spread": lambda run: run.spread,
    "attackers_income": lambda run: run.attackers_income,
    "seconds": lambda run: run.seconds,
}
"""What is said of each run, by name."""


def by_seed(runs: Iterable[Figures], quantity: Quantity) -> dict[int, float | None]:
    """One quantity of runs that differ in their seed."""
    return {run.seed: quantity(run) for run in runs}


def estimates(runs: Sequence[Figures]) -> dict[str, Estimate | None]:
    """Every quantity of `QUANTITIES` over the seeds of one method."""
    return {name: estimate(quantity(run) for run in runs) for name, quantity in QUANTITIES.items()}


def by_kind(runs: Sequence[Figures]) -> dict[str, dict[str, Estimate | None]]:
    """Accuracy, held-out accuracy, utility and income by kind of participant: means of each run, over seeds."""
    kinds = list(dict.fromkeys(person.kind for run in runs for person in run.people))
    keys: dict[str, Callable[[Person], float | None]] = {
        "accuracy": lambda person: person.accuracy,
        "accuracy_held_out": lambda person: person.held_out,
        "difference": lambda person: person.difference,
        "utility": lambda person: person.utility,
        "received": lambda person: person.received,
    }
    return {
        kind: {
            name: estimate(_mean([read(p) for p in run.people if p.kind == kind]) for run in runs)
            for name, read in keys.items()
        }
        for kind in kinds
    }


def gained_by_lying(
    lying: Sequence[Figures], truthful: Sequence[Figures], read: Callable[[Person], float]
) -> tuple[Estimate | None, float | None]:
    """What liars earned more than the same participants did by telling the truth, on the same seeds.

    Args:
      lying: runs in which some lie.
      truthful: runs that differ in nothing else.
      read: what is compared, utility or surplus.
    Returns:
      The mean over seeds of the liars' mean difference, and the share of liars, of all seeds, that gained.
    """
    told = {run.seed: {person.participant: read(person) for person in run.people} for run in truthful}
    by_run: list[float | None] = []
    gained: list[bool] = []
    for run in lying:
        honest = told.get(run.seed, {})
        differences = [
            read(person) - honest[person.participant]
            for person in run.people
            if person.liar and person.participant in honest
        ]
        by_run.append(_mean(differences))
        gained += [difference > EQUAL for difference in differences]
    return estimate(by_run), sum(gained) / len(gained) if gained else None


def mean_curve(runs: Sequence[Figures]) -> list[float | None]:
    """The mean over seeds of mean accuracy, by round."""
    longest = max((len(run.curve) for run in runs), default=0)
    return [_mean([run.curve[index] for run in runs if index < len(run.curve)]) for index in range(longest)]


def best_method(methods: Mapping[str, Sequence[Figures]], quantity: Quantity) -> str | None:
    """The method with the largest mean; the first of them where several are."""
    means = {name: estimate(quantity(run) for run in runs) for name, runs in methods.items()}
    known = {name: value.mean for name, value in means.items() if value is not None}
    return max(known, key=lambda name: known[name]) if known else None


def grouped(runs: Iterable[Figures]) -> dict[str, dict[str, list[Figures]]]:
    """Runs by variant, then by method, in the order in which they come; seeds in order."""
    groups: dict[str, dict[str, list[Figures]]] = {}
    for run in runs:
        groups.setdefault(run.variant, {}).setdefault(run.method, []).append(run)
    for methods in groups.values():
        for listed in methods.values():
            listed.sort(key=lambda run: run.seed)
    return groups


def _reports(row: ParticipantConfig) -> tuple[float, ...]:
    return row.report_num_examples, row.report_valuation, row.report_export_cost


def _surpluses(run: Run) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for line in run.rounds:
        for entry in line["participants"]:
            found.setdefault(entry["id"], []).append(entry.get("surplus", entry["utility"]))
    return {name: math.fsum(values) for name, values in found.items()}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _deviation(values: Sequence[float]) -> float:
    """The sample standard deviation."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))

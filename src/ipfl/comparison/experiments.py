"""The experiments of the paper as grids: what is varied in each of them.

"Incentivizing Inclusive Contributions in Model Sharing Markets", Nature Communications 16:7923 (2025): figures 2 and 3
(basic comparison of accuracy and of utility), 4 (poisoning), 5 (four kinds of participants) and table 2 (liars).
All start from the preset `paper` under the paper's own rules, and from there take any setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ipfl.comparison.grid import Grid, Variant
from ipfl.errors import ConfigError
from ipfl.market.rules import RULES
from ipfl.presets import load_config

BASE = "paper"
PARTITIONS = ("cluster", "niid", "skew")
ATTACKS = ("sign_flip", "shuffle", "same_value", "gaussian")
SHARES_OF_ATTACKERS = (0.2, 0.4)
SHARE_OF_EACH_KIND = 2 / 9
LIES = {"export_cost": "cost", "num_examples": "size", "valuation": "valuation"}
"""What a liar may misreport, and how people call it."""
FEW_METHODS = ("ipfl", "fedavg", "local", "pfedgraph")


@dataclass(frozen=True)
class Experiment:
    """One experiment: its title, the grid it stands on (two may share one), its methods (None: all), its seeds."""

    title: str
    grid: str
    methods: tuple[str, ...] | None
    seeds: tuple[int, ...] = (0, 1, 2)


EXPERIMENTS = {
    "fig2": Experiment("Accuracy of every method", "basic", None),
    "fig3": Experiment("Utility of every method", "basic", None),
    "fig4": Experiment("Poisoning", "poisoning", FEW_METHODS),
    "fig5": Experiment("Four kinds of participants", "kinds", FEW_METHODS),
    "table2": Experiment("What lying earns", "liars", ("ipfl",), (0, 1, 2, 3, 4)),
}
"""Every experiment by the name of its figure or table."""


@dataclass(frozen=True)
class Choices:
    """What may be chosen of an experiment; None: as the experiment has it."""

    task: str = "digits"
    partition: str | None = None
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    settings: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ATTACKS
    factors: tuple[float, ...] = (2.0,)


def build_grid(name: str, choices: Choices) -> Grid:
    """The runs of an experiment.

    Raises:
      ConfigError: a method has no place in it, or a setting does not exist.
    """
    experiment = EXPERIMENTS[name]
    methods = choices.methods or experiment.methods or _all_methods()
    if name == "table2" and methods != ("ipfl",):
        raise ConfigError("table2 is about payment rules: only the method ipfl has a market to lie to")
    settings = [*_task(choices), *_rule(name, choices.settings)]
    if choices.partition is not None:
        settings.append(f"partition.kind={choices.partition}")
    grid = Grid(
        name=f"reproduce {experiment.grid}",
        base=BASE,
        settings=(*settings, *choices.settings),
        variants=(),
        methods=methods,
        seeds=choices.seeds or experiment.seeds,
    )
    return replace(grid, variants=_variants(name, choices, grid))


def attackers_of(share: float, count: int) -> int:
    """How many of so many participants attack.

    >>> [attackers_of(share, 9) for share in SHARES_OF_ATTACKERS]
    [2, 4]
    """
    return max(1, round(share * count))


def misreport_label(rule: str, quantity: str, factor: float) -> str:
    """The variant in which a quantity is reported so many times too high.

    >>> misreport_label("paper", "export_cost", 0.5)
    'paper-cost-x0.5'
    """
    return f"{rule}-{LIES[quantity]}-x{factor:g}"


def factors_up_and_down(factors: Sequence[float]) -> list[float]:
    """Each factor and its inverse, from the lowest report to the highest.

    >>> factors_up_and_down([2.0, 10.0])
    [0.1, 0.5, 2.0, 10.0]
    """
    return sorted({turned for factor in factors for turned in (float(f"{1 / factor:.6g}"), factor)})


def _variants(name: str, choices: Choices, grid: Grid) -> tuple[Variant, ...]:
    if name in ("fig2", "fig3"):
        kinds = PARTITIONS if choices.partition is None else (choices.partition,)
        return tuple(Variant(kind, _partition(kind, choices.settings)) for kind in kinds)
    if name == "table2":
        return tuple(
            Variant(label, settings)
            for rule in RULES
            for label, settings in _lies(rule, choices.factors, choices.settings)
        )
    count = _count(grid)
    if name == "fig5":
        each = max(1, round(SHARE_OF_EACH_KIND * count))
        kinds_of = tuple(f"participants.{kind}={each}" for kind in ("buyers", "sellers", "attackers"))
        return (Variant("four-kinds", kinds_of),)
    none = Variant("no-attack", ("participants.attackers=0",))
    return (
        none,
        *(
            Variant(
                f"{attack.replace(':', '-')}-{share:.0%}".removesuffix("%"),
                (f"participants.attackers={attackers_of(share, count)}", f'participants.attack="{attack}"'),
            )
            for share in SHARES_OF_ATTACKERS
            for attack in choices.attacks
        ),
    )


def _lies(rule: str, factors: Sequence[float], given: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The truth under one rule, then every lie of one participant (or as many as are set)."""
    market = f"market.rule={rule}"
    liars = (
        ()
        if any(setting.startswith("participants.liars") for setting in given)
        else ("participants.liars=1",)
    )
    lies = [
        (
            misreport_label(rule, quantity, factor),
            (market, *liars, f"participants.lie.{quantity}={float(factor)}"),
        )
        for quantity in LIES
        for factor in factors_up_and_down(factors)
    ]
    return [(f"{rule}-truth", (market, "participants.liars=0")), *lies]


def _partition(kind: str, given: Sequence[str]) -> tuple[str, ...]:
    """The paper has 9 participants where there are clusters, and 10 elsewhere."""
    chosen = any(setting.startswith("participants.count") for setting in given)
    return (f"partition.kind={kind}", *(() if kind == "cluster" or chosen else ("participants.count=10",)))


def _task(choices: Choices) -> tuple[str, ...]:
    return () if choices.task == "digits" else (f"task={choices.task}", "model=auto")


def _rule(name: str, given: Sequence[str]) -> tuple[str, ...]:
    """The paper's own rules, unless others are set; table 2 runs all of them."""
    ruled = any(
        setting.split("=")[0] in ("market.rule", "market.allocation", "market.payment") for setting in given
    )
    if ruled and name == "table2":
        raise ConfigError("table2 runs every rule: leave --set market.rule, allocation and payment out")
    return () if ruled or name == "table2" else ("market.rule=paper",)


def _count(grid: Grid) -> int:
    count = load_config(grid.base, grid.settings).participants.count
    if count is None:
        raise ConfigError("this experiment shares out kinds by number: give --set participants.count=N")
    return count


def _all_methods() -> tuple[str, ...]:
    from ipfl.methods import METHODS

    return tuple(METHODS)

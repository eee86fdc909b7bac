"""The tables that say how a run goes: training, market, partition, evaluation, withdrawal, engine."""

import re
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ipfl.config.amounts import NUM_ROUNDS_MAX, PARTICIPANT_ID_PATTERN, Table

Rule = Literal["paper", "lean", "truthful", "subsidised"]


class TrainingConfig(Table):
    """Local training: `steps` of SGD a round on batches of `batch_size` examples."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    lr: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 1e-5


class MarketConfig(Table):
    """The market's rules: either `rule`, a named pair, or `allocation` and `payment`.

    `gain_curve` says what more examples are worth to whoever has no curve of its own: sqrt (the paper's law),
    power:exponent=0.35 or log:scale=1,reference=0.

    `distance` = "sketch" compares sketches of `sketch_size` numbers in place of the updates themselves. `candidates`
    = k offers each buyer its k nearest by sketch, 0 everybody: docs/market.md, "Thousands of participants".

    `eligibility`: whether a buyer tries models on examples of its own before they are on offer to it: "on", "off",
    "auto", where it has 64 examples or more, and 200 others at most to try, or "copies": nobody tries, and only whose
    update is a copy of another's is held back: docs/market.md, "Trying before buying".
    """

    lam: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 2.0
    eta: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 5.0
    rule: Rule | None = None
    allocation: Literal["greedy", "exact"] | None = None
    payment: Literal["marginal", "critical", "vcg", "vcg-subsidised"] | None = None
    gain_curve: str = "sqrt"
    distance: Literal["exact", "sketch"] = "exact"
    sketch_size: Annotated[int, Field(ge=16, le=10_000_000)] = 4096
    candidates: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    eligibility: Literal["auto", "on", "off", "copies"] = "auto"

    @model_validator(mode="after")
    def _one_way(self) -> "MarketConfig":
        if (self.allocation is None) != (self.payment is None):
            raise ValueError("allocation and payment go together: give both, or a rule instead")
        if self.rule is not None and self.allocation is not None:
            raise ValueError("give either rule, or allocation and payment, not both")
        return self


def _form_of_train_examples(value: object) -> str:
    return "<all>" if isinstance(value, str) else "<some>"


TrainOnSome = Annotated[tuple[int, int], Field(strict=False), Tag("<some>")]
TrainOnAll = Annotated[Literal["all"], Tag("<all>")]


class PartitionConfig(Table):
    """How a common data set is shared out among participants (own data needs none); docs/partitions.md.

    `cluster`: label shares of each of `clusters` drawn from Dirichlet(`alpha_between`), those of its members from
    Dirichlet(`alpha_within` * the cluster's shares), parts of equal size; with `sizes` = "drawn" every class is
    shared out among clusters, then among members. `dirichlet`: label shares from Dirichlet(`alpha`), equal sizes;
    `niid`: every class shared out by Dirichlet(`alpha`); `skew`: `classes_per_participant` each; `iid`: at random,
    equal sizes; `quantity`: at random, sizes from Dirichlet(`alpha`); `natural`, `domain`: by the data's own groups.

    Each participant trains on `train_examples` (low, high; drawn uniformly) and tests on the rest of its part, or
    trains on "all" of it, at least `min_examples`, and is tested on common data.
    """

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = "cluster"
    clusters: Annotated[int, Field(ge=1, le=1000)] = 3
    sizes: Literal["equal", "drawn"] = "equal"
    alpha_between: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    alpha_within: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    classes_per_participant: Annotated[int, Field(ge=2, le=1_000_000)] = 5
    train_examples: Annotated[TrainOnSome | TrainOnAll, Discriminator(_form_of_train_examples)] = (25, 50)
    min_examples: Annotated[int, Field(ge=2, le=1_000_000_000)] = 10

    @field_validator("train_examples", mode="before")
    @classmethod
    def _some_or_all(cls, value: object) -> object:
        if isinstance(value, list | tuple) or value == "all":
            return value
        raise ValueError(f'{value!r} is neither two counts, [low, high], nor "all"')

    @model_validator(mode="after")
    def _ordered(self) -> "PartitionConfig":
        if self.train_examples == "all":
            return self
        low, high = self.train_examples
        if not 1 <= low <= high:
            raise ValueError(f"train_examples = [{low}, {high}] must be two counts, 1 <= low <= high")
        return self


class EvaluationConfig(Table):
    """What is kept for judging models, and never trained on.

    `test_fraction` of each participant's own rows is kept (own data only), and `validation_fraction` of what a
    participant keeps is for choosing the round, the rest for reporting. Where partition.train_examples = "all",
    `common_fraction` of the whole data set is kept instead (unless it comes with a test part). Every model is
    also judged on one common test set, of `common_examples_max` examples at most (0: not at all). Models are judged
    after every `every`-th round and after the last.
    """

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    common_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    common_examples_max: Annotated[int, Field(ge=0, le=10_000_000)] = 10_000
    every: Annotated[int, Field(ge=1, le=NUM_ROUNDS_MAX)] = 1


class WithdrawalConfig(Table):
    """Who leaves when the market costs more than it brings: utility below zero in a round.

    `strict`: at once; `probability`: with `probability`. It comes back after `rejoin_after` rounds (0: never).
    """

    when: Literal["never", "strict", "probability"] = "never"
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    rejoin_after: Annotated[int, Field(ge=0, le=NUM_ROUNDS_MAX)] = 0


class MembershipEvent(Table):
    """A participant that joins or leaves before a round; one whose first event is to join is not there before."""

    round_index: Annotated[int, Field(ge=1, le=NUM_ROUNDS_MAX)]
    participant_id: Annotated[str, Field(pattern=PARTICIPANT_ID_PATTERN)]
    event: Literal["join", "leave"]


class PrivacyConfig(Table):
    """Differentially private training (DP-SGD): what a participant's examples can show of themselves is bounded.

    Every example's gradient is cut to the norm `max_grad_norm` and noise of `noise_multiplier` times that is added to
    their sum. Epsilon is counted for each participant at its `delta`, by the `accountant` "rdp" or "prv"; whoever would
    go beyond `epsilon_max` trains and trades no more. docs/privacy.md.
    """

    noise_multiplier: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    max_grad_norm: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    epsilon_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    accountant: Literal["rdp", "prv"] = "rdp"


class EngineConfig(Table):
    """Where and how participants are trained.

    `workers` threads train participants side by side, each with one torch thread; 0 = one per core. `block`
    participants are stepped together on each (1 = one after another; 0 = chosen by the model: docs/performance.md).
    `device`: "cpu", "cuda" or "cuda:1". `memory_gb`: more than that is refused before training; 0 = what is free.
    """

    name: Literal["in_process"] = "in_process"
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    block: Annotated[int, Field(ge=0, le=100_000)] = 0
    device: str = "cpu"
    memory_gb: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0.0

    @field_validator("device")
    @classmethod
    def _a_device(cls, value: str) -> str:
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", value):
            raise ValueError(
                f'{value!r} is none of "cpu", "cuda" and, for one of several, "cuda:0", "cuda:1", ...'
            )
        return value

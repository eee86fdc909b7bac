"""The configuration of an experiment: typed, frozen, read from TOML. All limits live here.

Unknown keys are refused with the nearest known one; a value out of range is refused with its bound.
`Config` is what a run needs to be repeated: its TOML text is the run folder's config.toml.
"""

import copy
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from ipfl.errors import ConfigError

NUM_PARTICIPANTS_MAX = 100_000
NUM_ROUNDS_MAX = 100_000
PROHIBITIVE_COST = 1e9
PARTICIPANT_ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"

Kind = Literal["trader", "buyer", "seller", "attacker"]
Rule = Literal["paper", "lean", "truthful", "subsidised"]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of the configuration: immutable, strict in its types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Distribution(Table):
    """Amounts drawn per participant: uniform between `low` and `high`, or lognormal (`median`, `sigma`)."""

    distribution: Literal["uniform", "lognormal"]
    low: Amount = 0.0
    high: Amount = 1.0
    median: Annotated[float, Field(gt=0, le=1e15)] = 1.0
    sigma: Annotated[float, Field(ge=0, le=10)] = 0.5

    @model_validator(mode="after")
    def _ordered(self) -> "Distribution":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class PerExample(Table):
    """A valuation in step with the data: `per_example` times the participants' mean number of training examples."""

    per_example: Amount


def _form(value: object) -> str:
    """Which form of an amount a value has, so that errors speak of that form alone."""
    return "<distribution>" if isinstance(value, Distribution | Mapping) else "<amount>"


def _form_of_valuation(value: object) -> str:
    if isinstance(value, PerExample) or (isinstance(value, Mapping) and "per_example" in value):
        return "<per_example>"
    return _form(value)


Given = Annotated[Amount, Tag("<amount>")]
Drawn = Annotated[Distribution, Tag("<distribution>")]
Scaled = Annotated[PerExample, Tag("<per_example>")]


class ParticipantConfig(Table):
    """One participant, described by itself.

    `report_*` are misreports: what it bids is the factor times the truth (1 = the truth).
    """

    id: Annotated[str, Field(pattern=PARTICIPANT_ID_PATTERN)]
    kind: Kind = "trader"
    valuation: Amount
    export_cost: Amount
    conduct: str = "honest"
    gain_curve: str | None = None
    report_num_examples: Factor = 1.0
    report_valuation: Factor = 1.0
    report_export_cost: Factor = 1.0


class LieConfig(Table):
    """What liars report: each factor times the truth."""

    num_examples: Factor = 1.0
    valuation: Factor = 1.0
    export_cost: Factor = 1.0


class ParticipantsConfig(Table):
    """Participants described by a count and distributions, by `rows`, or by a CSV `file`.

    With a count, the kinds other than trader are given to the last participants, in the order buyer, seller,
    attacker. A buyer's export cost is prohibitive, a seller's valuation is 0, an attacker's both are 0.
    The first `liars` participants report `lie` times the truth.
    """

    count: Annotated[int, Field(ge=1, le=NUM_PARTICIPANTS_MAX)] | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,48}$")] = "participant-"
    buyers: Annotated[int, Field(ge=0)] = 0
    sellers: Annotated[int, Field(ge=0)] = 0
    attackers: Annotated[int, Field(ge=0)] = 0
    attack: str = "sign_flip"
    buyer_export_cost: Amount = PROHIBITIVE_COST
    liars: Annotated[int, Field(ge=0)] = 0
    lie: LieConfig = LieConfig()
    valuation: Annotated[Given | Drawn | Scaled, Discriminator(_form_of_valuation)] = 10_000.0
    export_cost: Annotated[Given | Drawn, Discriminator(_form)] = 0.5
    file: str | None = None
    rows: Annotated[tuple[ParticipantConfig, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _kinds_fit(self) -> "ParticipantsConfig":
        others = self.buyers + self.sellers + self.attackers
        if self.count is not None and others > self.count:
            raise ValueError(f"{others} buyers, sellers and attackers are more than count = {self.count}")
        if self.count is not None and self.liars > self.count:
            raise ValueError(f"{self.liars} liars are more than count = {self.count}")
        seen: set[str] = set()
        for row in self.rows:
            if row.id in seen:
                raise ValueError(f"participant id {row.id!r} stands twice")
            seen.add(row.id)
        return self


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
    """

    lam: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 2.0
    eta: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 5.0
    rule: Rule | None = None
    allocation: Literal["greedy", "exact"] | None = None
    payment: Literal["marginal", "critical", "vcg", "vcg-subsidised"] | None = None
    gain_curve: str = "sqrt"

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
    also judged on one common test set, of `common_examples_max` examples at most (0: not at all).
    """

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    common_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    common_examples_max: Annotated[int, Field(ge=0, le=10_000_000)] = 10_000


class WithdrawalConfig(Table):
    """Who leaves when the market costs more than it brings: utility below zero in a round.

    `strict`: at once; `probability`: with `probability`. It comes back after `rejoin_after` rounds (0: never).
    """

    when: Literal["never", "strict", "probability"] = "never"
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    rejoin_after: Annotated[int, Field(ge=0, le=NUM_ROUNDS_MAX)] = 0


class EngineConfig(Table):
    """`workers` threads train participants side by side, each with one torch thread; 0 = one per core."""

    name: Literal["in_process"] = "in_process"
    workers: Annotated[int, Field(ge=0, le=1024)] = 0


def _check_setting(value: object) -> object:
    """What a task's own setting may be: whatever TOML can say without dates and tables."""
    parts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(part, bool | int | float | str) for part in parts):
        raise ValueError("expected a number, a text, true, false, or a list of such values")
    return list(parts) if isinstance(value, list | tuple) else value


Setting = Annotated[Any, AfterValidator(_check_setting)]
"""A setting that a task gives its meaning to, e.g. the side of its images."""


class Config(Table):
    """One experiment.

    Built by hand, `Config(rounds=3)`, a mistake raises pydantic's ValidationError, which lists all that is wrong;
    `from_mapping`, `from_toml` and `ipfl.load_config` raise `ConfigError` with one sentence. `methods` holds the
    hyper-parameters of methods by their name; those of `method` are used. `task_settings` are what `task` lets be set.
    """

    rounds: Annotated[int, Field(ge=1, le=NUM_ROUNDS_MAX)] = 20
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    method: str = "ipfl"
    task: str = "digits"
    model: str = "auto"
    data: str | None = None
    label: str = "label"
    participants: ParticipantsConfig = ParticipantsConfig()
    training: TrainingConfig = TrainingConfig()
    market: MarketConfig = MarketConfig()
    partition: PartitionConfig = PartitionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    withdrawal: WithdrawalConfig = WithdrawalConfig()
    engine: EngineConfig = EngineConfig()
    methods: dict[str, dict[str, bool | int | float | str]] = Field(default_factory=dict)
    task_settings: dict[str, Setting] = Field(default_factory=dict)

    @field_validator("participants", mode="before")
    @classmethod
    def _rows(cls, value: object) -> object:
        return {"rows": value} if isinstance(value, list | tuple) else value

    def to_toml(self) -> str:
        """The configuration as TOML text; `Config.from_toml` of it is equal to `self`.

        >>> Config.from_toml(Config(rounds=3).to_toml()) == Config(rounds=3)
        True
        """
        tables = self.model_dump(mode="json", exclude_none=True)
        if self.participants.rows:
            tables["participants"] = tables["participants"]["rows"]
        else:
            del tables["participants"]["rows"]
        return tomli_w.dumps(tables)

    @classmethod
    def from_toml(cls, text: str, where: str = "configuration") -> "Config":
        """Read TOML text; `where` names its origin in errors.

        Raises:
          ConfigError: not TOML, an unknown key, a wrong type, a value out of range.
        """
        return cls.from_mapping(parse_toml(text, where), where)

    @classmethod
    def from_mapping(cls, tables: Mapping[str, Any], where: str = "configuration") -> "Config":
        """Validate nested tables, as tomllib gives them.

        Raises:
          ConfigError: as in `from_toml`, naming the key.
        """
        try:
            return cls.model_validate(dict(tables))
        except ValidationError as error:
            raise ConfigError(f"{where}: {_sentence(error)}") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as nested tables; a `ConfigError` names line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file."""
    try:
        return parse_toml(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read configuration {path}: {reason}") from None


def with_settings(tables: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply `key.path=value` settings (values in TOML syntax, bare words are strings) to nested tables.

    >>> with_settings({"rounds": 5}, ["rounds=10", "market.rule=paper"])
    {'rounds': 10, 'market': {'rule': 'paper'}}
    """
    result: dict[str, Any] = copy.deepcopy(dict(tables))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {setting!r}: expected key=value, e.g. --set rounds=10")
        *parents, key = path.strip().split(".")
        table: Any = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {setting!r}: {parent!r} is not a table of settings here")
        table[key] = _toml_value(text.strip())
    return result


def _toml_value(text: str) -> object:
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tables["value"] if len(tables) == 1 else text


def _sentence(error: ValidationError) -> str:
    """The first problem that pydantic found, as one sentence; an unknown key first, as it often explains the rest."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    parts = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    key = ".".join(parts)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = list(_table_at(parts[:-1]).model_fields)
        near = difflib.get_close_matches(parts[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] in ("model_type", "model_attributes_type"):
        message = "expected a table of settings"
    if first["type"] in ("value_error", "missing"):
        return f"{key + ': ' if key else ''}{message}{more}"
    return f"{key} = {first['input']!r}: {message}{more}"


def _table_at(path: Sequence[str]) -> type[BaseModel]:
    """The table class found along `path` from the top of `Config`."""
    nested: dict[str, type[BaseModel]] = {
        "participants": ParticipantsConfig,
        "training": TrainingConfig,
        "market": MarketConfig,
        "partition": PartitionConfig,
        "evaluation": EvaluationConfig,
        "engine": EngineConfig,
        "withdrawal": WithdrawalConfig,
        "lie": LieConfig,
        "rows": ParticipantConfig,
        "valuation": Distribution,
        "export_cost": Distribution,
    }
    named = [part for part in path if not part.isdigit()]
    return nested.get(named[-1], Config) if named else Config

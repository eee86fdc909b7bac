"""The configuration of an experiment, and what is wrong with one in one sentence."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

import tomli_w
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator

from ipfl.config.amounts import NUM_ROUNDS_MAX, Distribution, Table
from ipfl.config.language import LanguageConfig
from ipfl.config.participants import LieConfig, ParticipantConfig, ParticipantsConfig
from ipfl.config.sections import (
    EngineConfig,
    EvaluationConfig,
    MarketConfig,
    MembershipEvent,
    PartitionConfig,
    PrivacyConfig,
    TrainingConfig,
    WithdrawalConfig,
)
from ipfl.config.toml import parse_toml
from ipfl.errors import ConfigError


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
    `membership`: who joins or leaves between rounds. `language`, if
    given, makes it a run of adapters on a language model; `privacy` one of differentially private training.
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
    membership: Annotated[tuple[MembershipEvent, ...], Field(strict=False)] = ()
    engine: EngineConfig = EngineConfig()
    language: LanguageConfig | None = None
    privacy: PrivacyConfig | None = None
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
        if not self.membership:
            del tables["membership"]
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
            raise ConfigError(f"{where}: {sentence(error, cls)}") from None


def sentence(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first problem that pydantic found in tables of a kind, as one sentence; an unknown key first."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    parts = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    key = ".".join(parts)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = list(_table_at(parts[:-1], kind).model_fields)
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


def _table_at(path: Sequence[str], top: type[BaseModel]) -> type[BaseModel]:
    """The table class found along `path` from the top."""
    nested: dict[str, type[BaseModel]] = {
        "participants": ParticipantsConfig,
        "lie": LieConfig,
        "rows": ParticipantConfig,
        "valuation": Distribution,
        "export_cost": Distribution,
        **_tables_of(Config),
        **_tables_of(top),
    }
    named = [part for part in path if not part.isdigit()]
    return nested.get(named[-1], top) if named else top


def _tables_of(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The tables in a table, by name: those that its fields hold, alone, optional or in a row."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in kind.model_fields.items():
        held = [field.annotation, *get_args(field.annotation)]
        held += [inner for outer in held for inner in get_args(outer)]
        tables = [part for part in held if isinstance(part, type) and issubclass(part, BaseModel)]
        if tables:
            found[name] = tables[0]
    return found

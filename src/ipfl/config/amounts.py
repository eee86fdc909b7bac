"""Limits, and amounts given or drawn: what the tables of a configuration are made of."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator

NUM_PARTICIPANTS_MAX = 100_000
NUM_ROUNDS_MAX = 100_000
PROHIBITIVE_COST = 1e9
PARTICIPANT_ID_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""Ids name folders: none begins with a dot."""

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


def form(value: object) -> str:
    """Which form of an amount a value has, so that errors speak of that form alone."""
    return "<distribution>" if isinstance(value, Distribution | Mapping) else "<amount>"


def form_of_valuation(value: object) -> str:
    """Which form a valuation has."""
    if isinstance(value, PerExample) or (isinstance(value, Mapping) and "per_example" in value):
        return "<per_example>"
    return form(value)


Given = Annotated[Amount, Tag("<amount>")]
Drawn = Annotated[Distribution, Tag("<distribution>")]
Scaled = Annotated[PerExample, Tag("<per_example>")]

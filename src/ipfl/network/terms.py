"""A participant's terms (terms.toml): who it is, what it bids, and what it has agreed to. They stay with it.

What leaves of them is the bid. The true valuation and cost, if they are given, are for its own statement alone.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from ipfl.config import PARTICIPANT_ID_PATTERN, Config, Table, read_toml
from ipfl.config.amounts import Amount
from ipfl.config.experiment import sentence
from ipfl.config.language import TINY
from ipfl.errors import BidError, ConfigError
from ipfl.market.curve_text import parse_curve

SomeTable = TypeVar("SomeTable", bound=BaseModel)


class BidTerms(Table):
    """What is reported: valuation K [gain^2 * examples] and export cost c [credits per buyer served]."""

    valuation: Amount
    export_cost: Amount
    gain_curve: str | None = None

    @field_validator("gain_curve")
    @classmethod
    def _a_curve(cls, value: str | None) -> str | None:
        try:
            return value if value is None else value if parse_curve(value) else None
        except BidError as error:
            raise ValueError(str(error)) from None


class TruthTerms(Table):
    """The true amounts, where they are not those of the bid. They are never sent."""

    valuation: Amount | None = None
    export_cost: Amount | None = None


class LimitTerms(Table):
    """Up to where it takes part: credits paid in all, less what it received; and whether what it received may be
    taken back."""

    paid_total: Amount | None = None
    reversals: bool = False


class AgreedTerms(Table):
    """What the market has to offer for the participant to take part; what is left out may be anything.

    `base`: the language model that adapters are trained of. Left out, it is one that needs no fetching.
    """

    rounds: int | None = None
    method: str | None = None
    model: str | None = None
    base: str | None = None
    lam: float | None = None
    allocation: str | None = None
    payment: str | None = None
    private: bool | None = None


class Terms(Table):
    """All of terms.toml; `ca` is a path, taken from the file's own folder."""

    participant_id: Annotated[str, Field(pattern=PARTICIPANT_ID_PATTERN)]
    operator_key: str
    ca: str | None = None
    bid: BidTerms
    truth: TruthTerms = TruthTerms()
    limits: LimitTerms = LimitTerms()
    market: AgreedTerms = AgreedTerms()

    @field_validator("operator_key")
    @classmethod
    def _a_key(cls, value: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError(
                f"{value[:80]!r} is no key: give the 64 digits (0-9, a-f) that the operator's "
                "`ipfl keys operator` printed"
            )
        return value


def read_terms(path: Path) -> Terms:
    """Read and check terms.toml.

    Raises:
      ConfigError: it cannot be read, or a key is unknown, missing or out of range; the sentence names it.
    """
    terms = checked(Terms, read_toml(path), str(path))
    if terms.ca is not None:
        terms = terms.model_copy(update={"ca": str(path.absolute().parent / terms.ca)})
    return terms


def base_unasked_for(agreed: AgreedTerms, config: Config) -> str | None:
    """Why a market's base model is not taken: it would be fetched, and the terms do not name it; None if it is."""
    base = None if config.language is None else config.language.base
    if base in (None, TINY, agreed.base) or _is_folder(base):
        return None
    return (
        f"the market's base model {base[:80]!r} is no folder here, and is fetched only if the terms say so: if you "
        f"agree to it, write base = {json.dumps(base[:80], ensure_ascii=False)} under [market] in the terms"
    )


def checked(kind: type[SomeTable], tables: dict[str, Any], where: str) -> SomeTable:
    """Nested tables as a table of a kind.

    Raises:
      ConfigError: one sentence.
    """
    try:
        return kind.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(f"{where}: {sentence(error, kind)}") from None


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):  # too long for a path, or no text for one
        return False

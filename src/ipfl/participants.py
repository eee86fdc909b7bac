"""From the configuration to the participants: rows, a CSV file, or a count and distributions."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ipfl.conduct import find_conduct
from ipfl.config import (
    PROHIBITIVE_COST,
    Config,
    Distribution,
    ParticipantConfig,
    ParticipantsConfig,
)
from ipfl.errors import ConfigError
from ipfl.seeding import generator
from ipfl.types import Participant, ParticipantKind

COLUMNS = ("id", "kind", "valuation", "export_cost", "conduct")


def resolve_rows(config: Config, participant_ids: Sequence[str]) -> tuple[ParticipantConfig, ...]:
    """One explicit row per participant, in the order of `participant_ids` (the owners of the data).

    Raises:
      ConfigError: rows and data name different participants, a kind contradicts its numbers, an unknown conduct.
    """
    table = config.participants
    rows = table.rows or _drawn_rows(table, config.seed, participant_ids)
    by_id = {row.id: row for row in rows}
    strangers = sorted(set(by_id) - set(participant_ids))
    if strangers:
        raise ConfigError(
            f"participant {strangers[0]!r} is configured but has no data; data is there for: {_some(participant_ids)}"
        )
    lacking = [name for name in participant_ids if name not in by_id]
    if lacking:
        raise ConfigError(f"participant {lacking[0]!r} has data but no row among the configured participants")
    for row in rows:
        find_conduct(row.conduct, row.id)
    return tuple(by_id[name] for name in participant_ids)


def participant(row: ParticipantConfig, num_examples: int) -> Participant:
    """The truth about one participant: its row and the number of its training examples."""
    return Participant(
        participant_id=row.id,
        kind=ParticipantKind(row.kind),
        num_examples=num_examples,
        valuation=row.valuation,
        export_cost=row.export_cost,
        conduct=row.conduct,
    )


def read_participants(path: Path) -> tuple[ParticipantConfig, ...]:
    """Rows from a CSV file with the columns id, valuation, export_cost and optionally kind, conduct.

    Raises:
      ConfigError: the file cannot be read, a column is unknown or missing, a value is out of range (with its line).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            records = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read participants file {path}: {error}") from None
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in ("id", "valuation", "export_cost") if name not in names]
    if unknown or missing:
        what = f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}"
        raise ConfigError(f"participants file {path} has {what}; its columns are {', '.join(COLUMNS)}")
    return tuple(_row(record, f"{path}, line {line}") for line, record in enumerate(records, start=2))


def _row(record: dict[str, str], where: str) -> ParticipantConfig:
    given = {key: value.strip() for key, value in record.items() if value}
    try:
        return ParticipantConfig.model_validate(given, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{where}: {first['loc'][0]} = {first['input']!r}: {first['msg'].lower()}"
        ) from None


def _drawn_rows(
    table: ParticipantsConfig, seed: int, participant_ids: Sequence[str]
) -> tuple[ParticipantConfig, ...]:
    m = len(participant_ids)
    traders = m - table.buyers - table.sellers - table.attackers
    if traders < 0:
        raise ConfigError(
            f"participants: {m} participants are fewer than the configured buyers, sellers and attackers together"
        )
    kinds = [ParticipantKind.TRADER] * traders
    kinds += [ParticipantKind.BUYER_ONLY] * table.buyers
    kinds += [ParticipantKind.SELLER_ONLY] * table.sellers
    kinds += [ParticipantKind.ATTACKER] * table.attackers
    rows = []
    for index, (name, kind) in enumerate(zip(participant_ids, kinds, strict=True)):
        random = generator(seed, -1, index, "participants")
        valuation = _draw(table.valuation, random)
        export_cost = _draw(table.export_cost, random)
        if kind in (ParticipantKind.SELLER_ONLY, ParticipantKind.ATTACKER):
            valuation = 0.0
        if kind is ParticipantKind.BUYER_ONLY:
            export_cost = PROHIBITIVE_COST
        if kind is ParticipantKind.ATTACKER:
            export_cost = 0.0
        conduct = table.attack if kind is ParticipantKind.ATTACKER else "honest"
        rows.append(
            ParticipantConfig(
                id=name, kind=kind.value, valuation=valuation, export_cost=export_cost, conduct=conduct
            )
        )
    return tuple(rows)


def _draw(amount: float | Distribution, random: np.random.Generator) -> float:
    """One amount, rounded to six significant digits so that files stay readable."""
    if not isinstance(amount, Distribution):
        return float(amount)
    if amount.distribution == "uniform":
        drawn = random.uniform(amount.low, amount.high)
    else:
        drawn = amount.median * np.exp(amount.sigma * random.standard_normal())
    return float(f"{drawn:.6g}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

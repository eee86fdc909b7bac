"""From the configuration to the participants: rows, a CSV file, or a count and distributions."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ipfl.conduct import find_conduct
from ipfl.config import (
    Config,
    Distribution,
    LieConfig,
    ParticipantConfig,
    ParticipantsConfig,
    PerExample,
)
from ipfl.errors import ConfigError
from ipfl.seeding import generator
from ipfl.types import Misreport, Participant, ParticipantKind

REPORTS = ("report_num_examples", "report_valuation", "report_export_cost")
COLUMNS = ("id", "kind", "valuation", "export_cost", "conduct", "gain_curve", *REPORTS)


def resolve_rows(
    config: Config, participant_ids: Sequence[str], num_examples: Sequence[int]
) -> tuple[ParticipantConfig, ...]:
    """One explicit row per participant, in the order of `participant_ids` (the owners of the data).

    Args:
      config: its participants table and seed.
      participant_ids: whose data there is.
      num_examples: training examples of each; only their mean counts, and only for a valuation per example.
    Raises:
      ConfigError: rows and data name different participants, a kind contradicts its numbers, an unknown conduct.
    """
    table = config.participants
    rows = table.rows or _drawn_rows(
        table, config.seed, participant_ids, math.fsum(num_examples) / len(num_examples)
    )
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
        gain_curve=row.gain_curve,
        misreport=Misreport(row.report_num_examples, row.report_valuation, row.report_export_cost),
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
            records = [(reader.line_num, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        raise ConfigError(f"cannot read participants file {path}: {reason}") from None
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in ("id", "valuation", "export_cost") if name not in names]
    if unknown or missing:
        what = f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}"
        raise ConfigError(f"participants file {path} has {what}; its columns are {', '.join(COLUMNS)}")
    if not records:
        raise ConfigError(f"participants file {path} has no rows: give one per participant")
    seen: dict[str, int] = {}
    rows = []
    for line, record in records:
        row = _row(record, f"participants file {path}, line {line}")
        if row.id in seen:
            raise ConfigError(
                f"participants file {path}, line {line}: participant id {row.id!r} "
                f"stands in line {seen[row.id]} already"
            )
        seen[row.id] = line
        rows.append(row)
    return tuple(rows)


def _row(record: dict[str, str], where: str) -> ParticipantConfig:
    if None in record or None in record.values():
        raise ConfigError(f"{where}: expected as many values as the header has names")
    given = {key: value.strip() for key, value in record.items() if value.strip()}
    try:
        return ParticipantConfig.model_validate(given, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        key, message = first["loc"][0], first["msg"][0].lower() + first["msg"][1:]
        if first["type"] == "missing":
            raise ConfigError(f"{where}: {key} is empty") from None
        raise ConfigError(f"{where}: {key} = {first['input']!r}: {message}") from None


def _drawn_rows(
    table: ParticipantsConfig, seed: int, participant_ids: Sequence[str], mean_examples: float
) -> tuple[ParticipantConfig, ...]:
    m = len(participant_ids)
    if table.liars > m:
        raise ConfigError(f"participants.liars = {table.liars}, but there are {m} participants")
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
        valuation = _draw(table.valuation, random, mean_examples)
        export_cost = _draw(table.export_cost, random, mean_examples)
        if kind in (ParticipantKind.SELLER_ONLY, ParticipantKind.ATTACKER):
            valuation = 0.0
        if kind is ParticipantKind.BUYER_ONLY:
            export_cost = table.buyer_export_cost
        if kind is ParticipantKind.ATTACKER:
            export_cost = 0.0
        conduct = table.attack if kind is ParticipantKind.ATTACKER else "honest"
        lie = table.lie if index < table.liars else LieConfig()
        rows.append(
            ParticipantConfig(
                id=name,
                kind=kind.value,
                valuation=valuation,
                export_cost=export_cost,
                conduct=conduct,
                report_num_examples=lie.num_examples,
                report_valuation=lie.valuation,
                report_export_cost=lie.export_cost,
            )
        )
    return tuple(rows)


def _draw(
    amount: float | Distribution | PerExample, random: np.random.Generator, mean_examples: float
) -> float:
    """One amount; computed ones are rounded to six significant digits so that files stay readable."""
    if isinstance(amount, PerExample):
        drawn = amount.per_example * mean_examples
    elif not isinstance(amount, Distribution):
        return float(amount)
    elif amount.distribution == "uniform":
        drawn = random.uniform(amount.low, amount.high)
    else:
        drawn = amount.median * np.exp(amount.sigma * random.standard_normal())
    return float(f"{drawn:.6g}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

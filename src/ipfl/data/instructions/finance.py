"""The paper's two tasks of instructions: `finance` (sentiment of three kinds) and `cofinance` (code and news).

Every data set belongs to a cluster of participants, who share it out among themselves. What differs from the paper's
files: rows that stand more than once count once, whatever set they are in, before anything is kept for tests. (The
usual preparation of TFNS doubles its rows first, which puts a twin of most test rows among those for training.)
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ipfl.config import Config, Table
from ipfl.data.instructions.rows import Instruction, InstructionData, Instructions, InstructionTask, repeated
from ipfl.data.instructions.sets import (
    CODE_ALPACA,
    FIQA,
    NWGI,
    TFNS,
    WAYS,
    PublishedSet,
    Way,
    places_of,
    put,
    read_set,
)
from ipfl.data.published.files import Inspection, absent, data_root
from ipfl.errors import DataError
from ipfl.seeding import generator

FINANCE_SETS = (FIQA, TFNS, NWGI)
COFINANCE_SETS = (CODE_ALPACA, NWGI)
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class SharesSettings(Table):
    """What [task_settings] may say of both tasks.

    Of each data set, `test_share` is kept apart; of that, `test_rows_max` rows at most are shared out for tests.
    `nwgi`: whether NWGI has its 7 answers or 3, in training and in tests alike.
    """

    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.226
    test_rows_max: Count = 600
    nwgi: Way = "7-way"


class FinanceSettings(SharesSettings):
    """What [task_settings] may say of the task `finance`."""

    rows_per_participant: Count = 200
    participants_per_set: Count = 2


class CofinanceSettings(SharesSettings):
    """What [task_settings] may say of the task `cofinance`: how many participants, and everyone's training rows."""

    code_rows: Count = 500
    code_participants: Count = 5
    news_rows: Count = 200
    news_participants: Count = 3


@dataclass(frozen=True)
class Cluster:
    """Participants who share one data set: how many there are, their training rows, and the names of both settings."""

    data_set: PublishedSet
    prefix: str
    participants: int
    rows: int
    settings: tuple[str, str]


def finance(settings: FinanceSettings, config: Config) -> InstructionTask:
    """FIQA, TFNS and NWGI, each of a cluster of participants.

    Raises:
      DataError: a data set is not there, cannot be read, or has too few rows.
    """
    names = ("participants_per_set", "rows_per_participant")
    clusters = tuple(
        Cluster(one, one.file, settings.participants_per_set, settings.rows_per_participant, names)
        for one in FINANCE_SETS
    )
    return shared_out("finance", clusters, settings, data_root() / "finance", config.seed)


def cofinance(settings: CofinanceSettings, config: Config) -> InstructionTask:
    """CodeAlpaca, shared by participants who write code, and NWGI, shared by others.

    Raises:
      DataError: as in `finance`.
    """
    code = ("code_participants", "code_rows")
    news = ("news_participants", "news_rows")
    clusters = (
        Cluster(CODE_ALPACA, "code", settings.code_participants, settings.code_rows, code),
        Cluster(NWGI, "news", settings.news_participants, settings.news_rows, news),
    )
    return shared_out("cofinance", clusters, settings, data_root() / "cofinance", config.seed)


def shared_out(
    task: str, clusters: tuple[Cluster, ...], settings: SharesSettings, folder: Path, seed: int
) -> InstructionTask:
    """The data sets of a folder, each shared out among its cluster.

    Of every data set, in this order: rows are shuffled; `test_share` of them are kept apart, of which the first
    `test_rows_max` are dealt round the cluster; of the others, as many as are needed are dealt round for training.

    Laws: no row stands twice in the task; everybody trains on as many rows as set, and the tests of a cluster differ
    by one row at most; the order of rows in files, and which file a row is in, change nothing; `test_rows_max`
    changes no training row.

    Args:
      task: its name.
      clusters: who shares what; a row's category is the place of its data set here.
      settings: of the task.
      folder: holds all data sets.
      seed: decides which rows.
    Raises:
      DataError: a data set is not there, cannot be read, or has too few rows.
    """
    missing = [cluster.data_set for cluster in clusters if not places_of(cluster.data_set, folder)]
    if missing:
        raise absent(task, folder, "; ".join(put(one, folder) for one in missing))
    participants: list[InstructionData] = []
    seen: set[tuple[str, str]] = set()
    for category, cluster in enumerate(clusters):
        rows = _different(read_set(cluster.data_set, folder, settings.nwgi, category), seen)
        order = generator(seed, -1, category, "partition").permutation(len(rows))
        shuffled = tuple(rows[position] for position in order)
        participants += _dealt(task, cluster, shuffled, settings)
    return InstructionTask(task, tuple(participants), tuple(cluster.data_set.name for cluster in clusters))


def _different(rows: list[Instruction], seen: set[tuple[str, str]]) -> list[Instruction]:
    """The rows that were not seen before, in an order that does not depend on the files'."""
    first: dict[tuple[str, str], Instruction] = {}
    for row in rows:
        key = (row.instruction, row.response)
        if key not in seen:
            first.setdefault(key, row)
    seen.update(first)
    return [first[key] for key in sorted(first)]


def _dealt(
    task: str, cluster: Cluster, rows: tuple[Instruction, ...], settings: SharesSettings
) -> list[InstructionData]:
    m, needed = cluster.participants, cluster.participants * cluster.rows
    apart = math.ceil(settings.test_share * len(rows))
    tests, rest = rows[: min(apart, settings.test_rows_max)], rows[apart:]
    what = f"task {task}: {cluster.data_set.name} has {len(rows):,} different rows"
    how_many, how_much = (f"task_settings.{name}" for name in cluster.settings)
    if len(rest) < needed:
        raise DataError(
            f"{what}, of which {len(rest):,} are left for training, but {m} participants with {cluster.rows:,} rows "
            f"each need {needed:,}: lower {how_much}, {how_many} or task_settings.test_share"
        )
    if len(tests) < m:
        larger = "test_rows_max" if settings.test_rows_max < m else "test_share"
        raise DataError(
            f"{what}, of which {len(tests):,} are for tests, but {m} participants need one each: "
            f"lower {how_many}, or raise task_settings.{larger}"
        )
    return [
        InstructionData(
            f"{cluster.prefix}-{index}",
            train=Instructions(rest[:needed][index::m]),
            test=Instructions(tests[index::m]),
        )
        for index in range(m)
    ]


def inspect_finance(folder: Path) -> Inspection:
    """What a folder holds of the task `finance`."""
    return inspect_sets(FINANCE_SETS, folder)


def inspect_cofinance(folder: Path) -> Inspection:
    """What a folder holds of the task `cofinance`."""
    return inspect_sets(COFINANCE_SETS, folder)


def inspect_sets(data_sets: tuple[PublishedSet, ...], folder: Path) -> Inspection:
    """Which data sets a folder holds; every row is read, and taken as a task would take it."""
    found, lacking, damaged = [], [], []
    for data_set in data_sets:
        if not places_of(data_set, folder):
            lacking.append(put(data_set, folder))
            continue
        try:
            found.append(_counted(data_set, folder))
        except DataError as error:
            damaged.append(str(error))
    return Inspection(folder, tuple(found), tuple(lacking), tuple(damaged))


def _counted(data_set: PublishedSet, folder: Path) -> str:
    rows, way = _read_either_way(data_set, folder)
    copies = repeated(tuple(rows))
    parts = [f"{len(rows):,} rows"]
    parts += [f"{copies:,} of them copies, which do not count"] * bool(copies)
    parts += [f'they need task_settings.nwgi = "{way}"'] * (way != WAYS[0])
    return f"{data_set.name}: {', '.join(parts)}, in {places_of(data_set, folder)[0].name}"


def _read_either_way(data_set: PublishedSet, folder: Path) -> tuple[list[Instruction], Way]:
    """The rows, and with how many answers they can be read: prepared rows have one number of them."""
    errors = []
    for way in WAYS:
        try:
            return read_set(data_set, folder, way), way
        except DataError as error:
            errors.append(error)
    raise errors[0]

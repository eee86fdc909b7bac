"""A task from a folder of one's own files, one per participant (docs/own-data.md is its manual).

Each participant's examples are split and standardised by themselves. The only thing taken from all files
together is the list of class names: models can be exchanged only if they agree on what their outputs mean.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from ipfl.data.arrays import as_pixels, read_arrays
from ipfl.data.participant_files import ending, participant_files
from ipfl.data.prepare import standardise, stratified_split
from ipfl.data.raw import Raw, sort_classes
from ipfl.data.tables import read_table, some
from ipfl.data.tasks import ParticipantData, Split, Task
from ipfl.errors import ConfigError, DataError
from ipfl.seeding import generator

FOLDER_TASK = "folder"
TABLES = (".csv", ".parquet")
ARRAYS = (".npz",)
OTHER_DATA = (
    ".arrow", ".bz2", ".dta", ".feather", ".gz", ".jsonl", ".npy", ".ods", ".orc", ".parq", ".pickle", ".pkl",
    ".pq", ".rds", ".sas7bdat", ".sav", ".tsv", ".xls", ".xlsx", ".zip",
)  # fmt: skip
"""Files that are probably somebody's data: refused, so that no participant is left out unnoticed."""
FORMATS = ".csv, .parquet or .npz"
ELSEWHERE = {".jsonl": "take the preset own-instructions, which reads such files for a language model"}
CLASSES_UNSUSPICIOUS = 10


def load_folder(folder: str | Path, label: str = "label", test_fraction: float = 0.3, seed: int = 0) -> Task:
    """The task whose participants are the files of a folder, in the order of their ids.

    A file's name without its ending is its participant's id. Tables (.csv, .parquet) have a label column and
    numeric features, aligned by name to the order of the first file; arrays (.npz) have x and y.

    Laws: the same files, test_fraction and seed give the same task, whatever the order the file system lists
    them in; no value of one participant's file changes another's inputs or split.

    Args:
      folder: where the files lie; subfolders, hidden files and files such as .md or .toml are left alone.
      label: the column of tables that names each row's class.
      test_fraction: the part of each participant's rows kept for testing, in (0, 1).
      seed: decides which rows.
    Raises:
      DataError: one sentence naming file, row and column, what is wrong and what to do.
      ConfigError: test_fraction or seed out of range.
    """
    check_split(test_fraction, seed)
    files = participant_files(Path(folder), TABLES + ARRAYS, OTHER_DATA, FORMATS, ELSEWHERE)
    _check_kinds(files)
    raws = [read_own(path, label) for path in files]
    class_names = _all_classes(raws)
    participants = [
        participant_data(path.stem, raw, _aligned(raws[0], raw), class_names, index, test_fraction, seed)
        for index, (path, raw) in enumerate(zip(files, raws, strict=True))
    ]
    return Task(FOLDER_TASK, tuple(participants), participants[0].train.x.shape[1:], class_names)


def read_own(path: Path, label: str) -> Raw:
    """One participant's file, by its ending.

    Raises:
      DataError: it cannot be read, or is of no kind that is read.
    """
    if ending(path) not in TABLES + ARRAYS:
        raise DataError(f"{path.name} is no file that is read here: give {FORMATS}")
    return read_arrays(path) if ending(path) in ARRAYS else read_table(path, label)


def participant_data(
    name: str,
    raw: Raw,
    x: Shaped[np.ndarray, "n ..."],
    class_names: Sequence[str],
    index: int,
    test_fraction: float,
    seed: int,
) -> ParticipantData:
    """One participant's examples, split and prepared by themselves.

    Args:
      name: its id; `index` its place among all participants.
      raw: what its file holds; `x` its inputs with the columns in the order of all.
      class_names: of all participants.
      test_fraction, seed: as in `load_folder`.
    """
    position = np.array([class_names.index(known) for known in raw.class_names], dtype=np.int64)
    y = position[raw.y]
    train, test = stratified_split(y, test_fraction, generator(seed, -1, index, "split"))
    x_train, x_test = _prepared(x, train, test)
    return ParticipantData(name, Split(x_train, y[train]), Split(x_test, y[test]))


def check_split(test_fraction: float, seed: int) -> None:
    """Raise `ConfigError` unless rows can be split so.

    >>> check_split(0.3, seed=0)
    """
    if not 0 < test_fraction < 1:
        raise ConfigError(f"test_fraction = {test_fraction}: expected a number between 0 and 1, such as 0.3")
    if seed < 0:
        raise ConfigError(f"seed = {seed}: expected 0 or a positive whole number")


def _check_kinds(files: Sequence[Path]) -> None:
    arrays = [path.name for path in files if ending(path) in ARRAYS]
    tables = [path.name for path in files if ending(path) in TABLES]
    if arrays and tables:
        raise DataError(
            f"{arrays[0]} holds arrays and {tables[0]} a table: all participants need the same kind of file, "
            "either .npz, or .csv and .parquet"
        )


def _all_classes(raws: Sequence[Raw]) -> tuple[str, ...]:
    """The union of all class names: the one thing participants share about their data."""
    class_names = sort_classes([name for raw in raws for name in raw.class_names])
    rows = sum(len(raw.y) for raw in raws)
    if len(class_names) > max(CLASSES_UNSUSPICIOUS, rows / 2):
        raise DataError(
            f"the files hold {len(class_names)} different labels in {rows} rows, e.g. {class_names[0]!r}: "
            "these look like identifiers or amounts, choose a label column that names classes"
        )
    return class_names


def _aligned(first: Raw, raw: Raw) -> Shaped[np.ndarray, "n ..."]:
    """A file's inputs with the columns in the first file's order."""
    if first.columns is None or raw.columns is None:
        if raw.x.shape[1:] != first.x.shape[1:]:
            raise DataError(
                f"{raw.file}: examples have shape {raw.x.shape[1:]}, but those of {first.file} have "
                f"{first.x.shape[1:]}; all participants need the same shape"
            )
        if raw.x.ndim > 2 and (raw.x.dtype == np.uint8) != (first.x.dtype == np.uint8):
            raise DataError(
                f"{raw.file}: images are {raw.x.dtype}, but those of {first.file} are {first.x.dtype}; "
                "store uint8 everywhere, or floats on the same scale everywhere"
            )
        return raw.x
    return in_order(raw, first.columns, f"the columns of {first.file}", "give all files the same columns")


def in_order(raw: Raw, columns: Sequence[str], wanted: str, what_to_do: str) -> Shaped[np.ndarray, "n ..."]:
    """A table's inputs with these columns, in this order.

    Args:
      raw: the table.
      columns: all that it must have, and no others.
      wanted: what errors call them; `what_to_do` ends the sentence.
    Raises:
      DataError: columns are lacking, or there are others besides; names them.
    """
    own = raw.columns or ()
    if own == tuple(columns):
        return raw.x
    absent = [name for name in columns if name not in own]
    extra = [name for name in own if name not in columns]
    if absent or extra:
        parts = [f"lacks {some(absent)}"] * bool(absent) + [f"has {some(extra)} besides"] * bool(extra)
        raise DataError(f"{raw.file} does not have {wanted}: it {' and '.join(parts)}; {what_to_do}")
    return raw.x[:, [own.index(name) for name in columns]]


def _prepared(
    x: Shaped[np.ndarray, "n ..."], train: Int64[np.ndarray, "train"], test: Int64[np.ndarray, "test"]
) -> tuple[Float32[np.ndarray, "train ..."], Float32[np.ndarray, "test ..."]]:
    if x.ndim == 2:
        return standardise(x[train], x[test])
    return as_pixels(x[train]), as_pixels(x[test])

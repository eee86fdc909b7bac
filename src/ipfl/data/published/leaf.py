"""FEMNIST and Shakespeare as LEAF's scripts write them (Caldas et al., arXiv 1812.01097): by writer, by role.

LEAF publishes scripts, not archives: `preprocess.sh` downloads the raw data and writes folders `train` and `test`
of JSON files, {"users": [...], "num_samples": [...], "user_data": {user: {"x": [...], "y": [...]}}}. Users are
the groups of the source: each is a writer of handwriting, or a role in a play.
"""

import json
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from ipfl.data.published.files import Inspection, absent
from ipfl.data.sources import Source
from ipfl.errors import DataError

SITE = "https://github.com/TalwalkarLab/leaf"
SPLITS = ("train", "test")
SIDE = 28
MEAN, DEVIATION = 0.964, 0.159
"""Of FEMNIST's training pixels, which LEAF gives from 0 (ink) to 1 (paper)."""
CHARACTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""LEAF's alphabet, in its order."""
LENGTH = 80
UNKNOWN = len(CHARACTERS) - 1
"""LEAF looks a character up with str.find, whose -1 for an unknown one means the last of the alphabet."""
UNKNOWN_SHARE_MAX = 0.01

Examples = tuple[Float32[np.ndarray, "n ..."], Int64[np.ndarray, "n"]]


class Format(NamedTuple):
    """What LEAF writes for one of its data sets, and the command that makes it."""

    task: str
    command: str
    class_names: tuple[str, ...]
    examples: Callable[[list[Any], list[Any], str], Examples]


def femnist(folder: Path) -> Source:
    """Handwritten digits and letters: 1 x 28 x 28, (pixel - 0.964) / 0.159, 62 classes, grouped by writer.

    Args:
      folder: holds `train` and `test` with LEAF's JSON files.
    Raises:
      DataError: they are not there, truncated or malformed; names file and writer.
    """
    return _read(folder, FEMNIST)


def shakespeare(folder: Path) -> Source:
    """80 characters and the one that follows them, of 80 different ones, grouped by role.

    x are positions in LEAF's alphabet, as float32 (exact); the LSTM turns them back.

    Args:
      folder: as for `femnist`.
    Raises:
      DataError: as for `femnist`.
    """
    return _read(folder, SHAKESPEARE)


def inspect_leaf(folder: Path, form: Format) -> Inspection:
    """Reads all files and counts users and examples."""
    lacking = [name for name in SPLITS if not _json_files(folder / name)]
    if lacking:
        found = [
            f"{name}: {len(_json_files(folder / name))} file(s)" for name in SPLITS if name not in lacking
        ]
        return Inspection(folder, tuple(found), (put(folder, form, lacking),))
    try:
        source = _read(folder, form)
    except DataError as error:
        return Inspection(folder, damaged=(str(error),))
    parts = zip(SPLITS, (source, source.test), strict=True)
    return Inspection(
        folder,
        tuple(
            f"{name}: {len(part.y):,} examples of {len(np.unique(part.groups)):,} users"
            for name, part in parts
            if part is not None and part.groups is not None
        ),
    )


def put(folder: Path, form: Format, splits: Sequence[str] = SPLITS) -> str:
    """Which files to make how, and where to put them, in words."""
    return (
        f"put the folders {' and '.join(splits)} of .json files that LEAF writes into {folder}: clone {SITE}, run "
        f"`{form.command}` in data/{form.task}/, and take them from data/{form.task}/data/"
    )


def _read(folder: Path, form: Format) -> Source:
    for split in SPLITS:
        if not _json_files(folder / split):
            raise absent(form.task, folder, put(folder, form))
    names: dict[str, int] = {}
    train, test = (_split(folder / split, form, names) for split in SPLITS)
    group_names = tuple(names)
    test = test._replace(group_names=group_names)
    return train._replace(group_names=group_names, test=test)


def _split(folder: Path, form: Format, names: dict[str, int]) -> Source:
    """One folder's examples; users get their numbers in `names` in the order in which they stand in the files."""
    x, y, groups = [], [], []
    for path in _json_files(folder):
        for user, data in _users(path):
            where = f"{folder.name}/{path.name}, user {user!r}"
            if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in "xy"):
                raise DataError(f"{where}: expected lists x and y")
            if len(data["x"]) != len(data["y"]):
                raise DataError(f"{where}: {len(data['x'])} examples x but {len(data['y'])} labels y")
            if not data["y"]:
                continue
            inputs, labels = form.examples(data["x"], data["y"], where)
            x.append(inputs)
            y.append(labels)
            groups.append(np.full(len(labels), names.setdefault(user, len(names)), dtype=np.int64))
    if not y:
        raise DataError(f"{folder} has no examples: make its files again with {form.command}")
    return Source(np.concatenate(x), np.concatenate(y), form.class_names, np.concatenate(groups))


def _users(path: Path) -> Iterator[tuple[str, Any]]:
    where = f"{path.parent.name}/{path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        users, counts, data = (content[key] for key in ("users", "num_samples", "user_data"))
        pairs = [(user, count, data[user]) for user, count in zip(users, counts, strict=True)]
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{where} is damaged, it is no whole JSON file ({reason}); make it again") from None
    except (KeyError, TypeError):
        raise DataError(
            f"{where} is no file of LEAF's: expected users, num_samples and user_data of every user"
        ) from None
    for user, count, entry in pairs:
        if isinstance(entry, dict) and isinstance(entry.get("y"), list) and len(entry["y"]) != count:
            raise DataError(
                f"{where}, user {user!r}: num_samples says {count}, but there are {len(entry['y'])} labels; "
                "make the file again"
            )
        yield str(user), entry


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.is_file())


def _handwriting(x: list[Any], y: list[Any], where: str) -> Examples:
    try:
        pixels, labels = np.asarray(x, dtype=np.float32), np.asarray(y)
    except (TypeError, ValueError):
        raise DataError(f"{where}: images are no lists of {SIDE * SIDE} numbers") from None
    if pixels.ndim != 2 or pixels.shape[1] != SIDE * SIDE:
        raise DataError(f"{where}: images are no lists of {SIDE * SIDE} numbers")
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise DataError(f"{where}: a pixel is not from 0 to 1")
    if labels.ndim != 1 or labels.dtype.kind != "i" or labels.min() < 0 or labels.max() > 61:
        raise DataError(f"{where}: labels are no whole numbers from 0 to 61")
    return (pixels.reshape(-1, 1, SIDE, SIDE) - np.float32(MEAN)) / np.float32(DEVIATION), labels.astype(
        np.int64
    )


def _text(x: list[Any], y: list[Any], where: str) -> Examples:
    if not all(isinstance(text, str) and len(text) == LENGTH for text in x):
        raise DataError(f"{where}: x are no texts of {LENGTH} characters")
    if not all(isinstance(text, str) and len(text) == 1 for text in y):
        raise DataError(f"{where}: y are no single characters")
    inputs, labels = _positions("".join(x)), _positions("".join(y))
    unknown = float((inputs < 0).mean())
    if unknown > UNKNOWN_SHARE_MAX:
        raise DataError(
            f"{where}: {unknown:.0%} of its characters are not in LEAF's alphabet: it is other text"
        )
    inputs, labels = (np.where(found < 0, UNKNOWN, found) for found in (inputs, labels))
    return inputs.reshape(-1, LENGTH).astype(np.float32), labels


def _positions(text: str) -> Int64[np.ndarray, "characters"]:
    """Of each character in the alphabet; -1 where it is not in there."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    table = np.full(129, -1, dtype=np.int64)
    table[[ord(character) for character in CHARACTERS]] = np.arange(len(CHARACTERS))
    positions: Int64[np.ndarray, "characters"] = table[np.minimum(codes, 128)]
    return positions


def _name(character: str) -> str:
    return {"\n": "newline", " ": "space"}.get(character, character)


FEMNIST = Format(
    "femnist",
    "./preprocess.sh -s niid --sf 0.1 -k 64 -t sample",
    tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase),
    _handwriting,
)
SHAKESPEARE = Format(
    "shakespeare",
    "./preprocess.sh -s niid --sf 0.05 -k 100 -t sample -tf 0.8",
    tuple(_name(character) for character in CHARACTERS),
    _text,
)

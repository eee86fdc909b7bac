"""What one participant's file holds, checked by itself: inputs and named classes.

Rows are counted from 1, the header not counted, in every message.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from ipfl.errors import DataError

ROWS_MIN = 4
"""Two for training, of two classes, one for testing, and one so that a class can be in both."""


@dataclass(frozen=True, eq=False)
class Raw:
    """One participant's examples as its file gives them, before any split.

    `columns` names the features of a table, None for arrays; `x` are float64 features (n, f), or images
    (n, c, h, w) of uint8 or floats; `y` points into `class_names`, the classes this file has.

    Raises:
      DataError: fewer than 4 rows, or one class only.
    """

    file: str
    columns: tuple[str, ...] | None
    x: Shaped[np.ndarray, "n ..."]
    y: Int64[np.ndarray, "n"]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.y) < ROWS_MIN:
            raise DataError(
                f"{self.file} has {len(self.y)} row(s) of data, fewer than the {ROWS_MIN} needed to train "
                "and test: add rows, or take the file out"
            )
        if len(self.class_names) < 2:
            raise DataError(
                f"{self.file} has one class only, {self.class_names[0]!r}: nothing can be learned from it, "
                "add rows of another class, or take the file out"
            )


def named_classes(
    values: Sequence[Any], codes: Int64[np.ndarray, "n"], where: str
) -> tuple[tuple[str, ...], Int64[np.ndarray, "n"]]:
    """Canonical class names, in order, and each row's position among them.

    Labels may be text, whole numbers or booleans: 1, 1.0 and "1" name the same class, as do True, "true" and
    "TRUE"; blanks around text do not count.

    Args:
      values: the different label values; None, NaN and empty text are missing labels.
      codes: each row's position in `values`; n >= 1.
      where: begins the message, e.g. "a.csv, column 'label'".
    Raises:
      DataError: a label is missing, or labels are amounts instead of classes.

    >>> named_classes(["10", "9.0", " 9"], np.array([0, 1, 2]), "a.csv")
    (('9', '10'), array([1, 0, 0]))
    """
    names = [_class_name(value, where) for value in values]
    missing = np.isin(codes, [code for code, name in enumerate(names) if name is None])
    if missing.any():
        raise DataError(
            f"{where}, row {int(missing.argmax()) + 1}: the label is missing "
            f"({int(missing.sum())} of {len(codes)} rows lack one); fill it, or drop the row"
        )
    present = [name for name in names if name is not None]
    amounts = [name for name in present if _amount(name) is not None]
    broken = [name for name in amounts if _whole(name) is None]
    if broken and len(amounts) == len(present):
        row = int(np.flatnonzero(codes == present.index(broken[0]))[0]) + 1
        raise DataError(
            f"{where}, row {row}: label {broken[0]} is an amount, not a class; "
            "name classes by text, whole numbers or booleans"
        )
    ordered = sort_classes(present)
    position = {name: index for index, name in enumerate(ordered)}
    return ordered, np.array([position[name] for name in present], dtype=np.int64)[codes]


def sort_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Different names in order: by number if all are whole numbers, else as text.

    >>> sort_classes(["10", "9", "10"]), sort_classes(["benign", "10"])
    (('9', '10'), ('10', 'benign'))
    """
    distinct = sorted(set(names))
    numbers = {name: _whole(name) for name in distinct}
    if all(number is not None for number in numbers.values()):
        return tuple(sorted(distinct, key=lambda name: (numbers[name] or 0, name)))
    return tuple(distinct)


def check_finite(x: Float64[np.ndarray, "n features"], columns: Sequence[str], file: str) -> None:
    """Raise `DataError` naming the first row and column that hold NaN (missing) or infinity.

    >>> check_finite(np.array([[1.0, 2.0], [3.0, np.inf]]), ["age", "dose"], "a.csv")
    Traceback (most recent call last):
    ...
    ipfl.errors.DataError: a.csv, row 2, column 'dose': the value is infinite (1 missing or infinite \
value(s) in 1 row(s) of this file); fill it, or drop the row or the column
    """
    wrong = ~np.isfinite(x)
    if not wrong.any():
        return
    rows = wrong.any(axis=1)
    row = int(rows.argmax())
    column = int(wrong[row].argmax())
    what = "missing" if np.isnan(x[row, column]) else "infinite"
    raise DataError(
        f"{file}, row {row + 1}, column {columns[column]!r}: the value is {what} "
        f"({int(wrong.sum())} missing or infinite value(s) in {int(rows.sum())} row(s) of this file); "
        "fill it, or drop the row or the column"
    )


def _class_name(value: object, where: str) -> str | None:
    """One label as text, None if it is missing."""
    if value is None:
        return None
    if isinstance(value, bool | int | float | str | np.generic):
        text = str(value).strip()
        if text.lower() in ("", "nan"):
            return None
        if text.lower() in ("true", "false"):
            return text.capitalize()
        return re.sub(r"^([+-]?\d+)\.0*$", r"\1", text)
    raise DataError(
        f"{where}: label {value!r} is of type {type(value).__name__}; "
        "name classes by text, whole numbers or booleans"
    )


def _amount(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


def _whole(name: str) -> int | None:
    return int(name) if re.fullmatch(r"[+-]?[0-9]{1,1000}", name) else None

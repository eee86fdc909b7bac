"""One participant's table, from a CSV or a Parquet file: numeric features and a column of labels."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float64

from ipfl.data.raw import Raw, check_finite, named_classes
from ipfl.errors import DataError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
HEADER_BYTES_MAX = 1 << 20


def read_table(path: Path, label: str) -> Raw:
    """Read and check one table.

    CSV is UTF-8 with or without a byte order mark, a header line, values separated by commas, semicolons or
    tabs (the header decides), decimal points, and optional double quotes. Booleans count as 0 and 1.

    Args:
      path: ends in .csv or .parquet.
      label: the column that names each row's class; all others are features.
    Raises:
      DataError: the file cannot be read or its columns cannot be used; names file, row and column.
    """
    table = _read_csv(path, label) if path.suffix.lower() == ".csv" else read_parquet(path, path.name)
    _check_columns(path.name, table.column_names, label)
    if table.num_rows == 0:
        raise DataError(f"{path.name} has a header but no rows: add rows, or take the file out")
    features = tuple(name for name in table.column_names if name != label)
    x = np.empty((table.num_rows, len(features)), dtype=np.float64)
    for index, name in enumerate(features):
        x[:, index] = _numbers(table.column(name), path.name, name)
    check_finite(x, features, path.name)
    labels = table.column(label).combine_chunks()
    if not pa.types.is_dictionary(labels.type):
        labels = labels.dictionary_encode()
    codes = pc.fill_null(labels.indices, len(labels.dictionary)).to_numpy(zero_copy_only=False)
    values = [*labels.dictionary.to_pylist(), None]
    class_names, y = named_classes(values, codes.astype(np.int64), f"{path.name}, column {label!r}")
    return Raw(path.name, features, x, y, class_names)


def read_parquet(path: Path, name: str) -> Any:
    """The table of one Parquet file, as pyarrow gives it.

    Args:
      path: of the file.
      name: what errors call it.
    Raises:
      DataError: it cannot be read, or is damaged.
    """
    try:
        # one file, not a data set: folder names must not become columns
        with pa.parquet.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{name} cannot be read as Parquet: {reason}; the file may be damaged, write it again"
        ) from None


def nearest(name: str, names: Sequence[str]) -> str:
    """Which of `names` may be meant by one that is not there, in words.

    >>> nearest("label", ["age", "Labels"]), nearest("label", ["age", "dose"])
    ("the nearest is 'Labels'", "it has 'age', 'dose'")
    """
    lowered = {known.strip().lower(): known for known in names}
    near = [lowered[match] for match in difflib.get_close_matches(name.strip().lower(), lowered, n=3)]
    return f"the nearest is {', '.join(map(repr, near))}" if near else f"it has {some(names) or 'none'}"


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are.

    >>> some(["a", "b"]), some("abcdefg")
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _read_csv(path: Path, label: str) -> Any:
    try:
        with path.open("rb") as file:
            header = file.readline(HEADER_BYTES_MAX).decode("utf-8-sig")
        parse = pa.csv.ParseOptions(delimiter=_separator(header), newlines_in_values=True)
        # a label is text as it stands: 01 is not 1
        convert = pa.csv.ConvertOptions(column_types={label: pa.string()})
        return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except UnicodeDecodeError:
        raise DataError(_not_utf8(path.name)) from None
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}") from None
    except pa.ArrowInvalid as error:
        reason = str(error)
        if "UTF8" in reason:
            raise DataError(_not_utf8(path.name)) from None
        if "Empty CSV" in reason:
            raise DataError(f"{path.name} is empty: add a header and rows, or take the file out") from None
        reason = reason.splitlines()[0].removeprefix("CSV parse error: ")[:200]
        raise DataError(
            f"{path.name} is not a sound CSV table: {reason}; every row needs as many "
            "values as the header has names"
        ) from None


def _separator(header: str) -> str:
    """The separator that the header line has most of, outside quotes; a comma if it has none."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def _check_columns(file: str, names: list[str], label: str) -> None:
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise DataError(
            f"{file} has {names.count(doubled[0])} columns named {doubled[0]!r}: rename or drop all but one"
        )
    for position, name in enumerate(names, start=1):
        if not name.strip() or re.fullmatch(r"Unnamed: \d+|__index_level_\d+__", name):
            raise DataError(
                f"{file}, column {position} ({name!r}) has no name and looks like row numbers: drop it "
                "(pandas: index=False), or name it"
            )
    if label not in names:
        raise DataError(
            f"{file} has no label column {label!r} ({nearest(label, names)}): rename it, "
            "or say which column names the class"
        )
    if len(names) < 2:
        raise DataError(
            f"{file} has no column beside {label!r}: add features, or check how values are separated"
        )


def _numbers(column: Any, file: str, name: str) -> Float64[np.ndarray, "n"]:
    """A column as float64; missing values become NaN."""
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if pa.types.is_binary(kind) and file.lower().endswith(".csv"):
        raise DataError(_not_utf8(file))
    if not (numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        row, value = _first_not_number(column.to_pylist())
        comma = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", value)
        remedy = (
            "write decimal points instead of commas"
            if comma
            else "encode it as numbers (e.g. one 0/1 column per category), or drop the column"
        )
        raise DataError(f"{file}, row {row}, column {name!r}: {str(value)[:40]!r} is not a number; {remedy}")
    if pa.types.is_boolean(kind):
        column = pc.cast(column, pa.uint8())
    result: Float64[np.ndarray, "n"] = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return result


def _first_not_number(values: list[Any]) -> tuple[int, object]:
    """Row (from 1) and value of the first that is no number; of the first row if all look like numbers."""
    for row, value in enumerate(values, start=1):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            float(value)
        except (TypeError, ValueError):
            return row, value
    return 1, values[0]


def _not_utf8(file: str) -> str:
    return f"{file} is not UTF-8 text: save it as CSV in UTF-8"

"""Rows of .jsonl and .parquet files, each with the words that name it in errors.

A .jsonl file is UTF-8 text with one JSON object a line. Blank lines are passed over and not counted, so the same rows
have the same numbers in both formats.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfl.data.participant_files import ending
from ipfl.data.tables import nearest, read_parquet
from ipfl.errors import DataError

ENDINGS = (".jsonl", ".parquet")
_TYPES = {
    bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object",
    str: "text", bytes: "bytes", type(None): "missing (null)",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row: its fields, and where it stands, such as "fiqa/train.jsonl, row 17" (counted from 1)."""

    where: str
    fields: Mapping[str, Any]

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(field) is not None

    def text(self, field: str) -> str:
        """A text that has to be there.

        Raises:
          DataError: it is not there, or no text; names row, field, and the nearest field that is there.

        >>> Row("a.jsonl, row 3", {"Respones": "yes"}).text("response")
        Traceback (most recent call last):
        ...
        ipfl.errors.DataError: a.jsonl, row 3 has no field 'response' (the nearest is 'Respones'): \
add it, or take the row out
        """
        return self._sound(self._needed(field), field)

    def text_or_none(self, field: str) -> str:
        """A text that may be left out, or be null: then an empty one.

        >>> Row("a.jsonl, row 3", {"input": None}).text_or_none("input")
        ''
        """
        return self._sound(self.fields[field], field) if self.has(field) else ""

    def number(self, field: str) -> float:
        """A finite number that has to be there.

        >>> Row("a.jsonl, row 3", {"label": 2}).number("label")
        2.0
        """
        value = self._needed(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(self._wrong(field, value, "a number"))
        if not abs(value) <= sys.float_info.max:  # NaN, infinite, or a whole number beyond floats
            raise DataError(f"{self.where}, field {field!r}: {str(value)[:40]} is no finite number")
        return float(value)

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of different texts that may be left out, or be null: then an empty one.

        >>> Row("a.jsonl, row 3", {"choices": ["yes", "no"]}).texts("choices")
        ('yes', 'no')
        """
        if not self.has(field):
            return ()
        values = self.fields[field]
        if not isinstance(values, list):
            raise DataError(self._wrong(field, values, "a list of texts"))
        texts = tuple(self._sound(value, field) for value in values)
        doubled = [text for text in texts if texts.count(text) > 1]
        if doubled:
            raise DataError(
                f"{self.where}, field {field!r}: {doubled[0]!r} stands twice; name every text once"
            )
        return texts

    def _needed(self, field: str) -> Any:
        if field not in self.fields:
            hint = nearest(field, list(self.fields))
            raise DataError(f"{self.where} has no field {field!r} ({hint}): add it, or take the row out")
        return self.fields[field]

    def _sound(self, value: Any, field: str) -> str:
        if not isinstance(value, str):
            raise DataError(self._wrong(field, value, "text"))
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{self.where}, field {field!r} holds half of a character (a lone surrogate): write it again"
            ) from None
        return value

    def _wrong(self, field: str, value: Any, expected: str) -> str:
        what = _TYPES.get(type(value), f"of type {type(value).__name__}")
        return f"{self.where}, field {field!r} is {what}: expected {expected}"


def read_rows(path: Path) -> list[Row]:
    """All rows of a file, or of the .jsonl and .parquet files in a folder and its folders, in order of their paths.

    Raises:
      DataError: no such file, a file without rows or in another format, a line that is no JSON object, text that is
        not UTF-8, damage; names file and row.
    """
    if path.is_dir():
        files = files_in(path)
        if not files:
            raise DataError(f"{path} has no .jsonl or .parquet file: put one there, or take the folder away")
        return [
            row for file in files for row in _rows(file, f"{path.name}/{file.relative_to(path).as_posix()}")
        ]
    if not path.exists():
        raise DataError(f"there is no file {path}: put it there, as .jsonl or .parquet")
    return _rows(path, path.name)


def files_in(folder: Path) -> list[Path]:
    """The files that `read_rows` reads of a folder; nothing whose name begins with a dot."""
    return sorted(
        path
        for path in folder.rglob("*")
        if ending(path) in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _rows(path: Path, name: str) -> list[Row]:
    if ending(path) not in ENDINGS:
        raise DataError(f"{name} is in a format that is not read here: expected .jsonl or .parquet")
    contents = _parquet(path, name) if ending(path) == ".parquet" else _jsonl(path, name)
    rows = [Row(f"{name}, row {number}", fields) for number, fields in enumerate(contents, start=1)]
    if not rows:
        raise DataError(f"{name} is empty: add rows, or take the file out")
    return rows


def _parquet(path: Path, name: str) -> list[dict[str, Any]]:
    table = read_parquet(path, name)
    doubled = [column for column in table.column_names if table.column_names.count(column) > 1]
    if doubled:
        raise DataError(f"{name} has more than one column {doubled[0]!r}: rename or drop all but one")
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except (ValueError, OverflowError) as error:  # text that is not UTF-8, dates out of range
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{name} holds values that cannot be read ({reason}): write it again") from None
    return rows


def _jsonl(path: Path, name: str) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
    number = 0
    # split at "\n" alone: str.splitlines also splits at characters that JSON texts may hold
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip():
            continue
        number += 1
        yield _object(line, f"{name}, row {number}")


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8 text: save the file in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({_reason(error)}): write one JSON object a line") from None
    if not isinstance(value, dict):
        what = _TYPES[type(value)]
        raise DataError(f"{where} is {what}, not an object: write one JSON object a line, with named fields")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:]}, at its character {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)

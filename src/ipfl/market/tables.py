"""Reading bids and distances from files, for those who have tables rather than arrays.

A table of bids is a CSV file with a header and one row per participant:

    participant_id,num_examples,valuation,export_cost
    north,1200,90000,0.4

and, for gain curves other than the square-root law, the columns `curve` (sqrt, power or log) and `exponent`,
`scale`, `reference`, each left empty where the curve has no such parameter or its usual value is meant.

Distances come as a NumPy file (.npy) or as CSV: bare numbers, [buyer, seller], in the order of the bids; or
with a header row and a first column of participant ids, which are then matched by name, in any order.

Every error names the file, the line, the participant, the field, what stands there and what was expected.
"""

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ipfl.errors import BidError
from ipfl.market.curves import make_curve
from ipfl.market.problems import check_market
from ipfl.types.market import Bids, GainCurve

REQUIRED = ("participant_id", "num_examples", "valuation", "export_cost")
NUMBERS = REQUIRED[1:]
PARAMETERS = ("exponent", "scale", "reference")
COLUMNS = (*REQUIRED, "curve", *PARAMETERS)


@dataclass(frozen=True)
class _Row:
    """The cells of one line, without the blanks around them."""

    line: int
    cells: tuple[str, ...]


def read_bids(path: str | Path) -> Bids:
    """The bids of a CSV file; a header alone is an empty market.

    Raises:
      BidError: the file cannot be read, a column is missing, unknown or there twice, a cell that is not what
        its column says, an id twice.
    """
    rows = _read(Path(path))
    if not rows:
        raise BidError(f"{path} is empty, expected a header: {','.join(REQUIRED)}")
    header, body = rows[0], rows[1:]
    _check_header(path, header)
    records = [dict(zip(header.cells, _complete(path, header, row).cells, strict=True)) for row in body]
    curves = tuple(
        _curve(f"{path}, line {row.line}", record) for row, record in zip(body, records, strict=True)
    )
    ids = tuple(record["participant_id"] for record in records)
    numbers = {
        field: np.array(
            [
                _number(
                    record[field], f"{path}, line {row.line}: participant {record['participant_id']}", field
                )
                for row, record in zip(body, records, strict=True)
            ]
        )
        for field in NUMBERS
    }
    kept = curves if any(record.get("curve") for record in records) else None
    try:
        return Bids(**numbers, participant_ids=ids, curves=kept)
    except BidError as error:
        raise BidError(f"{path}{_line_at_fault(body, ids, numbers)}: {error}") from None


def read_distances(path: str | Path, bids: Bids) -> Float[np.ndarray, "m m"]:
    """The distances of a market, in the order of its bids; the diagonal is not read and comes back as 0.

    Raises:
      BidError: the file cannot be read, is of the wrong shape, names other participants, or holds a distance
        that is missing or out of [0, 2].
    """
    m = len(bids)
    if _is_numpy(Path(path)):
        matrix = _load(Path(path), (m, m))
        lines: Sequence[int | None] = [None] * m
    else:
        matrix, lines = _read_matrix(Path(path), bids)
    np.fill_diagonal(matrix, 0.0)
    wrong = (~((matrix >= 0) & (matrix <= 2))).any(axis=1)
    try:
        check_market(bids, matrix, 0.0)
    except BidError as error:
        line = lines[int(np.argmax(wrong))]
        raise BidError(f"{path}{'' if line is None else f', line {line}'}: {error}") from None
    return matrix


def read_distances_to(path: str | Path, bids: Bids) -> Float[np.ndarray, "m"]:
    """One participant's distances to each of a market, in the order of its bids.

    A CSV file with the columns participant_id and distance, in any order of rows; or bare numbers, one a line
    or all in one; or a NumPy file of shape (m,).

    Raises:
      BidError: as for `read_distances`.
    """
    m = len(bids)
    if _is_numpy(Path(path)):
        values = _load(Path(path), (m,))
        lines: Sequence[int | None] = [None] * m
    else:
        rows = _read(Path(path))
        if not rows:
            raise BidError(f"{path} is empty, expected one distance per participant, {m} in all")
        if set(rows[0].cells) == {"participant_id", "distance"}:
            values, lines = _named_distances(path, rows, bids)
        else:
            cells = [(row.line, cell) for row in rows for cell in row.cells]
            if len(cells) != m:
                raise BidError(
                    f"{path} holds {len(cells)} cells, expected {m} numbers, one per participant, or the "
                    "columns participant_id,distance"
                )
            lines = [line for line, _ in cells]
            values = np.array(
                [
                    _number(cell, f"{path}, line {line}", f"distance to {name}")
                    for (line, cell), name in zip(cells, bids.ids, strict=True)
                ]
            )
    wrong = ~((values >= 0) & (values <= 2))
    if wrong.any():
        first = int(np.argmax(wrong))
        where = "" if lines[first] is None else f", line {lines[first]}"
        raise BidError(
            f"{path}{where}: distance to {bids.ids[first]} is {values[first]:.15g}, expected a finite number "
            "in [0, 2]"
        )
    return values


def _read(path: Path) -> list[_Row]:
    """All lines that hold something."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [_Row(reader.line_num, tuple(cell.strip() for cell in cells)) for cells in reader]
    except FileNotFoundError:
        raise BidError(f"there is no file {path}") from None
    except OSError as error:
        raise BidError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BidError(f"{path} is not a CSV file in UTF-8: {error}") from None
    return [row for row in rows if any(row.cells)]


def _check_header(path: str | Path, header: _Row) -> None:
    where = f"{path}, line {header.line}"
    for column in header.cells:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected columns of {', '.join(COLUMNS)}"
            raise BidError(f"{where}: column {column!r} is unknown; {hint}")
        if header.cells.count(column) > 1:
            raise BidError(f"{where}: column {column} is there twice, expected it once")
    for column in REQUIRED:
        if column not in header.cells:
            raise BidError(f"{where}: column {column} is missing, expected {','.join(REQUIRED)}")
    if set(PARAMETERS) & set(header.cells) and "curve" not in header.cells:
        raise BidError(f"{where}: column curve is missing, expected it beside the parameters of a curve")


def _complete(path: str | Path, header: _Row, row: _Row) -> _Row:
    if len(row.cells) != len(header.cells):
        raise BidError(
            f"{path}, line {row.line}: {len(row.cells)} cells, expected {len(header.cells)}, as in the header"
        )
    return row


def _number(cell: str, where: str, field: str) -> float:
    try:
        return float(cell)
    except ValueError:
        found = repr(cell) if cell else "empty"
        raise BidError(f"{where}: {field} is {found}, expected a number") from None


def _curve(where: str, record: dict[str, str]) -> GainCurve:
    """The gain curve of one row; the square-root law where it names none."""
    place = f"{where}: participant {record['participant_id']}"
    given = {name: _number(record[name], place, name) for name in PARAMETERS if record.get(name, "") != ""}
    try:
        return make_curve(record.get("curve") or "sqrt", **given)
    except BidError as error:
        raise BidError(f"{place}: {error}") from None


def _line_at_fault(body: Sequence[_Row], ids: Sequence[str], numbers: Mapping[str, Any]) -> str:
    """The first line that cannot be a bid by itself, or names an id again; nothing if it is none of them."""
    seen: set[str] = set()
    for place, row in enumerate(body):
        try:
            alone = {field: column[place : place + 1] for field, column in numbers.items()}
            Bids(**alone, participant_ids=(ids[place],))
        except BidError:
            return f", line {row.line}"
        if ids[place] in seen:
            return f", line {row.line}"
        seen.add(ids[place])
    return ""


def _is_numpy(path: Path) -> bool:
    return path.suffix == ".npy"


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BidError(f"there is no file {path}") from None
    except OSError as error:
        raise BidError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise BidError(f"{path} is not a NumPy file of numbers: write it with numpy.save") from None
    if values.dtype.kind not in "fiu":
        raise BidError(f"{path} holds {values.dtype} entries, expected numbers")
    if values.shape != shape:
        raise BidError(f"{path} has shape {values.shape}, expected {shape}, one row per participant")
    numbers: np.ndarray = values.astype(np.float64)
    return numbers


def _read_matrix(path: Path, bids: Bids) -> tuple[np.ndarray, list[int]]:
    """The matrix in the order of the bids, and the line of each of its rows."""
    rows, m = _read(path), len(bids)
    if not rows:
        if m == 0:
            return np.zeros((0, 0)), []
        raise BidError(f"{path} is empty, expected {m} rows of {m} distances")
    if not _labelled(rows[0], m):
        return _numbers(path, rows, bids, bids.ids), [row.line for row in rows]
    sellers = _order(f"{path}, line {rows[0].line}", rows[0].cells[1:], bids)
    names = tuple(row.cells[0] for row in rows[1:])
    buyers = _order(f"{path}, first column", names, bids)
    body = [_Row(row.line, row.cells[1:]) for row in rows[1:]]
    matrix = _numbers(path, body, bids, names, rows[0].cells[1:])
    return matrix[np.ix_(buyers, sellers)], [body[place].line for place in buyers]


def _labelled(first: _Row, m: int) -> bool:
    """Whether a table starts with a header of ids: its first cell is then no number."""
    corner = first.cells[0]
    if corner == "":
        return len(first.cells) != m
    try:
        float(corner)
    except ValueError:
        return True
    return False


def _order(where: str, names: Sequence[str], bids: Bids) -> list[int]:
    """Where each participant of the bids stands among the names."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        if name in places:
            raise BidError(f"{where}: participant {name} is there twice, expected each id once")
        places[name] = place
    for name in names:
        if name not in bids.ids:
            raise BidError(f"{where}: participant {name!r} is not among the bids")
    for name in bids.ids:
        if name not in places:
            raise BidError(
                f"{where}: participant {name} is missing, expected each of the {len(bids)} bids' ids"
            )
    return [places[name] for name in bids.ids]


def _numbers(
    path: Path, rows: Sequence[_Row], bids: Bids, buyers: Sequence[str], sellers: Sequence[str] | None = None
) -> np.ndarray:
    """An (m, m) matrix of the cells, where a participant's distance to itself may be anything."""
    m = len(bids)
    for row in rows:
        if len(row.cells) != m:
            raise BidError(f"{path}, line {row.line}: {len(row.cells)} distances, expected {m}, one per bid")
    if len(rows) != m:
        raise BidError(f"{path}: {len(rows)} rows of distances, expected {m}, one per bid")
    names = bids.ids if sellers is None else sellers
    matrix = np.empty((m, m))
    for place, row in enumerate(rows):
        cells = ["0" if name == buyers[place] else cell for name, cell in zip(names, row.cells, strict=True)]
        try:
            matrix[place] = np.array(cells, dtype=np.float64)
        except ValueError:
            where = f"{path}, line {row.line}: participant {buyers[place]}"
            matrix[place] = [
                _number(cell, where, f"distance to {name}") for name, cell in zip(names, cells, strict=True)
            ]
    return matrix


def _named_distances(path: str | Path, rows: Sequence[_Row], bids: Bids) -> tuple[np.ndarray, list[int]]:
    header, body = rows[0], [_complete(path, rows[0], row) for row in rows[1:]]
    name_at, distance_at = header.cells.index("participant_id"), header.cells.index("distance")
    order = _order(str(path), [row.cells[name_at] for row in body], bids)
    ordered: Iterable[_Row] = [body[place] for place in order]
    values = [
        _number(row.cells[distance_at], f"{path}, line {row.line}", f"distance to {row.cells[name_at]}")
        for row in ordered
    ]
    return np.array(values, dtype=np.float64), [body[place].line for place in order]

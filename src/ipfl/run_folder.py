"""The run folder: the files a run leaves behind, how they are written and how they are read back.

Text files grow by whole rounds while the run goes on, so an interrupted run leaves a readable folder; all
other files are written to a temporary name first and renamed. Nothing here is ever unpickled.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ipfl.config import Config
from ipfl.disk import sync_folder
from ipfl.errors import RunFolderError
from ipfl.faults import point
from ipfl.market.units import UNITS
from ipfl.types.market import Matrix, SparseMatrix
from ipfl.types.partition import PartitionTable

EDGE_COLUMNS = ("round_index", "buyer", "seller", "num_examples", "distance", "payment")
LEDGER_COLUMNS = ("round_index", "payer", "payee", "amount", "purpose")


@dataclass(frozen=True)
class Run:
    """A run folder read back. `rounds`, `edges` and `ledger` are lists of flat-enough records for pandas."""

    path: Path
    config: Config
    environment: dict[str, Any]
    rounds: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    ledger: list[dict[str, Any]]
    summary: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether the run reached its last round and wrote its summary."""
        return self.summary is not None

    @property
    def participant_ids(self) -> list[str]:
        """The ids in the order of every matrix and table of this run."""
        return [row.id for row in self.config.participants.rows]

    def imbalance(self) -> float:
        """What the trades promise sellers, minus what buyers and operator paid by the ledger, to the last unit.

        Not zero if a payment was not posted, or posted with another amount.
        """
        promised = sum(round(edge["payment"] * UNITS) for edge in self.edges)
        posted = sum(round(row["amount"] * UNITS) for row in self.ledger)
        return float(promised - posted) / UNITS

    def distances(self, round_index: int) -> Matrix:
        """The (m, m) distances of one round, [buyer, seller]; NaN where a participant was absent.

        A `scipy.sparse.csr_array` of each buyer's candidates where the run has market.candidates.
        """
        return read_distances(self.path, round_index)

    def known_distances(self, round_index: int) -> np.ndarray:
        """`distances` as a dense array, NaN where none is known: a participant absent, or no candidate."""
        distance = self.distances(round_index)
        if isinstance(distance, np.ndarray):
            return distance
        known = np.full(distance.shape, np.nan)
        known[np.repeat(np.arange(len(known)), np.diff(distance.indptr)), distance.indices] = distance.data
        return known

    def participant_rounds(self) -> list[dict[str, Any]]:
        """One flat record per participant and round: `pandas.DataFrame(run.participant_rounds())`."""
        return [
            {"round_index": line["round_index"]}
            | {key: value for key, value in entry.items() if key != "bid"}
            | {f"bid_{key}": value for key, value in entry["bid"].items()}
            for line in self.rounds
            for entry in line["participants"]
        ]


def load_run(path: str | Path) -> Run:
    """Read a run folder, finished or not; what a crash left of an unfinished round is passed over.

    Raises:
      RunFolderError: no such folder, a file is missing or damaged; the message names the file (and line).
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RunFolderError(f"no run folder at {folder}: give the folder that `ipfl run --out` wrote")
    config = Config.from_toml(read_text(folder / "config.toml"), str(folder / "config.toml"))
    summary_path = folder / "summary.json"
    rounds = _read_jsonl(folder / "rounds.jsonl")
    return Run(
        path=folder,
        config=config,
        environment=read_json(folder / "environment.json"),
        rounds=rounds,
        edges=_read_csv(folder / "edges.csv", EDGE_COLUMNS, len(rounds)),
        ledger=_read_csv(folder / "ledger.csv", LEDGER_COLUMNS, len(rounds)),
        summary=read_json(summary_path) if summary_path.exists() else None,
    )


def write_partition(folder: Path, table: PartitionTable) -> None:
    """Write partition.json, unless it is there: one line per participant, for people to read."""
    path = folder / "partition.json"
    if path.exists():
        return
    content = table.to_json()
    rows = [json.dumps(row, ensure_ascii=False) for row in content.pop("participants")]
    head = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    people = '  "participants": [\n    ' + ",\n    ".join(rows) + "\n  ]"
    write_text(path, "{\n" + ",\n".join([*head, people]) + "\n}\n")


def read_partition(folder: Path) -> PartitionTable | None:
    """Who has how many examples of which class; None in a folder from before that was kept.

    Raises:
      RunFolderError: partition.json is damaged.
    """
    path = folder / "partition.json"
    if not path.exists():
        return None
    try:
        return PartitionTable.from_json(read_json(path))
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}): restore it, or take it out") from None


def read_distances(folder: Path, round_index: int) -> Matrix:
    """The (m, m) float64 distances of one round; a csr_array where each buyer had candidates only."""
    path = folder / "distances" / f"{round_index:05d}.npy"
    sparse_path = path.with_suffix(".npz")
    try:
        if not path.exists() and sparse_path.exists():
            path = sparse_path
            return _read_sparse(path)
        matrix: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise RunFolderError(f"cannot read distances {path}: {error}") from None
    return matrix


def _read_sparse(path: Path) -> SparseMatrix:
    from scipy.sparse import csr_array, load_npz

    matrix: SparseMatrix = csr_array(load_npz(io.BytesIO(path.read_bytes())))
    return matrix


def write_distances(folder: Path, round_index: int, distance: Matrix) -> None:
    """Write one round's distances: .npy, or .npz (of `scipy.sparse.save_npz`) where they are sparse."""
    path, buffer = folder / "distances" / f"{round_index:05d}.npy", io.BytesIO()
    if isinstance(distance, np.ndarray):
        np.save(buffer, distance, allow_pickle=False)
    else:
        from scipy.sparse import save_npz

        save_npz(buffer, distance, compressed=False)
        path = path.with_suffix(".npz")
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file as a whole: temporary name, flush to disk, rename, flush the folder."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(content)

    write_file(path, write)


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Replace a file as a whole by what `write` makes of a temporary one; so what is large need not be in memory.

    Raises:
      RunFolderError: it cannot be written; the file is then as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        point("file: before writing")
        write(temporary)
        point("file: written")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        point("file: flushed")
        temporary.replace(path)
        point("file: renamed")
        sync_folder(path.parent)
        point("file: folder flushed")
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def unwritable(path: Path, error: OSError) -> RunFolderError:
    """The error that says that a file cannot be written, and what to do."""
    return RunFolderError(f"cannot write {path}: {error.strerror}; free space or choose another --out")


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A readable JSON file; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_lines(path: Path, lines: Iterable[str]) -> bytes:
    """Append whole lines in one write, flush them to disk, and return the bytes written."""
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    try:
        with path.open("ab") as file:
            point("lines: before writing")
            file.write(content)
            file.flush()
            point("lines: written")
            os.fsync(file.fileno())
            point("lines: flushed")
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path}: {error.strerror}; free space, then `ipfl run --resume {path.parent}`"
        ) from error
    return content


def csv_lines(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Rows as CSV lines without a header; floats keep every digit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writerows(rows)
    return buffer.getvalue().splitlines()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the run folder."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise RunFolderError(
            f"{path} is not valid JSON (line {error.lineno}): restore it or run again"
        ) from None
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} does not hold a JSON object: restore it or run again")
    return content


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    *lines, torn = read_text(path).split("\n")  # a line torn by a crash: resume writes it again
    del torn
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            raise RunFolderError(
                f"{path}, line {number}, is not valid JSON: restore it or run again"
            ) from None
    return records


def _read_csv(path: Path, columns: Sequence[str], num_rounds: int) -> list[dict[str, Any]]:
    """The rows of the rounds that are complete, which are those of rounds.jsonl: it is written last."""
    text = read_text(path)
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != tuple(columns):
        raise RunFolderError(f"{path} has columns {reader.fieldnames}, expected {list(columns)}")
    rows: list[dict[str, Any]] = []
    numeric = {"round_index": int, "num_examples": int, "distance": float, "payment": float, "amount": float}
    complete = text.endswith("\n")
    raw = list(reader)
    for number, row in enumerate(raw if complete else raw[:-1], start=2):
        try:
            if len(row) > len(columns) or None in row.values():
                raise ValueError
            rows.append({key: numeric.get(key, str)(value) for key, value in row.items()})
        except (TypeError, ValueError):
            raise RunFolderError(
                f"{path}, line {number}: expected {','.join(columns)}; restore it or run again"
            ) from None
    return [row for row in rows if row["round_index"] < num_rounds]


def read_text(path: Path) -> str:
    """UTF-8 text of a file of the run folder."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunFolderError(
            f"{path} is missing: {path.parent} is not a run folder, or an incomplete one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from None

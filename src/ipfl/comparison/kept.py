"""Which runs of a comparison are known to be finished, so that they need not be set up again to see it.

finished.json in the comparison's folder names them with digests of what they were to be and of what they came to. It
only saves time: a run it does not know is recognised, more slowly, by its own folder (see `worker.same_run`).
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ipfl.comparison.grid import Cell
from ipfl.errors import IpflError
from ipfl.plugins import described
from ipfl.run_folder import read_json, write_json

FINISHED = "finished.json"


def kept_cells(folder: Path, cells: Sequence[Cell]) -> list[Cell]:
    """The runs that were finished as they are configured now, by this version of ipfl, and not touched since.

    Runs on data or participants in files of one's own are never among them, as those may have changed.
    """
    try:
        known = read_json(folder / FINISHED)
    except IpflError:
        return []
    return [
        cell
        for cell in cells
        if (digest := known.get(_name(folder, cell))) and _lasting(cell) and digest == _digest(cell)
    ]


def remember(folder: Path, cell: Cell) -> None:
    """Note that a run is finished."""
    try:
        known = read_json(folder / FINISHED)
    except IpflError:
        known = {}
    digest = _digest(cell)
    if digest is not None and _lasting(cell):
        write_json(folder / FINISHED, known | {_name(folder, cell): digest})


def _lasting(cell: Cell) -> bool:
    return cell.config.data is None and cell.config.participants.file is None


def _name(folder: Path, cell: Cell) -> str:
    return str(cell.folder.relative_to(folder))


def _digest(cell: Cell) -> str | None:
    """What the run is to be, and what it came to; None where it has not come to anything."""
    parts = [version("ipfl").encode(), cell.config.to_toml().encode(), json.dumps(described()).encode()]
    try:
        parts += [
            (cell.folder / name).read_bytes() for name in ("config.toml", "environment.json", "summary.json")
        ]
    except OSError:
        return None
    return hashlib.sha256(
        json.dumps([hashlib.sha256(part).hexdigest() for part in parts]).encode()
    ).hexdigest()

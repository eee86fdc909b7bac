"""Verifying a run folder: its ledger by itself, and the files that the ledger speaks of or that repeat it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipfl.errors import RunFolderError
from ipfl.ledger import Entry, Fault, Receipt, Verification
from ipfl.run_folder import read_json
from ipfl.upkeep.beside import (
    cut_off,
    distance_faults,
    model_faults,
    receipt_faults,
    state_faults,
    summary_faults,
    table_faults,
)
from ipfl.upkeep.folder import LEDGER, Marks
from ipfl.upkeep.reading import reading, verified


def verify_run(
    folder: Path,
    receipts: Sequence[Receipt] = (),
    key: str | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Verification:
    """Verify the ledger of a run folder, and the tables, states and models beside it; the folder stays as it is.

    Args:
      folder: of the run.
      receipts: kept by participants.
      key: the operator's public key that they must be signed with; None: the one that environment.json names.
      tell: as for `ledger.verify`.
    Raises:
      LedgerError, RunFolderError: no ledger, one that cannot be read at all, or a run that goes on.
    """
    with reading(folder) as ledger:
        environment = read_json(folder / "environment.json")
        found = verified(ledger, receipts, key or environment.get("operator_key"), tell)
        entries = list(ledger.entries())
        marks = ledger.marks(found.rounds - 1) if found.rounds else None
        faults = file_faults(folder, entries, marks, environment)
    return replace(found, faults=(*found.faults, *(Fault("files", sentence) for sentence in faults)))


def file_faults(
    folder: Path, entries: Sequence[Entry], marks: Marks | None, environment: Mapping[str, Any]
) -> list[str]:
    """What does not fit between the ledger and the files around it."""
    ended = (folder / "summary.json").exists()
    faults = run_faults(folder, entries, environment.get("run_digest")) + cut_off(folder, entries)
    faults += table_faults(folder, entries, marks, ended=ended)
    seals = [entry for entry in entries if entry.kind == "round"]
    faults += distance_faults(folder, seals) + state_faults(folder, seals) + model_faults(folder, entries)
    faults += receipt_faults(folder, entries, environment.get("operator_key")).values()
    return faults + (summary_faults(folder, entries) if ended else [])


def run_faults(folder: Path, entries: Sequence[Entry], run: object) -> list[str]:
    """Whether environment.json and the ledger are of one run."""
    if entries and entries[0].terms.get("run") == run:
        return []
    return [f"{folder / 'environment.json'} and {folder / LEDGER} belong to different runs"]


def check_is_run(folder: Path) -> None:
    """Raise `RunFolderError` unless there is a folder that a run began in."""
    if not folder.is_dir():
        raise RunFolderError(f"no run folder at {folder}: give the folder that `ipfl run --out` wrote")
    if not (folder / "config.toml").exists():
        raise RunFolderError(
            f"{folder} holds no run (no config.toml): `ipfl doctor {folder}` says what it is"
        )

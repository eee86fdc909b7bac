"""Opening a run folder for writing: a new one, one to be replaced, or one to be gone on with."""

import shutil
from pathlib import Path

from ipfl.errors import RunFolderError
from ipfl.run_folder import EDGE_COLUMNS, LEDGER_COLUMNS, append_lines, write_json, write_text

GROWING = ("rounds.jsonl", "edges.csv", "ledger.csv")
"""The files that grow by every round; checkpoints remember their lengths."""
OWN_FILES = ("config.toml", "environment.json", "summary.json", "report.html", *GROWING)
OWN_FOLDERS = ("participants", "checkpoints", "distances")
HEADERS = {"rounds.jsonl": None, "edges.csv": EDGE_COLUMNS, "ledger.csv": LEDGER_COLUMNS}


def next_free_folder(parent: Path, name: str) -> Path:
    """`parent/name-001`, or the first number that is not taken."""
    number = 1
    while (parent / f"{name}-{number:03d}").exists():
        number += 1
    return parent / f"{name}-{number:03d}"


def check_vacant(folder: Path, force: bool) -> None:
    """Refuse a folder that holds anything, unless it is a run folder and `force` allows to replace it.

    Raises:
      RunFolderError: the folder is in the way, or is no folder; nothing has been changed.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: give another --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not force:
        raise RunFolderError(
            f"{folder} is not empty: go on with it (--resume {folder}), replace it (--force), or give another --out"
        )
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in (*OWN_FILES, *OWN_FOLDERS))
    if strangers or not (folder / "config.toml").exists():
        what = f"it holds {strangers[0]!r}" if strangers else "it has no config.toml"
        raise RunFolderError(
            f"--force replaces run folders only, and {folder} is none ({what}): give another --out"
        )


def create(folder: Path, config_text: str, environment: dict[str, object]) -> None:
    """Write the first files of a run; an old run in the same place is removed first (see `check_vacant`)."""
    try:
        for name in OWN_FOLDERS:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in OWN_FILES:
            (folder / name).unlink(missing_ok=True)
        for name in OWN_FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"cannot make run folder {folder}: {error.strerror}; give another --out"
        ) from error
    write_json(folder / "environment.json", environment)
    for name, columns in HEADERS.items():
        write_text(folder / name, "" if columns is None else ",".join(columns) + "\n")
    write_text(folder / "config.toml", config_text)


def lengths(folder: Path) -> dict[str, int]:
    """Bytes in each growing file."""
    return {name: (folder / name).stat().st_size for name in GROWING}


def cut_back(folder: Path, to: dict[str, int] | None) -> None:
    """Cut the growing files back to a checkpoint's lengths (None: to their headers).

    Raises:
      RunFolderError: a file is shorter than it was when the checkpoint was written.
    """
    for name in GROWING:
        path = folder / name
        columns = HEADERS[name]
        length = to[name] if to is not None else (0 if columns is None else len(",".join(columns)) + 1)
        size = path.stat().st_size if path.exists() else -1
        if size < length:
            raise RunFolderError(
                f"{path} has {max(size, 0)} bytes, but {length} were written: it was changed since; "
                "restore it, or start the run again with --force"
            )
        with path.open("r+b") as file:
            file.truncate(length)


def append(folder: Path, name: str, rows: list[str]) -> None:
    """Append whole lines to a growing file."""
    if rows:
        append_lines(folder / name, rows)

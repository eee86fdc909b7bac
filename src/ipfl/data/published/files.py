"""Published files: their names, sizes and checksums, where they are kept here, and what is found of them.

Every data set has a folder of its own inside the folder that the environment variable IPFL_DATA names, else
inside the user's cache folder (on Linux ~/.cache/ipfl).
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from ipfl.errors import DataError

VARIABLE = "IPFL_DATA"
CHUNK = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """One file as its authors publish it; `md5` is the checksum that they, or its usual readers, give for it."""

    name: str
    url: str
    num_bytes: int
    md5: str

    def __str__(self) -> str:
        return f"{self.name} ({size(self.num_bytes)})"


@dataclass(frozen=True)
class Inspection:
    """What a folder holds of a data set.

    `found` and `damaged` are sentences about files; `lacking` says which file to put where. `complete`: it can be
    read.
    """

    folder: Path
    found: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Everything is there and nothing is damaged."""
        return bool(self.found) and not self.lacking and not self.damaged


def data_root() -> Path:
    """The folder of all published data sets: $IPFL_DATA, else the user's cache folder."""
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else user_cache_path("ipfl")


def md5_of(path: Path) -> str:
    """The MD5 of a file's content, in hexadecimal: enough against accidents, not against forgers."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def inspect_files(folder: Path, files: tuple[PublishedFile, ...]) -> Inspection:
    """Which of some published files are in `folder`, and whether they are what was published."""
    found, lacking, damaged = [], [], []
    for file in files:
        path = folder / file.name
        part = folder / f"{file.name}.part"
        if not path.exists():
            begun = f" ({size(part.stat().st_size)} of it are here in {part.name})" if part.exists() else ""
            lacking.append(put(file, folder) + begun)
        elif md5_of(path) == file.md5:
            found.append(f"{file}: as published (md5 {file.md5})")
        else:
            damaged.append(
                f"{file.name} is not as published: it has {path.stat().st_size:,} bytes of {file.num_bytes:,}, "
                f"and its md5 is not {file.md5}; delete it and fetch it again"
            )
    return Inspection(folder, tuple(found), tuple(lacking), tuple(damaged))


def put(file: PublishedFile, folder: Path) -> str:
    """Which file to put where, in words."""
    return f"put {described(file)} into {folder} (from {file.url})"


def described(file: PublishedFile) -> str:
    """A file's name, and how to know that it is the right one."""
    return f"{file.name} ({size(file.num_bytes)}, md5 {file.md5})"


def absent(task: str, folder: Path, remedy: str) -> DataError:
    """The error of a data set that is not on disk."""
    return DataError(f"task {task}: its files are not in {folder}; {remedy}")


def size(num_bytes: int) -> str:
    """Bytes for people, in units of 1,024.

    >>> size(170_498_071), size(29_515), size(5)
    ('163 MB', '29 KB', '5 bytes')
    """
    if num_bytes >= 1 << 20:
        return f"{num_bytes / (1 << 20):.{0 if num_bytes >= 10 << 20 else 1}f} MB"
    return f"{num_bytes / 1024:.0f} KB" if num_bytes >= 1024 else f"{num_bytes} bytes"

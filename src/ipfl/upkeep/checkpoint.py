"""State files: all that resume needs, written as a whole after every round, safetensors only.

A file is named by the SHA-256 of its content and is on the disk, flushed, before the ledger books the round that names
it. So a crash can leave a file that no round names, never a round that names no file; and what is read back is what was
written, or is refused. Those of the last two rounds are kept.
"""

import errno
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ipfl.disk import sync_folder
from ipfl.errors import CheckpointError
from ipfl.faults import point
from ipfl.run_folder import unwritable
from ipfl.types import State

KEPT = 2
VERSION = 3
CHUNK = 1 << 20
_NEW = ".new.tmp"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The states of the method and of everybody alone after `state.round_index` rounds were done.

    `away_until`: the round in which each participant comes back; 0 for those who are there.
    """

    state: State
    alone: State
    away_until: Int64[np.ndarray, "m"]


def run_digest(config_text: str, task_fingerprint: str, *initial: np.ndarray) -> str:
    """What identifies a run: its resolved configuration, its data, and theta_0 with the initial buffers."""
    digest = hashlib.sha256(f"{config_text}\n{task_fingerprint}".encode())
    for array in initial:
        digest.update(f"\n{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> str:
    """Write the state after the round just done, and return the SHA-256 that it goes by.

    Raises:
      RunFolderError: it cannot be written; no file of that name is there then.
    """
    arrays = _arrays("method", checkpoint.state) | _arrays("alone", checkpoint.alone)
    arrays["away_until"] = checkpoint.away_until
    about = {"version": VERSION, "round_index": checkpoint.state.round_index}
    new = folder / "checkpoints" / _NEW
    try:
        point("state: before writing")
        new.parent.mkdir(exist_ok=True)
        try:
            save_file(
                arrays, new, {"about": json.dumps(about, sort_keys=True)}
            )  # more entries would be in any order
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error
        point("state: written")
        digest = _file_digest(new)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        point("state: flushed")
        new.replace(_path(folder, digest))
        point("state: renamed")
        sync_folder(new.parent)
        point("state: folder flushed")
    except OSError as error:
        raise unwritable(new, error) from error
    return digest


def read_checkpoint(folder: Path, digest: str) -> Checkpoint:
    """The state that goes by a digest.

    Raises:
      CheckpointError: it is missing, damaged, or was written by another version of ipfl.
    """
    path = _path(folder, digest)
    try:
        if _file_digest(path) != digest:
            raise CheckpointError(f"state file {path} is damaged: its content does not match its name")
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})["about"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise CheckpointError(f"state file {path} is missing") from None
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"state file {path} cannot be read ({error})") from None
    if about["version"] != VERSION:
        raise CheckpointError(
            f"state file {path} was written by another version of ipfl: resume with that version"
        )
    round_index = int(about["round_index"])
    return Checkpoint(
        state=_state("method", round_index, arrays),
        alone=_state("alone", round_index, arrays),
        away_until=arrays["away_until"],
    )


def drop_others(folder: Path, kept: Collection[str]) -> None:
    """Keep the state files of some digests only; what a crash left half-written goes too."""
    for path in orphans(folder, kept):
        path.unlink(missing_ok=True)


def orphans(folder: Path, named: Collection[str]) -> list[Path]:
    """State files of other digests, and what a crash left half-written."""
    names = {_path(folder, digest).name for digest in named}
    return sorted(
        path
        for path in (folder / "checkpoints").glob("*")
        if path.name not in names and (path.name == _NEW or path.suffix == ".safetensors")
    )


def is_intact(folder: Path, digest: str) -> bool:
    """Whether the state file of a digest is there and holds what it held."""
    return file_digest(_path(folder, digest)) == digest


def file_digest(path: Path) -> str | None:
    """The SHA-256 of a file; None if it is not there, or cannot be read."""
    try:
        return _file_digest(path) if path.is_file() else None
    except OSError:
        return None


def _path(folder: Path, digest: str) -> Path:
    return folder / "checkpoints" / f"{digest}.safetensors"


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _arrays(prefix: str, state: State) -> dict[str, np.ndarray]:
    named = {"params": state.params, "buffers": state.buffers}
    named |= {f"arrays/{name}": array for name, array in state.arrays.items()}
    return {f"{prefix}/{name}": np.ascontiguousarray(array) for name, array in named.items()}


def _state(prefix: str, round_index: int, arrays: Mapping[str, np.ndarray]) -> State:
    start = f"{prefix}/arrays/"
    extra = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return State(round_index, arrays[f"{prefix}/params"], arrays[f"{prefix}/buffers"], extra)

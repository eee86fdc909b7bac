"""Checkpoints: all that resume needs, written as a whole after every round, safetensors only.

The newest two are kept. Each carries a digest of all it holds, so that a damaged one is noticed, and the
lengths and digests of the growing text files, so that lines written after it are cut off before the run goes
on, and lines changed before it are noticed.
"""

import errno
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ipfl.errors import CheckpointError
from ipfl.experiment.folder import Marks
from ipfl.run_folder import write_file
from ipfl.types import State

KEPT = 2
VERSION = 2


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The states of the method and of everybody alone after `round_index` rounds were done.

    `away_until`: the round in which each participant comes back; 0 for those who are there.
    """

    state: State
    alone: State
    marks: Marks
    run_digest: str
    away_until: Int64[np.ndarray, "m"]


def run_digest(config_text: str, task_fingerprint: str, *initial: np.ndarray) -> str:
    """What identifies a run: its resolved configuration, its data, and theta_0 with the initial buffers."""
    digest = hashlib.sha256(f"{config_text}\n{task_fingerprint}".encode())
    for array in initial:
        digest.update(f"\n{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of the round just done, then drop those before the one before it."""
    arrays = _arrays("method", checkpoint.state) | _arrays("alone", checkpoint.alone)
    arrays["away_until"] = checkpoint.away_until
    header = {
        "version": str(VERSION),
        "round_index": str(checkpoint.state.round_index),
        "marks": json.dumps(checkpoint.marks, sort_keys=True),
        "run_digest": checkpoint.run_digest,
    }
    header["digest"] = _digest(header, arrays)

    def write(path: Path) -> None:
        try:
            save_file(arrays, path, header)
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error

    write_file(_path(folder, checkpoint.state.round_index), write)
    drop_old(folder)


def drop_old(folder: Path) -> None:
    """Keep the newest checkpoints only."""
    for old in _existing(folder)[:-KEPT]:
        old.unlink()


def read_checkpoint(folder: Path, expected_digest: str) -> Checkpoint | None:
    """The newest checkpoint of a run folder, or None when no round was finished.

    Raises:
      CheckpointError: it is damaged, or belongs to another configuration or other data.
    """
    existing = _existing(folder)
    if not existing:
        return None
    path = existing[-1]
    hint = (
        "delete it and resume from the one before"
        if len(existing) > 1
        else "start the run again with --force"
    )
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        intact = header.pop("digest", None) == _digest(header, arrays)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({error}); {hint}") from None
    if not intact:
        raise CheckpointError(f"checkpoint {path} is damaged (its contents do not match its digest); {hint}")
    if header["version"] != str(VERSION):
        raise CheckpointError(
            f"checkpoint {path} was written by another version of ipfl: resume with that version, or {hint}"
        )
    if header["run_digest"] != expected_digest:
        raise CheckpointError(
            f"checkpoint {path} belongs to another configuration, model or other data than this folder and task now "
            "hold; restore config.toml, the model and the data as they were, or start the run again with --force"
        )
    round_index = int(header["round_index"])
    return Checkpoint(
        state=_state("method", round_index, arrays),
        alone=_state("alone", round_index, arrays),
        marks={name: (length, digest) for name, (length, digest) in json.loads(header["marks"]).items()},
        run_digest=expected_digest,
        away_until=arrays["away_until"],
    )


def _path(folder: Path, round_index: int) -> Path:
    return folder / "checkpoints" / f"after-{round_index:05d}.safetensors"


def _existing(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("after-*.safetensors"))


def _arrays(prefix: str, state: State) -> dict[str, np.ndarray]:
    named = {"params": state.params, "buffers": state.buffers}
    named |= {f"arrays/{name}": array for name, array in state.arrays.items()}
    return {f"{prefix}/{name}": np.ascontiguousarray(array) for name, array in named.items()}


def _state(prefix: str, round_index: int, arrays: Mapping[str, np.ndarray]) -> State:
    start = f"{prefix}/arrays/"
    extra = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return State(round_index, arrays[f"{prefix}/params"], arrays[f"{prefix}/buffers"], extra)


def _digest(header: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()

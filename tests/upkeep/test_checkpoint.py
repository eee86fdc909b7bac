"""State files when the disk refuses."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from ipfl.errors import RunFolderError
from ipfl.types import State
from ipfl.upkeep import checkpoint
from ipfl.upkeep.checkpoint import Checkpoint, file_digest, orphans, read_checkpoint, write_checkpoint


def states():
    zeros = State(1, np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32), {})
    return Checkpoint(zeros, zeros, np.zeros(2, np.int64))


def fails(error):
    def call(*arguments, **options):
        raise error

    return call


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [
        (checkpoint, "save_file", SafetensorError("I/O error")),
        (os, "fsync", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    ],
)
def test_a_state_that_cannot_be_written(tmp_path, monkeypatch, module, name, error):
    before = write_checkpoint(tmp_path, states())
    monkeypatch.setattr(module, name, fails(error))
    with pytest.raises(
        RunFolderError, match=r"^cannot write .*checkpoints/.*; free space or choose another --out$"
    ):
        write_checkpoint(tmp_path, states())
    monkeypatch.undo()
    assert read_checkpoint(tmp_path, before).state.round_index == 1
    assert orphans(tmp_path, [before]) in ([], [tmp_path / "checkpoints" / ".new.tmp"])
    assert write_checkpoint(tmp_path, states()) == before


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert file_digest(tmp_path / "file") is not None
    assert file_digest(tmp_path / "nowhere") is None
    assert file_digest(tmp_path / ("x" * 5000)) is None
    assert file_digest(tmp_path) is None
    monkeypatch.setattr(Path, "open", fails(OSError(errno.EIO, os.strerror(errno.EIO))))
    assert file_digest(tmp_path / "file") is None


def test_only_state_files_are_taken_away(tmp_path):
    digest = write_checkpoint(tmp_path, states())
    for name in (".new.tmp", "0.safetensors", "notes.txt"):
        (tmp_path / "checkpoints" / name).write_text("")
    checkpoint.drop_others(tmp_path, [digest])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        f"{digest}.safetensors",
        "notes.txt",
    ]
    checkpoint.drop_others(tmp_path / "nowhere", [])

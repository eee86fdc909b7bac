"""The run folder's files: written as a whole or not at all, read back or refused by name."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

import tiny
from ipfl.config import Config
from ipfl.errors import ConfigError, RunFolderError
from ipfl.run_folder import (
    EDGE_COLUMNS,
    LEDGER_COLUMNS,
    append_lines,
    csv_lines,
    load_run,
    read_distances,
    read_json,
    write_bytes,
    write_distances,
    write_json,
    write_text,
)

EDGE = {"round_index": 0, "buyer": "a", "seller": "b", "num_examples": 3, "distance": 0.1, "payment": 1 / 3}
TRANSFER = {"round_index": 0, "payer": "a", "payee": "b", "amount": 1 / 3, "purpose": "sale"}
LINE = {"round_index": 0, "participants": [{"id": "a", "utility": 1.0, "bid": {"valuation": 2.0}}]}


@pytest.fixture
def folder(tmp_path):
    """The least that can be read as a run."""
    write_text(tmp_path / "config.toml", tiny.config().to_toml())
    write_json(tmp_path / "environment.json", {"seed": 0})
    write_text(tmp_path / "rounds.jsonl", json.dumps(LINE) + "\n")
    for name, columns, row in (("edges.csv", EDGE_COLUMNS, EDGE), ("ledger.csv", LEDGER_COLUMNS, TRANSFER)):
        write_text(tmp_path / name, ",".join(columns) + "\n")
        append_lines(tmp_path / name, csv_lines([row], columns))
    return tmp_path


def refusal(function, *arguments, error=RunFolderError):
    with pytest.raises(error) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- reading


def test_rows_come_back_as_they_were(folder):
    run = load_run(folder)
    assert run.edges == [EDGE]
    assert run.ledger == [TRANSFER]
    assert run.rounds == [LINE]
    assert run.participant_rounds() == [{"round_index": 0, "id": "a", "utility": 1.0, "bid_valuation": 2.0}]
    assert run.config == Config.from_toml((folder / "config.toml").read_text())
    assert run.participant_ids == list("abcde")
    assert not run.finished
    write_json(folder / "summary.json", {"method": "ipfl"})
    assert load_run(str(folder)).summary == {"method": "ipfl"}


@pytest.mark.parametrize(
    "name", ["config.toml", "environment.json", "rounds.jsonl", "edges.csv", "ledger.csv"]
)
def test_missing_and_unreadable_files(folder, name):
    (folder / name).unlink()
    message = refusal(load_run, folder)
    assert message == f"{folder / name} is missing: {folder} is not a run folder, or an incomplete one"
    (folder / name).write_bytes(b"\xff\xfe")
    assert f"cannot read {folder / name}: " in refusal(load_run, folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"cannot read {folder / name}: " in refusal(load_run, folder)


def test_no_folder(tmp_path):
    message = refusal(load_run, tmp_path / "x")
    assert message == f"no run folder at {tmp_path / 'x'}: give the folder that `ipfl run --out` wrote"


def test_damaged_configuration(folder):
    (folder / "config.toml").write_text("rounds = ")
    assert "config.toml is not valid TOML" in refusal(load_run, folder, error=ConfigError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON (line 1): restore it or run again"),
        ("", "is not valid JSON (line 1): restore it or run again"),
        ("[]", "does not hold a JSON object: restore it or run again"),
    ],
)
def test_damaged_json(folder, content, message):
    (folder / "environment.json").write_text(content)
    assert refusal(read_json, folder / "environment.json") == f"{folder / 'environment.json'} {message}"


def test_damaged_lines(folder):
    path = folder / "rounds.jsonl"
    path.write_text(json.dumps(LINE) + "\n{oops\n" + json.dumps(LINE) + "\n")
    assert refusal(load_run, folder) == f"{path}, line 2, is not valid JSON: restore it or run again"


def test_line_separators_inside_a_line_are_text(folder):
    line = LINE | {"refusal": "one\u2028two\x85three"}
    write_text(folder / "rounds.jsonl", json.dumps(line, ensure_ascii=False) + "\n")
    assert load_run(folder).rounds == [line]


@pytest.mark.parametrize("torn", ['{"round_index": 1', json.dumps(LINE)])
def test_a_torn_last_line_is_passed_over(folder, torn):
    (folder / "rounds.jsonl").write_text(json.dumps(LINE) + "\n" + torn)
    assert load_run(folder).rounds == [LINE]


@pytest.mark.parametrize(
    "row", ["0,a,b,3,0.1", "0,a,b,3,0.1,0.2,0.3", "0,a,b,3,near,0.2", "0,a,b,3.5,0.1,0.2", "x,a,b,3,0.1,0.2"]
)
def test_damaged_rows(folder, row):
    path = folder / "edges.csv"
    content = path.read_text()
    path.write_text(content + row + "\n")
    expected = f"{path}, line 3: expected {','.join(EDGE_COLUMNS)}; restore it or run again"
    assert refusal(load_run, folder) == expected
    path.write_text(content + row)  # torn by a crash
    assert load_run(folder).edges == [EDGE]


def test_other_columns(folder):
    (folder / "ledger.csv").write_text("payer,payee\n")
    assert "has columns ['payer', 'payee'], expected ['round_index'," in refusal(load_run, folder)
    (folder / "ledger.csv").write_text("")
    assert "has columns None" in refusal(load_run, folder)


def test_distances(folder):
    distance = np.array([[0.0, np.nan], [0.25, 0.0]])
    write_distances(folder, 7, distance)
    assert (folder / "distances" / "00007.npy").exists()
    np.testing.assert_array_equal(load_run(folder).distances(7), distance)
    assert "cannot read distances" in refusal(read_distances, folder, 8)
    for content in (b"", b"nonsense", (folder / "distances" / "00007.npy").read_bytes()[:-3]):
        (folder / "distances" / "00008.npy").write_bytes(content)
        assert "cannot read distances" in refusal(read_distances, folder, 8)


def test_sparse_distances(folder):
    distance = csr_array((np.array([0.0, 0.5]), np.array([1, 0]), np.array([0, 1, 2])), shape=(2, 2))
    write_distances(folder, 7, distance)
    assert [path.name for path in (folder / "distances").iterdir()] == ["00007.npz"]
    run = load_run(folder)
    found = run.distances(7)
    assert isinstance(found, csr_array)
    assert (found.indices.tolist(), found.data.tolist()) == ([1, 0], [0.0, 0.5])  # a stored zero stays stored
    np.testing.assert_array_equal(run.known_distances(7), [[np.nan, 0.0], [0.5, np.nan]])
    write_distances(folder, 6, np.eye(2))
    np.testing.assert_array_equal(run.known_distances(6), np.eye(2))
    for content in (b"", b"nonsense", (folder / "distances" / "00007.npz").read_bytes()[:-30]):
        (folder / "distances" / "00008.npz").write_bytes(content)
        assert "cannot read distances" in refusal(read_distances, folder, 8)
    np.savez(folder / "distances" / "00008.npz", other=np.eye(2))
    assert "cannot read distances" in refusal(read_distances, folder, 8)


def test_nothing_is_unpickled(folder):
    np.save(folder / "distances.npy", np.array([{}], dtype=object))
    (folder / "distances").mkdir()
    (folder / "distances.npy").rename(folder / "distances" / "00000.npy")
    assert "allow_pickle=False" in refusal(read_distances, folder, 0)


# ---------------------------------------------------------------- writing


def test_floats_keep_every_digit():
    values = [1 / 3, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e15 + 0.3]
    lines = csv_lines([EDGE | {"payment": value} for value in values], EDGE_COLUMNS)
    assert [float(line.rsplit(",")[-1]) for line in lines] == values


def test_writing_replaces_a_file_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "down" / "file"
    for content in (b"first", b"2"):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def fails(number):
    def call(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("where", ["mkdir", "open", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, number, where):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    owner = os if where == "fsync" else Path
    monkeypatch.setattr(owner, where, fails(number))
    message = refusal(write_bytes, path, b"new")
    monkeypatch.undo()
    assert message == f"cannot write {path}: {os.strerror(number)}; free space or choose another --out"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_stays_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fails(errno.EROFS))
    monkeypatch.setattr(Path, "unlink", fails(errno.EROFS))
    assert "Read-only file system" in refusal(write_bytes, tmp_path / "file", b"x")


def test_appending(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    assert append_lines(path, ["a", "é"]) == "a\né\n".encode()
    assert append_lines(path, ["c"]) == b"c\n"
    assert path.read_text(encoding="utf-8") == "a\né\nc\n"
    message = refusal(append_lines, tmp_path / "none" / "lines", ["x"])
    assert "No such file or directory; free space, then `ipfl run --resume" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_for_real():
    message = refusal(append_lines, Path("/dev/full"), ["x"])
    assert message.startswith("cannot write /dev/full: No space left on device; free space, then")


def test_the_folder_is_flushed_too(tmp_path, monkeypatch):
    """Renaming is safe only when the folder's own entry is on the disk."""
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    write_bytes(tmp_path / "file", b"x")
    assert flushed == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]

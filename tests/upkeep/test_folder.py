"""Opening run folders when the file system refuses."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from ipfl.errors import RunFolderError
from ipfl.ledger import opening
from ipfl.upkeep.folder import GrowingFiles, create, next_free_folder

FIRST = opening("0" * 64, ["a", "b"], {})


def fails(number=errno.EACCES):
    def call(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return call


def refusal(function, *arguments):
    with pytest.raises(RunFolderError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_first_free_number_is_taken_at_once(tmp_path):
    assert [next_free_folder(tmp_path / "runs", "x").name for _ in range(3)] == ["x-001", "x-002", "x-003"]
    (tmp_path / "runs" / "x-002").rmdir()
    assert next_free_folder(tmp_path / "runs", "x").name == "x-002"


@pytest.mark.parametrize(("owner", "name"), [(shutil, "rmtree"), (Path, "unlink"), (Path, "mkdir")])
def test_a_folder_that_cannot_be_made_or_emptied(tmp_path, monkeypatch, owner, name):
    create(tmp_path / "run", "rounds = 1\n", {}, FIRST)
    monkeypatch.setattr(owner, name, fails())
    message = refusal(create, tmp_path / "run", "rounds = 2\n", {}, FIRST)
    assert message.startswith("cannot ")
    assert "Permission denied" in message
    assert message.endswith("another --out")


def test_a_new_folder_whose_parts_cannot_be_made(tmp_path, monkeypatch):
    make = Path.mkdir

    def mkdir(self, *arguments, **options):
        if self.name == "checkpoints":
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refusal(create, tmp_path / "run", "", {}, FIRST)
    assert (
        message
        == f"cannot make run folder {tmp_path / 'run'}: {os.strerror(errno.EDQUOT)}; give another --out"
    )


def test_files_that_cannot_be_written_any_more(tmp_path, monkeypatch):
    create(tmp_path, "", {}, FIRST)
    opened = Path.open

    def read_only(self, mode="r", *arguments, **options):
        if "+" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", read_only)
    message = refusal(GrowingFiles, tmp_path, None)
    assert message == f"cannot write {tmp_path / 'rounds.jsonl'}: Read-only file system; make it writable"


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    create(tmp_path, "", {}, FIRST)
    (tmp_path / "edges.csv").unlink()
    message = refusal(GrowingFiles, tmp_path, None)
    assert message.startswith(
        f"cannot read {tmp_path / 'edges.csv'}: No such file or directory; restore it, or"
    )


def test_marks_follow_what_is_written(tmp_path):
    create(tmp_path, "", {}, FIRST)
    files = GrowingFiles(tmp_path, None)
    files.append("rounds.jsonl", ["one", "zwölf"])
    files.append("edges.csv", [])
    assert files.marks()[0].length == len("one\nzwölf\n".encode())
    written = files.marks()
    marks = {mark.file: (mark.length, mark.digest) for mark in written}
    files.append("rounds.jsonl", ["three"])
    again = GrowingFiles(tmp_path, marks)
    assert (tmp_path / "rounds.jsonl").read_text(encoding="utf-8") == "one\nzwölf\n"
    assert again.marks() == written
    (tmp_path / "ledger.csv").write_text("other\n")
    (tmp_path / "rounds.jsonl").write_text("one\nzwölf\nmore\n", encoding="utf-8")
    assert "ledger.csv are not those that were written" in refusal(GrowingFiles, tmp_path, marks)
    assert (
        (tmp_path / "rounds.jsonl").read_text(encoding="utf-8").endswith("more\n")
    )  # checked first, then cut

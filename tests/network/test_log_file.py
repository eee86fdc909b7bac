"""A log that another program appends to is read as it grows and does not grow for ever."""

from pathlib import Path

import pytest

from ipfl.network import log_file
from ipfl.network.log_file import LogReader, keep_short


def test_a_log_that_has_grown_is_emptied_and_its_end_kept(tmp_path: Path) -> None:
    log, before = tmp_path / "superlink.log", tmp_path / "superlink.log.before"
    assert not keep_short(log, 10)
    with log.open("ab", buffering=0) as writer:  # as a program does that goes on writing
        writer.write(b"0123456789")
        assert not keep_short(log, 10)
        writer.write(b"abc")
        assert keep_short(log, 10)
        assert (log.read_bytes(), before.read_bytes()) == (b"", b"3456789abc")
        writer.write(b"more")
        assert log.read_bytes() == b"more"


def test_lines_are_told_once_also_after_it_was_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "READ_BYTES", 16)
    log = tmp_path / "log"
    log.write_text("of before\n")
    reader = LogReader(log)
    assert reader.new_lines() == ""
    with log.open("ab", buffering=0) as writer:
        writer.write(b"one\ntwo\nthr")
        assert [reader.new_lines(), reader.new_lines()] == ["one\ntwo\n", ""]
        writer.write(b"ee\n" + 3 * b"x" * 16 + b"\nfour\n")
        assert "".join(reader.new_lines() for _ in range(6)).endswith("\nfour\n")
        monkeypatch.setattr(log_file.keep_short, "__defaults__", (10,))
        assert reader.new_lines() == ""
        writer.write(b"five\n")
        assert reader.new_lines() == "five\n"

"""The command line called in this process: arguments in; exit code, output and errors out."""

import sys
from typing import NamedTuple

import pytest

import tiny
from ipfl.cli.main import entry


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ipfl_command(monkeypatch, capsys, tmp_path):
    """ipfl_command(arguments...) -> Result, run in an empty folder; nothing may end in a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ipfl", *map(str, arguments)])
        try:
            entry()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(code, out, err)

    return call


@pytest.fixture
def tables(tmp_path):
    """A folder of four participants' tables."""
    return tiny.write_tables(tmp_path / "tables")


@pytest.fixture
def quick():
    """Settings that make a run of one's own tables quick; tracing a step for several participants takes longest."""
    return [
        "--set", "rounds=2", "--set", "training.steps=2", "--set", "market.rule=paper", "--set", "engine.block=1",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A finished run of tables; look at it, do not touch it."""
    folder = tmp_path_factory.mktemp("cli")
    arguments = ["--data", tiny.write_tables(folder / "tables"), "--out", folder / "run", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            "argv",
            ["ipfl", "run", *map(str, arguments), "--set", "rounds=2", "--set", "training.steps=2"],
        )
        entry()
    return folder / "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A market of four over a network, with its keys and certificates; made once a file."""
    from cli.wire import site

    return site(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made, tmp_path):
    """The same, moved to where the test is."""
    from cli.wire import moved

    return moved(made, tmp_path)


@pytest.fixture
def wire(monkeypatch):
    """What stands for Flower; nobody is connected."""
    from cli.wire import Wire

    return Wire().plug(monkeypatch)

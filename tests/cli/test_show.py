"""`ipfl presets`, `ipfl show` and `ipfl report`, and the ways in which any command ends."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from ipfl.cli import main as command_line
from ipfl.errors import EngineError, InvariantError
from ipfl.presets import preset_names, preset_text

# ---------------------------------------------------------------- presets


def test_presets_lists_the_default_first(ipfl_command):
    done = ipfl_command("presets")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == preset_names()
    assert preset_names()[0] == "digits"
    assert "own-data         Your own data: a folder with one .csv" in done.out


@pytest.mark.parametrize("name", preset_names())
def test_presets_prints_one_to_copy(ipfl_command, name):
    assert ipfl_command("presets", name) == (0, preset_text(name), "")


def test_presets_of_another_name(ipfl_command):
    done = ipfl_command("presets", "zzz")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: there is no preset 'zzz'; presets: {', '.join(preset_names())}\n"


# ---------------------------------------------------------------- show, report


def test_show_prints_every_participant(ipfl_command, run_folder):
    done = ipfl_command("show", run_folder)
    assert (done.code, done.err) == (0, "")
    for row in json.loads((run_folder / "summary.json").read_text())["participants"]:
        assert any(f"{row['utility']:.{digits}f}" in done.out for digits in range(1, 5))


def test_show_as_json(ipfl_command, run_folder):
    done = ipfl_command("show", run_folder, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)


def test_report_writes_the_page_again(ipfl_command, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")  # the page is named after its folder
    page = tmp_path / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    done = ipfl_command("report", tmp_path / "run")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip() == str(page)
    assert page.read_bytes() == before


@pytest.mark.parametrize("command", ["show", "report"])
def test_an_interrupted_run_is_shown_as_far_as_it_came(ipfl_command, run_folder, tmp_path, command):
    out = tmp_path / "copy"
    shutil.copytree(run_folder, out)
    (out / "summary.json").unlink()
    lines = (out / "rounds.jsonl").read_text().splitlines()
    (out / "rounds.jsonl").write_text(lines[0] + "\n" + lines[1][:50])
    assert ipfl_command(command, out).code == 0


@pytest.mark.parametrize("command", ["show", "report"])
def test_no_run_folder(ipfl_command, tmp_path, command):
    done = ipfl_command(command, "absent")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: no run folder at absent: give the folder that `ipfl run --out` wrote\n"
    done = ipfl_command(command, tmp_path)
    assert done.code == 2
    assert "config.toml is missing" in done.err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- how commands end


def test_help_and_version(ipfl_command):
    done = ipfl_command("--help")
    assert done.code == 0
    assert "Exit codes: 0 done, 1 the run or check failed, 2 bad usage or input" in " ".join(done.out.split())
    for name in command_line.COMMANDS:
        assert f"  {name} " in done.out
        assert ipfl_command(name, "-h").code == 0
    assert ipfl_command("--version").out.strip().endswith(", version 0.1.0")


def test_unknown_commands(ipfl_command):
    done = ipfl_command("buy")
    assert done.code == 2
    assert "No such command 'buy'" in done.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (EngineError("participant a: training failed"), 1, "error: participant a: training failed"),
        (InvariantError("broken law: x"), 1, "error: broken law: x"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x"),
            1,
            "error: No space left on device (/x); free some space",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "error: Permission denied"),
    ],
)
def test_errors_become_one_sentence_and_an_exit_code(ipfl_command, monkeypatch, error, code, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("ipfl.run_folder.load_run", fail)
    done = ipfl_command("show", "run")
    assert (done.code, done.out) == (code, "")
    assert done.err.strip().startswith(message)
    assert done.err.strip().count("\n") == 0


def ipfl_process(*arguments, **options):
    code = "from ipfl.cli.main import entry; entry()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_to_a_full_disk():
    with Path("/dev/full").open("w") as full:
        process = ipfl_process("presets", "digits", stdout=full)
        error = process.communicate()[1]
    assert process.returncode == 1
    assert error == "error: No space left on device; free some space\n"


def test_output_to_a_reader_that_has_gone():
    reader, writer = os.pipe()
    os.close(reader)
    process = ipfl_process("presets", "digits", stdout=writer)
    os.close(writer)
    error = process.communicate()[1]
    assert process.returncode == 1
    assert error == ""


def test_ctrl_c_in_the_middle_of_a_run(ipfl_command, tmp_path):
    """The process gets SIGINT after some round; what it finished is on disk, and goes on as if nothing had been."""
    tiny.write_tables(tmp_path / "tables")
    arguments = (
        "run",
        "--data",
        "tables",
        "--set",
        "rounds=400",
        "--set",
        "training.steps=5",
        "--quiet",
        "--out",
    )
    process = ipfl_process(*arguments, "out", cwd=tmp_path, stdout=subprocess.PIPE)
    lines = tmp_path / "out" / "rounds.jsonl"
    deadline = time.monotonic() + 60
    while not (lines.exists() and lines.stat().st_size) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert error == "interrupted; every finished round is on disk: go on with `ipfl run --resume out`\n"
    config = tmp_path / "out" / "config.toml"
    assert "rounds = 400" in config.read_text()
    done = ipfl_command("show", tmp_path / "out")
    assert done.code == 0

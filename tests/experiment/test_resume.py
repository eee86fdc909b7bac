"""Resume: whatever interrupts a run, and wherever, it ends with the bytes of an uninterrupted one (times aside)."""

import errno
import hashlib
import json
import os
import shutil
import stat
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save
from torch import nn

import ipfl
import tiny
from ipfl.errors import CheckpointError, IpflError, LedgerError, RunFolderError
from ipfl.experiment import rounds
from ipfl.experiment.events import Preparing, RoundDone, RunStarted
from ipfl.ledger import Ledger
from ipfl.upkeep.checkpoint import read_checkpoint
from ipfl.upkeep.doctor import diagnose
from ipfl.upkeep.folder import held

KINDS = ("trader", "trader", "attacker")
CONFIG = tiny.config(KINDS, rounds=2)
TASK = tiny.task(len(KINDS))


class PowerCut(BaseException):
    """Like kill -9: nothing of ours catches it."""


def start(out, **options):
    return ipfl.run(CONFIG, task=TASK, out=out, **options)


def go_on(out, **options):
    return ipfl.resume(out, task=TASK, **options)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    return tiny.contents(start(tmp_path_factory.mktemp("runs") / "whole").path)


@pytest.fixture(scope="session")
def halfway_folder(tmp_path_factory):
    """A run of two rounds cut off after the first."""
    out = tmp_path_factory.mktemp("runs") / "half"

    def watch(event):
        if isinstance(event, RoundDone):
            raise PowerCut

    with pytest.raises(PowerCut):
        start(out, watch=watch)
    return out


@pytest.fixture
def halfway(halfway_folder, tmp_path):
    shutil.copytree(halfway_folder, tmp_path / "run")
    return tmp_path / "run"


def refused(out, error=IpflError, **options):
    """The one sentence with which resuming is refused; nothing has been changed."""
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(error) as refusal:
        go_on(out, **options)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    message = str(refusal.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- interrupted at every point


def cut_at(point, how):
    """An os.fsync that fails at its point-th call; every write of the run folder ends in one."""
    calls = 0
    sync = os.fsync

    def fsync(descriptor):
        nonlocal calls
        calls += 1
        if calls == point:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            if how == "torn" and is_file:
                os.ftruncate(descriptor, max(0, os.fstat(descriptor).st_size - 7))
            if how == "disk full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise PowerCut
        sync(descriptor)

    return fsync


def count_of_writes(out):
    """How many times a whole run flushes to the disk."""
    points = 0

    def fsync(descriptor):
        nonlocal points
        points += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        start(out)
    return points


WAYS = ("whole", "torn", "disk full")


@pytest.mark.parametrize(
    ("every", "ways"),
    [
        pytest.param(3, WAYS, id="third"),  # files and folders are written in turn: an odd step meets both
        *(pytest.param(1, (way,), id=way.replace(" ", "-"), marks=pytest.mark.slow) for way in WAYS),
    ],
)
def test_interrupted_at_every_write(tmp_path, uninterrupted, every, ways):
    count = count_of_writes(tmp_path / "count")
    assert count > 30
    points = range(1, count + 1, every)
    begun = 0
    for turn, point in enumerate(points):
        out, how = tmp_path / f"run-{point}", ways[turn % len(ways)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", cut_at(point, how))
            with pytest.raises((RunFolderError, LedgerError) if how == "disk full" else PowerCut) as stop:
                start(out)
        if how == "disk full":
            assert "No space left on device; free space" in str(stop.value)
        if (out / "config.toml").exists():
            begun += 1
            ipfl.load_run(out)  # readable at all times
            result = go_on(out)
        else:  # cut off before it began: it can be replaced
            with pytest.raises(RunFolderError, match=r"config\.toml is missing"):
                go_on(out)
            result = start(out, force=True)
        assert tiny.contents(result.path) == uninterrupted, f"interrupted at write {point}"
    assert begun > len(points) / 2


def test_interrupted_while_being_replaced(tmp_path, uninterrupted):
    """--force over an old run, cut off at every write of its beginning: still a folder that --force replaces."""
    old = ipfl.run(tiny.config(KINDS, rounds=1, seed=9), task=TASK, out=tmp_path / "old")
    for point in range(1, 12):
        out = tmp_path / f"run-{point}"
        shutil.copytree(old.path, out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", cut_at(point, WAYS[point % 2]))
            with pytest.raises(PowerCut):
                start(out, force=True)
        assert tiny.contents(start(out, force=True).path) == uninterrupted


def test_interrupted_again_and_again(tmp_path, uninterrupted):
    """A resumed run may be interrupted too, at one write after the other, until it is done."""
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", cut_at(12, "torn"))
        with pytest.raises(PowerCut):
            start(out)
    for point in range(1, 60):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", cut_at(point, "torn"))
            try:
                result = go_on(out)
            except PowerCut:
                continue
        break
    assert point > 20
    assert tiny.contents(result.path) == uninterrupted


# ---------------------------------------------------------------- what resume does


def test_a_run_whose_participants_are_stepped_together_goes_on_too(tmp_path):
    config = tiny.config(KINDS, rounds=2, engine=tiny.ENGINE_TOGETHER)
    whole = ipfl.run(config, task=TASK, out=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", cut_at(count_of_writes(tmp_path / "count") // 2, "torn"))
        with pytest.raises(PowerCut):
            ipfl.run(config, task=TASK, out=tmp_path / "half")
    assert diagnose(tmp_path / "half").rounds == 1
    assert tiny.contents(go_on(tmp_path / "half").path) == tiny.contents(whole.path)


def test_it_goes_on_from_the_last_finished_round(halfway, uninterrupted):
    seen = []
    result = go_on(halfway, watch=seen.append)
    assert next(event.first_round for event in seen if isinstance(event, RunStarted)) == 1
    assert [event.line["round_index"] for event in seen if isinstance(event, RoundDone)] == [1]
    assert tiny.contents(result.path) == uninterrupted


def test_a_finished_run_is_left_as_it_is(finished):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.path.rglob("*.*")}
    seen = []
    assert ipfl.resume(finished.path, watch=seen.append) == finished
    assert seen == []
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.path.rglob("*.*")}
    assert before == after


def test_an_interrupted_run_can_be_read(halfway):
    run = ipfl.load_run(halfway)
    assert not run.finished
    assert run.summary is None
    assert len(run.rounds) == 1
    with pytest.raises(RunFolderError, match="resume it first"):
        ipfl.load_model(run, "a")


def test_rows_of_an_unfinished_round_are_passed_over(halfway):
    whole = ipfl.load_run(halfway)
    with (halfway / "edges.csv").open("a") as file:
        file.write("1,a,b,12,0.5,1.0\n1,b,a,1")
    with (halfway / "ledger.csv").open("a") as file:
        file.write("1,a,b,1.0,sale\n")
    with (halfway / "rounds.jsonl").open("a") as file:
        file.write('{"round_index": 1, "welf')
    assert ipfl.load_run(halfway) == whole


def test_other_working_directories(tmp_path, monkeypatch):
    """Data named relative to one directory is found from another."""
    monkeypatch.chdir(tmp_path)
    tiny.write_tables(tmp_path / "tables")
    config = tiny.config(participants={}, data="tables", task="folder", rounds=2)
    whole = ipfl.run(config, out="whole")

    def watch(event):
        if isinstance(event, RoundDone):
            raise PowerCut

    with pytest.raises(PowerCut):
        ipfl.run(config, out="half", watch=watch)
    monkeypatch.chdir("/")
    resumed = ipfl.resume(tmp_path / "half")
    assert tiny.contents(resumed.path) == tiny.contents(tmp_path / whole.path)


# ---------------------------------------------------------------- what is refused


def test_no_run_folder(tmp_path):
    assert "no run folder at" in refused(tmp_path / "absent", RunFolderError)
    assert "config.toml is missing" in refused(tmp_path, RunFolderError)


def test_data_from_python_must_be_given_again(halfway):
    with pytest.raises(CheckpointError, match="was run on data given in Python"):
        ipfl.resume(halfway)


@pytest.mark.parametrize("rounds_done", [0, 1])
def test_other_data_is_noticed(halfway, rounds_done):
    if not rounds_done:
        shutil.rmtree(halfway / "checkpoints")
    before = (halfway / "rounds.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="another configuration, model or other data"):
        ipfl.resume(halfway, task=tiny.task(len(KINDS), seed=1))
    assert (halfway / "rounds.jsonl").read_bytes() == before


def test_another_configuration_is_noticed(halfway):
    path = halfway / "config.toml"
    path.write_text(path.read_text().replace("lam = 0.5", "lam = 0.6"))
    assert "another configuration, model or other data" in refused(halfway, CheckpointError)


def test_another_model_is_noticed(halfway):
    message = refused(halfway, CheckpointError, model=lambda: nn.Linear(3, 2))
    assert "another configuration, model or other data" in message


def test_another_torch_is_noticed(halfway):
    path = halfway / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"torch": "1.0"}))
    assert "was begun with torch 1.0 and this is" in refused(halfway, CheckpointError)


def test_an_environment_that_lacks_something(halfway):
    path = halfway / "environment.json"
    path.write_text("{}")
    assert f"{path} has no 'own_task': restore it" in refused(halfway, RunFolderError)


@pytest.mark.parametrize("name", ["rounds.jsonl", "edges.csv", "ledger.csv"])
@pytest.mark.parametrize("how", ["digit", "shorter", "gone"])
def test_changed_files_are_noticed(halfway, name, how):
    path = halfway / name
    content = path.read_bytes()
    if how == "digit":
        place = max(i for i, byte in enumerate(content) if chr(byte).isdigit())
        path.write_bytes(content[:place] + bytes([48 + (content[place] - 47) % 10]) + content[place + 1 :])
    elif how == "shorter":
        path.write_bytes(content[: content.rindex(b"\n", 0, -1) + 1] if name != "rounds.jsonl" else b"")
    else:
        path.unlink()
    message = refused(halfway, RunFolderError)
    assert name in message
    if how != "gone":
        assert "are not those that were written: it was changed since; restore it, or start" in message


def states(out):
    """The state files, the oldest round first."""
    with Ledger.open(out / "ledger.db") as ledger:
        digests = [entry.terms["state"] for entry in ledger.entries("WHERE kind = 'round'")]
    return [path for digest in digests if (path := out / "checkpoints" / f"{digest}.safetensors").exists()]


@pytest.mark.parametrize(
    ("anywhere", "every"), [(12, 74), pytest.param(250, 3, id="in-full", marks=pytest.mark.slow)]
)
def test_every_damaged_byte_of_a_state_is_noticed(halfway, anywhere, every):
    (path,) = states(halfway)
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), anywhere).tolist() + list(range(8, 1000, every))
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(
            CheckpointError, match=r"^state file .* is damaged: its content does not match its name$"
        ):
            read_checkpoint(halfway, path.stem)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\0" * 1000, None])
def test_without_any_state_it_begins_again_and_must_come_to_the_same(halfway, uninterrupted, content):
    (path,) = states(halfway)
    path.unlink() if content is None else path.write_bytes(content)
    seen = []
    result = go_on(halfway, watch=seen.append)
    told = [event.text for event in seen if isinstance(event, Preparing)]
    assert len(told) == 1
    assert "is missing" in told[0] if content is None else "is damaged" in told[0]
    assert told[0].endswith(": computing again from the start")
    assert [event.line["round_index"] for event in seen if isinstance(event, RoundDone)] == [0, 1]
    assert tiny.contents(result.path) == uninterrupted


def test_a_damaged_state_costs_its_round_alone(tmp_path, uninterrupted):
    out = tmp_path / "run"
    start(out)
    (out / "summary.json").unlink()
    second = states(out)[1]
    second.write_bytes(b"damaged")
    seen = []
    assert tiny.contents(go_on(out, watch=seen.append).path) == uninterrupted
    assert [event.text for event in seen if isinstance(event, Preparing)] == [
        f"state file {second} is damaged: its content does not match its name: "
        "computing again from the state after round 0"
    ]
    assert [event.line["round_index"] for event in seen if isinstance(event, RoundDone)] == [1]
    assert go_on(out).finished


def test_a_round_that_comes_out_otherwise_is_not_booked(halfway, monkeypatch):
    """Computed again from the start, with other results: the ledger keeps what was booked."""
    (path,) = states(halfway)
    path.unlink()
    train = rounds.train_alone

    def another(engine, state, *arguments):
        return replace(train(engine, state, *arguments), params=state.params + 1)

    monkeypatch.setattr(rounds, "train_alone", another)
    with pytest.raises(LedgerError, match=r"^entry 'round/0' is booked already with another terms"):
        go_on(halfway)


def test_a_state_of_another_version(halfway, monkeypatch):
    (path,) = states(halfway)
    monkeypatch.setattr("ipfl.upkeep.checkpoint.VERSION", 1)
    with pytest.raises(CheckpointError, match="was written by another version of ipfl"):
        read_checkpoint(halfway, path.stem)


def test_a_state_that_is_no_state(halfway):
    """Whatever its name says: a file of the right digest that holds something else."""
    for content in (b"nonsense", save({"x": np.zeros(2)})):
        digest = hashlib.sha256(content).hexdigest()
        (halfway / "checkpoints" / f"{digest}.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(halfway, digest)


def test_what_a_crash_left_is_cleared_away(halfway, uninterrupted):
    (halfway / "checkpoints" / ".new.tmp").write_bytes(b"half")
    (halfway / "checkpoints" / f"{'0' * 64}.safetensors").write_bytes(b"never booked")
    (halfway / "receipts" / "00000.jsonl").unlink()
    assert tiny.contents(go_on(halfway).path) == uninterrupted


def test_another_key_is_noticed(halfway, monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_OPERATOR_KEY", str(tmp_path / "another.key"))
    assert "was begun with another operator's key" in refused(halfway, CheckpointError)


def test_a_run_in_use_by_another_process_is_left_alone(halfway):
    before = tiny.contents(halfway)
    with held(halfway):
        for attempt in (lambda: go_on(halfway), lambda: start(halfway, force=True)):
            with pytest.raises(
                RunFolderError, match=r"is in use by another process: wait until that one ends"
            ):
                attempt()
    assert tiny.contents(halfway) == before
    assert go_on(halfway).finished

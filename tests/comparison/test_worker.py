"""One run of a grid: begun, kept, gone on with, done again, or refused with one sentence."""

import json

import pytest

import tiny
from ipfl.comparison.worker import attempt
from ipfl.config import Config
from ipfl.presets import load_config
from ipfl.run_folder import load_run

SETTINGS = [
    "rounds=2", "training.steps=1", "participants.count=3", "engine.workers=1", "engine.block=1",
    "market.rule=paper",
]  # fmt: skip


def text(*more):
    return load_config("hospitals", [*SETTINGS, *more]).to_toml()


def ignore(rounds):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert attempt(text(), folder, ignore) == ("done", "run")
    return folder


def test_every_round_is_told(tmp_path):
    told = []
    attempt(text(), tmp_path / "run", told.append)
    assert told == [0, 1, 2]


def test_a_finished_run_is_kept(whole):
    before = (whole / "rounds.jsonl").stat().st_mtime_ns
    assert attempt(text(), whole, ignore) == ("done", "kept")
    assert (whole / "rounds.jsonl").stat().st_mtime_ns == before


def test_an_interrupted_run_is_resumed_and_ends_the_same(whole, tmp_path):
    def stop(rounds):
        if rounds == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(text(), tmp_path / "run", stop)
    assert not load_run(tmp_path / "run").finished
    told = []
    assert attempt(text(), tmp_path / "run", told.append) == ("done", "resumed")
    assert told[0] == 1
    assert tiny.contents(tmp_path / "run") == tiny.contents(whole)


@pytest.mark.parametrize("what", ["configuration", "version"])
def test_a_run_of_another_configuration_or_version_is_done_again(tmp_path, what):
    folder = tmp_path / "run"
    attempt(text(), folder, ignore)
    if what == "version":
        environment = json.loads((folder / "environment.json").read_text())
        (folder / "environment.json").write_text(json.dumps(environment | {"ipfl": "0.0.1"}))
    changed = text() if what == "version" else text("rounds=1")
    assert attempt(changed, folder, ignore) == ("done", "run again")
    assert len(load_run(folder).rounds) == Config.from_toml(changed).rounds


def test_a_run_that_was_cut_off_before_it_began_is_begun(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "environment.json").write_text("{}")
    assert attempt(text(), tmp_path / "run", ignore) == ("done", "run")


def test_what_goes_wrong_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    kind, reason = attempt(text(), tmp_path / "mine", ignore)
    assert (kind, "'thesis.txt'" in reason) == ("failed", True)
    kind, reason = attempt('rounds = "x"', tmp_path / "run", ignore)
    assert (kind, "rounds" in reason) == ("failed", True)

    def full(rounds):
        raise OSError(28, "No space left on device", "/data")

    assert attempt(text(), tmp_path / "full", full) == ("failed", "No space left on device (/data)")

    def odd(rounds):
        raise ValueError("two\nlines")

    assert attempt(text(), tmp_path / "odd", odd) == ("failed", "ValueError: two lines")

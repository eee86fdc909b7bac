"""Weights & Biases: what it is called with, by a recording of its calls."""

import sys
from types import SimpleNamespace

import pytest

from ipfl.run_folder import load_run
from ipfl.trackers import tracking


@pytest.fixture
def calls(monkeypatch):
    """What was called on a stand-in for the package."""
    made = []

    class Run:
        def __init__(self, id_):
            self.id, self.summary = id_, {}

        def log(self, values, step):
            made.append(("log", step, values))

        def save(self, page, base_path, policy):
            made.append(("save", page, base_path, policy))

        def finish(self, exit_code=0):
            made.append(("finish", exit_code, self.summary))

    def init(**arguments):
        made.append(("init", arguments))
        return Run(arguments["id"] or "new-id")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # so that what the tracker sets is taken back
        monkeypatch.delenv(name)
    return made


def test_it_is_offline_unless_told_otherwise(played, calls, monkeypatch):
    for mode in (None, "online"):
        if mode:
            monkeypatch.setenv("WANDB_MODE", mode)
        with tracking(["wandb=study"]) as watch:
            watch(played[0][0])
    first, second = (call[1] for call in calls if call[0] == "init")
    assert (first["mode"], second["mode"]) == ("offline", "online")
    assert first["project"] == "study"
    assert first["config"]["training.steps"] == 3
    assert second["id"] == "new-id"


def test_rounds_are_steps_and_a_resumed_run_keeps_its_id(interrupted, calls, capsys):
    folder = interrupted(tracking(["wandb"]), tracking(["wandb"]))
    assert capsys.readouterr().err == ""
    stored = load_run(folder)
    assert [call[1] for call in calls if call[0] == "log"] == [0, 1, 2]
    assert [call[2]["market/welfare"] for call in calls if call[0] == "log"] == [
        line["welfare"] for line in stored.rounds
    ]
    assert [call[1]["id"] for call in calls if call[0] == "init"] == [None, "new-id"]
    assert [call[1] for call in calls if call[0] == "finish"] == [1, 0]
    assert calls[-1][2]["total_utility"] == stored.summary["total_utility"]
    assert ("save", str(folder / "report.html"), str(folder), "now") in calls
    assert calls[0][1]["dir"] == str(folder / "tracking")

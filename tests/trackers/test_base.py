"""What trackers are told, and that they can neither change nor stop a run."""

import sys
from contextlib import nullcontext

import pytest

import tiny
from ipfl.errors import ConfigError
from ipfl.experiment import run
from ipfl.experiment.events import RoundDone
from ipfl.run_folder import load_run
from ipfl.trackers import Tracker, metrics, parameters, tracking
from ipfl.trackers.base import Tracking, totals


class Recorder(Tracker):
    """Keeps what it is told; raises in the call named by `where`."""

    name = "recorder"
    package = "nothing"

    def __init__(self, where=None, holds_earlier=False):
        super().__init__(where)
        self.calls, self.rounds, self.holds_earlier = [], [], holds_earlier

    def _called(self, name):
        self.calls.append(name)
        if self.where == name:
            raise ValueError(f"{name} is broken\nand more")

    def start(self, event, settings):
        self._called("start")
        self.settings = settings
        return self.holds_earlier

    def log(self, values, round_index):
        self._called("log")
        self.rounds.append((round_index, dict(values)))

    def finish(self, folder, totals):
        self._called("finish")
        self.totals = totals

    def close(self):
        self._called("close")


def tell(events, *trackers):
    lines = []
    watch = Tracking(trackers, lines.append)
    for event in events:
        watch(event)
    watch.close()
    return lines


def test_a_tracker_is_told_every_round_the_settings_and_the_summary(played):
    events, folder = played
    tracker = Recorder()
    assert tell(events, tracker) == []
    stored = load_run(folder)
    assert tracker.calls == ["start", "log", "log", "log", "finish", "close"]
    assert tracker.settings["participants.count"] == len(tiny.KINDS)
    assert tracker.settings["training.steps"] == 3
    for (index, values), line in zip(tracker.rounds, stored.rounds, strict=True):
        assert index == line["round_index"]
        assert values["accuracy/mean"] == line["mean_accuracy"]
        assert values["market/welfare"] == line["welfare"]
        assert values["market/trades"] == sum(edge["round_index"] == index for edge in stored.edges)
        assert values["market/paid"] == pytest.approx(sum(entry["paid"] for entry in line["participants"]))
        assert values["seconds/total"] == line["seconds"]["total"]
        for entry in line["participants"]:
            assert values[f"participants/{entry['id']}/utility"] == entry["utility"]
            assert values[f"participants/{entry['id']}/accuracy"] == entry["accuracy"]
    assert tracker.totals["summary/total_utility"] == stored.summary["total_utility"]
    assert "summary/seed" not in tracker.totals


def test_what_was_not_measured_is_not_logged(played):
    line = played[0][1].line | {"mean_accuracy": None}
    line["participants"] = [entry | {"accuracy": None} for entry in line["participants"]]
    assert not any(name.endswith("accuracy") or name == "accuracy/mean" for name in metrics(line, 0))


@pytest.mark.parametrize("call", ["start", "log", "finish", "close"])
def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(played, call):
    broken, sound = Recorder(call), Recorder()
    lines = tell(played[0], broken, sound)
    assert lines == [f"warning: tracking by recorder stopped, the run goes on: {call} is broken"]
    assert broken.calls.count(call) == (2 if call == "close" else 1)
    assert broken.calls[-1] == "close"
    assert sound.calls == ["start", "log", "log", "log", "finish", "close"]


def test_tracking_changes_nothing_in_a_run(played, tmp_path, capsys):
    watch = Tracking([Recorder("log"), Recorder()])
    run(tiny.config(), task=tiny.task(), out=tmp_path / "run", watch=watch)
    assert tiny.contents(tmp_path / "run") == tiny.contents(played[1])
    assert capsys.readouterr().err.count("stopped, the run goes on") == 1


def test_a_tracker_new_to_a_resumed_run_is_told_the_earlier_rounds(interrupted, monkeypatch):
    told, held = Recorder(), Recorder(holds_earlier=True)
    folder = interrupted(nullcontext(lambda event: None), nullcontext(Tracking([told, held])))
    assert [index for index, _ in told.rounds] == [0, 1, 2]
    assert [index for index, _ in held.rounds] == [2]
    run_ = load_run(folder)
    trades = [sum(edge["round_index"] == index for edge in run_.edges) for index in range(3)]
    assert [values["market/trades"] for _, values in told.rounds] == trades


def test_parameters_are_flat_and_list_no_participants():
    found = parameters(tiny.config())
    assert found["market.rule"] == "paper"
    assert found["partition.train_examples"] == "[25, 50]"
    assert not [name for name in found if "rows" in name]


def test_totals_are_numbers():
    assert totals({"individually_rational": True, "method": "ipfl", "participants": [], "mean": None}) == {
        "summary/individually_rational": 1.0
    }


def test_unknown_and_doubled_trackers_are_refused():
    with pytest.raises(ConfigError, match="unknown tracker 'neptune'; known: tensorboard, mlflow, wandb"):
        tracking(["neptune"]).__enter__()
    with pytest.raises(ConfigError, match="'mlflow' is asked for twice"):
        tracking(["mlflow", "mlflow=elsewhere"]).__enter__()


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_missing_package_is_refused_with_the_extra_that_brings_it(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    with pytest.raises(
        ConfigError, match=rf"needs {module}.*, which is not installed: pip install 'ipfl\[{name}\]'"
    ):
        tracking([name]).__enter__()


def test_the_tracked_run_is_closed_when_it_is_interrupted(played):
    tracker = Recorder()
    watch = Tracking([tracker])
    watch(played[0][0])
    watch(next(event for event in played[0] if isinstance(event, RoundDone)))
    watch.close()
    watch(played[0][-1])  # nobody listens any more
    assert tracker.calls == ["start", "log", "close"]

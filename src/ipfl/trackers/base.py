"""What every tracker is told, in which words; and that its faults stay its own."""

import json
import math
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ipfl.config import Config
from ipfl.experiment.events import Event, RoundDone, RunFinished, RunStarted
from ipfl.run_folder import load_run, read_json

FOLDER = "tracking"
"""Where trackers keep their files, inside the run folder."""


class Tracker(ABC):
    """One tracker. `where` is what the user gave after its name, if anything."""

    name: ClassVar[str]
    package: ClassVar[str]
    """What must be installed."""

    def __init__(self, where: str | None = None):
        self.where = where

    @abstractmethod
    def start(self, event: RunStarted, settings: Mapping[str, Any]) -> bool:
        """Open or go on; return whether it holds the rounds before `event.first_round` already."""

    @abstractmethod
    def log(self, values: Mapping[str, float], round_index: int) -> None:
        """Take in the figures of one round."""

    @abstractmethod
    def finish(self, folder: Path, totals: Mapping[str, float]) -> None:
        """Take in the summary, and the page where the tracker keeps files."""

    @abstractmethod
    def close(self) -> None:
        """Let go; called in any case, also after an interruption and when nothing was started."""


class Tracking:
    """The watcher that tells trackers what happens. One that raises is closed, named in one line, and dropped."""

    def __init__(self, trackers: Sequence[Tracker], warn: Callable[[str], None] | None = None):
        self._trackers = list(trackers)
        self._warn = warn or _to_stderr

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, RunStarted):
            settings = parameters(event.config)
            self._each(lambda tracker: _start(tracker, event, settings))
        elif isinstance(event, RoundDone):
            values = metrics(event.line, len(event.edges))
            self._each(lambda tracker: tracker.log(values, event.line["round_index"]))
        elif isinstance(event, RunFinished) and self._trackers:
            found = totals(read_json(event.folder / "summary.json"))
            self._each(lambda tracker: tracker.finish(event.folder, found))

    def close(self) -> None:
        """Close all."""
        self._each(lambda tracker: tracker.close())
        self._trackers = []

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a tracker's own: nothing that a user of ipfl can mend
                    act(tracker)
            except Exception as error:
                self._drop(tracker, error)

    def _drop(self, tracker: Tracker, error: Exception) -> None:
        self._trackers.remove(tracker)
        reason = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
        self._warn(f"warning: tracking by {tracker.name} stopped, the run goes on: {reason}")
        try:
            tracker.close()
        except Exception:
            return  # it has been named already


def metrics(line: Mapping[str, Any], num_trades: int) -> dict[str, float]:
    """The figures of one round, by name; what was not measured is left out.

    >>> line = {"mean_accuracy": 0.5, "mean_accuracy_alone": None, "welfare": 2.0, "subsidy": 0.0,
    ...         "seconds": {"total": 0.1}, "participants": [{"id": "a", "accuracy": 0.5, "utility": 2.0, "paid": 0}]}
    >>> metrics(line, 0)["market/welfare"], sorted(metrics(line, 0))[:2]
    (2.0, ['accuracy/mean', 'market/paid'])
    """
    entries = line["participants"]
    found: dict[str, float | None] = {
        "accuracy/mean": line["mean_accuracy"],
        "accuracy/mean_alone": line["mean_accuracy_alone"],
        "market/welfare": line["welfare"],
        "market/subsidy": line["subsidy"],
        "market/trades": num_trades,
        "market/paid": math.fsum(entry["paid"] for entry in entries),
    }
    found |= {f"seconds/{key}": value for key, value in line["seconds"].items()}
    for entry in entries:
        for key in ("accuracy", "utility"):
            found[f"participants/{entry['id']}/{key}"] = entry[key]
    return {name: float(value) for name, value in found.items() if value is not None}


def totals(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers at the top of a summary, those of its protocols included.

    >>> totals({"method": "ipfl", "mean_utility": 3, "protocols": {"paper": {"mean_accuracy": 0.5}}, "seed": 1})
    {'summary/mean_utility': 3.0, 'summary/protocols.paper.mean_accuracy': 0.5}
    """
    leaves = _flat({key: value for key, value in summary.items() if key not in ("participants", "seed")})
    return {
        f"summary/{name}": float(value) for name, value in leaves.items() if isinstance(value, int | float)
    }


def parameters(config: Config) -> dict[str, Any]:
    """The configuration as flat names and values; participants are counted, not listed.

    >>> parameters(Config(rounds=3))["market.lam"]
    2.0
    """
    tables = config.model_dump(mode="json", exclude_none=True)
    rows = tables["participants"].pop("rows")
    if rows:
        tables["participants"] = {"count": len(rows)}
    return _flat(tables)


def own_folder(folder: Path) -> Path:
    """The trackers' place in a run folder, made if need be; absolute."""
    place = folder.absolute() / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    return place


def page_of(folder: Path) -> Path:
    """The run's page, as a file to hand on."""
    from ipfl.report import write_page

    return write_page(folder)


def _start(tracker: Tracker, event: RunStarted, settings: Mapping[str, Any]) -> None:
    """Start a tracker; one that is new to a resumed run is told the earlier rounds first."""
    if tracker.start(event, settings) or not event.first_round:
        return
    run = load_run(event.folder)
    for line in run.rounds[: event.first_round]:
        index = line["round_index"]
        tracker.log(metrics(line, sum(edge["round_index"] == index for edge in run.edges)), index)


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return found


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

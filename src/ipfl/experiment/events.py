"""What a running experiment tells whoever watches it; watching never changes a result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfl.config import Config
from ipfl.types import Participant


@dataclass(frozen=True)
class Preparing:
    """Something that takes a while before the run can start; `text` says what."""

    text: str


@dataclass(frozen=True)
class RunStarted:
    """Everything is set up; `first_round` > 0 when the run is resumed."""

    config: Config
    participants: Sequence[Participant]
    folder: Path
    first_round: int
    num_params: int


@dataclass(frozen=True)
class JobsDone:
    """`done` of `total` jobs of the current round are done."""

    round_index: int
    done: int
    total: int


@dataclass(frozen=True)
class RoundDone:
    """A round is over and safely on disk: its line of rounds.jsonl and its rows of edges.csv."""

    line: dict[str, Any]
    edges: list[dict[str, Any]]


@dataclass(frozen=True)
class RunFinished:
    """The last round is done and the summary written."""

    folder: Path


Event = Preparing | RunStarted | JobsDone | RoundDone | RunFinished
Watcher = Callable[[Event], None]

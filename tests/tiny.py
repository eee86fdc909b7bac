"""Made-up participants: few enough to be quick, different enough to trade. Shared by the tests."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.config import Config, MarketConfig
from ipfl.data import ParticipantData, Split, Task
from ipfl.ledger import Ledger
from ipfl.methods import Federation
from ipfl.types import (
    EvaluateReply,
    Job,
    Misreport,
    MissingReply,
    Participant,
    ParticipantKind,
    Reply,
    TrainJob,
    TrainReply,
)

FEATURES = 3
KINDS = ("trader", "trader", "buyer", "seller", "attacker")
ENGINE_TOGETHER = {"workers": 2}


def rows(kinds: Sequence[str] = KINDS, valuation: float = 400.0) -> list[dict[str, Any]]:
    """Participants a, b, c, ... as tables of a configuration."""
    costs = {"buyer": 1e9, "attacker": 0.0}
    return [
        {
            "id": "abcdefgh"[index],
            "kind": kind,
            "valuation": 0.0 if kind in ("seller", "attacker") else valuation,
            "export_cost": costs.get(kind, 0.1 + 0.01 * index),
            "conduct": "sign_flip" if kind == "attacker" else "honest",
        }
        for index, kind in enumerate(kinds)
    ]


def config(kinds: Sequence[str] = KINDS, **changes: Any) -> Config:
    """Three rounds of three steps; change what you like by keyword.

    Participants are trained one after another: stepping them together begins with tracing a step, which takes longer
    than these runs do. ENGINE_TOGETHER asks for that.
    """
    tables: dict[str, Any] = {
        "rounds": 3,
        "task": "tiny",
        "participants": rows(kinds),
        "training": {"steps": 3, "batch_size": 8, "lr": 0.05},
        "market": {"lam": 0.5, "eta": 2.0, "rule": "paper"},
        "engine": {"workers": 2, "block": 1},
    }
    return Config.from_mapping(tables | changes)


def examples(index: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of participant `index`: the class is the side of a line, which turns a little from one to the next."""
    random = np.random.default_rng([seed, index])
    x = random.normal(size=(count, FEATURES))
    y = np.arange(count) % 2
    x[:, 0] += np.where(y == 1, 1.5, -1.5)
    x[:, 1] += np.where(y == 1, 0.3, -0.3) * index
    return x.astype(np.float32), y.astype(np.int64)


def task(m: int = len(KINDS), seed: int = 0) -> Task:
    """m participants with 10, 12, 14, ... training and 20 test examples."""
    participants = []
    for index in range(m):
        x, y = examples(index, 30 + 2 * index, seed)
        participants.append(ParticipantData("abcdefgh"[index], Split(x[20:], y[20:]), Split(x[:20], y[:20])))
    return Task("tiny", tuple(participants), (FEATURES,), ("no", "yes"))


def write_tables(folder: Path, m: int = 4, count: int = 20, seed: int = 0) -> Path:
    """The same participants as a folder of CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(m):
        x, y = examples(index, count, seed)
        with (folder / f"{'abcdefgh'[index]}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["age", "dose", "pulse", "label"])
            writer.writerows(
                [*point, "yes" if label else "no"] for point, label in zip(x.tolist(), y, strict=True)
            )
    return folder


def without_times(line: str) -> dict[str, Any]:
    """A line of rounds.jsonl, or summary.json, without its seconds."""
    record: dict[str, Any] = json.loads(line)
    del record["seconds"]
    return record


def contents(folder: Path) -> dict[str, object]:
    """Everything in a run folder, times aside: what two equal runs have in common."""
    found: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if name == "rounds.jsonl":
            found[name] = [json.dumps(without_times(line)) for line in path.read_text().splitlines()]
        elif name == "summary.json":
            found[name] = json.dumps(without_times(path.read_text()))
        elif name == "ledger.db":
            with Ledger.open(path) as ledger:
                found[name] = list(ledger.entries())
        elif name != "report.html" and not name.startswith("ledger.db-"):
            found[name] = path.read_bytes()
    return found


# ---------------------------------------------------------------- a world without torch


class QuadraticEngine:
    """Participant i's loss is 1/2 ||theta - target_i||^2, and training finds its minimum, pull included.

    theta = (target + pull * centre) / (1 + pull); buffers count the rounds trained. `faults` maps
    (participant, round) to a function from the sound reply to the one that is sent (None: none at all).
    """

    keeps_alone = False

    def __init__(
        self, targets: np.ndarray, num_examples: Sequence[int], faults: dict[Any, Any] | None = None
    ):
        self.targets = np.asarray(targets, dtype=np.float32)
        self.num_examples = np.asarray(num_examples, dtype=np.int64)
        self.faults = faults or {}
        self.jobs: list[list[Job]] = []

    def initial(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.targets.shape[1], np.float32), np.zeros(1, np.float32)

    def run(self, jobs: Sequence[Job], progress: object = None) -> list[Reply]:
        self.jobs.append(list(jobs))
        replies: list[Reply] = []
        for job in jobs:
            reply = self._train(job) if isinstance(job, TrainJob) else self._evaluate(job)
            fault = self.faults.get((job.participant, getattr(job, "round_index", "evaluate")), lambda r: r)
            faulty = fault(reply)
            if faulty is not None:
                replies.append(faulty)
        return replies

    def _train(self, job: TrainJob) -> TrainReply:
        target, pull = self.targets[job.participant], np.float32(job.pull)
        params = target.copy() if job.centre is None else (target + pull * job.centre) / (1 + pull)
        return TrainReply(job.participant, params, job.buffers + 1, 1.0 + job.participant)

    def _evaluate(self, job: Any) -> EvaluateReply:
        errors = np.linalg.norm(job.params - self.targets[job.participant], axis=1).astype(np.float64)
        errors = np.repeat(errors[:, None], len(job.splits), axis=1)
        return EvaluateReply(job.participant, errors, 1 / (1 + errors))


class StepEngine(QuadraticEngine):
    """Training is one gradient step of size 1/2 from the model it is sent; buffers become the participant's number.

    theta' = theta - 1/2 [(theta - target) + pull (theta - centre) - align grad cos(theta, direction)].
    """

    def _train(self, job: TrainJob) -> TrainReply:
        theta = job.params.astype(np.float64)
        gradient = theta - self.targets[job.participant]
        if job.centre is not None:
            gradient += job.pull * (theta - job.centre)
        if job.direction is not None and job.align > 0:
            norm, other = np.linalg.norm(theta), np.linalg.norm(job.direction)
            cosine = theta @ job.direction / (norm * other)
            gradient -= job.align * (job.direction / (norm * other) - cosine * theta / norm**2)
        params = theta if job.steps == 0 else theta - gradient / 2
        buffers = np.full_like(job.buffers, job.participant)
        return TrainReply(job.participant, params.astype(np.float32), buffers, 1.0 + job.participant)


def federation(
    num_examples: Sequence[int],
    valuation: Sequence[float],
    export_cost: Sequence[float],
    conduct: Sequence[str] | None = None,
    p: int = 2,
    misreports: Sequence[Misreport] | None = None,
    **market: Any,
) -> Federation:
    """Participants a, b, c, ... from columns of numbers; theta_0 = 0, one buffer. Nobody tries models before buying."""
    m = len(num_examples)
    participants = tuple(
        Participant(
            participant_id="abcdefgh"[i],
            kind=ParticipantKind.TRADER,
            num_examples=int(num_examples[i]),
            valuation=float(valuation[i]),
            export_cost=float(export_cost[i]),
            conduct=conduct[i] if conduct else "honest",
            misreport=misreports[i] if misreports else Misreport(),
        )
        for i in range(m)
    )
    rules = MarketConfig(**({"eligibility": "off"} | market))
    return Federation(participants, np.zeros(p, np.float32), np.zeros(1, np.float32), rules, seed=0)


def missing(reply: Reply) -> Reply:
    return MissingReply(reply.participant, "timed out")


def with_nan(reply: Reply) -> Reply:
    assert isinstance(reply, TrainReply)
    params = reply.params.copy()
    params[-1] = np.nan
    return replace(reply, params=params)

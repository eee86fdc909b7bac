"""What a run came to: totals per participant and a verdict in plain words.

Everything here is a pure function of the run folder, finished or not, so the terminal, the page and
`--json` tell the same story. Money is added with `math.fsum`, which does not round on the way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ipfl.run_folder import Run
from ipfl.types import OPERATOR

TOLERANCE = 1e-9
"""Differences below this share of the run's largest amount count as zero."""

SUMMED = ("gain", "cost", "friction", "paid", "received", "utility", "surplus", "imports", "exports")
"""Per-round quantities that a total over rounds makes sense of."""


@dataclass(frozen=True)
class BelowZero:
    """A participant whose utility was negative in a round."""

    participant: str
    round_index: int
    utility: float


@dataclass(frozen=True)
class Sales:
    """What one attacker sold over the run."""

    participant: str
    num_sold: int
    received: float
    rounds: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """The facts that decide whether a run went well.

    `buyers` are the honest participants that buy (traders and buyers). `better`, `equal` and `worse`
    split those of them whose accuracy is known by their accuracy against training alone. `protocols` are the
    summary's, in a finished run. `answers`: it is a run of language models, whose accuracy is exact match; `losses`
    are the honest buyers' last losses, with the market and alone.
    """

    finished: bool
    rounds_done: int
    rounds_planned: int
    buyers: tuple[str, ...]
    better: tuple[str, ...]
    equal: tuple[str, ...]
    worse: tuple[str, ...]
    mean_accuracy: float | None
    mean_accuracy_alone: float | None
    below_zero: tuple[BelowZero, ...]
    attackers_below_zero: tuple[BelowZero, ...]
    money_in: float
    money_out: float
    subsidy: float
    imbalance: float
    unexplained: float
    attackers: tuple[Sales, ...]
    num_trades: int
    protocols: dict[str, dict[str, float | None]] | None = None
    answers: bool = False
    losses: tuple[tuple[float, float], ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether money in equals money out, and the bills of every round are those of the ledger."""
        scale = max(1.0, self.money_in)
        return self.imbalance == 0 and abs(self.unexplained) <= TOLERANCE * scale


def participant_table(run: Run) -> list[dict[str, Any]]:
    """One record per participant: the summary's when the run is finished, else the same from its rounds.

    Money and counts are totals over all rounds; accuracy is the last one known.
    """
    finished = {row["id"]: row for row in run.summary["participants"]} if run.summary else {}
    entries: dict[str, list[dict[str, Any]]] = {row.id: [] for row in run.config.participants.rows}
    for line in run.rounds:
        for entry in line["participants"]:
            entries[entry["id"]].append(entry)
    table = []
    for row in run.config.participants.rows:
        mine = entries[row.id]
        record: dict[str, Any] = {
            "id": row.id,
            "kind": row.kind,
            "conduct": row.conduct,
            "num_examples": mine[-1]["bid"]["num_examples"] if mine else None,
            "valuation": row.valuation,
            "export_cost": row.export_cost,
            "accuracy": _last_known(mine, "accuracy"),
            "accuracy_alone": _last_known(mine, "accuracy_alone"),
            "loss": _last_known(mine, "loss"),
            "loss_alone": _last_known(mine, "loss_alone"),
        }
        for key in SUMMED:
            record[key] = total([entry[key] for entry in mine if entry.get(key) is not None])
        record["imports"], record["exports"] = int(record["imports"]), int(record["exports"])
        record["present"] = bool(mine and mine[-1]["present"])
        table.append(record | finished.get(row.id, {}))
    return table


def verdict(run: Run) -> Verdict:
    """Judge a run by its own records.

    `money_in` is what the ledger took from payers, `money_out` what the rounds say was received.
    """
    run = settled(run)
    table = participant_table(run)
    honest = {row["id"] for row in table if _is_honest(row)}
    buying = [row for row in table if row["id"] in honest and row["kind"] in ("trader", "buyer")]
    known = [row for row in buying if row["accuracy"] is not None and row["accuracy_alone"] is not None]
    differences = {row["id"]: row["accuracy"] - row["accuracy_alone"] for row in known}
    negative = _below_zero(run)
    subsidies = [row for row in run.ledger if row["payer"] == OPERATOR]
    return Verdict(
        finished=run.finished,
        rounds_done=len(run.rounds),
        rounds_planned=run.config.rounds,
        buyers=tuple(row["id"] for row in buying),
        better=tuple(key for key, value in differences.items() if value > 1e-12),
        equal=tuple(key for key, value in differences.items() if abs(value) <= 1e-12),
        worse=tuple(key for key, value in differences.items() if value < -1e-12),
        mean_accuracy=_mean([row["accuracy"] for row in known]),
        mean_accuracy_alone=_mean([row["accuracy_alone"] for row in known]),
        below_zero=tuple(item for item in negative if item.participant in honest),
        attackers_below_zero=tuple(item for item in negative if item.participant not in honest),
        money_in=total([row["amount"] for row in run.ledger]),
        money_out=total([entry["received"] for line in run.rounds for entry in line["participants"]]),
        subsidy=total([row["amount"] for row in subsidies]),
        imbalance=run.imbalance(),
        unexplained=_unexplained(run),
        attackers=tuple(_sales(run, row["id"]) for row in table if row["kind"] == "attacker"),
        num_trades=len(run.edges),
        protocols=run.summary.get("protocols") if run.summary else None,
        answers=run.config.language is not None,
        losses=tuple(
            (row["loss"], row["loss_alone"])
            for row in buying
            if row["loss"] is not None and row["loss_alone"] is not None
        ),
    )


def settled(run: Run) -> Run:
    """The run without edges and postings of rounds that rounds.jsonl lacks (a crash between files)."""
    recorded = {line["round_index"] for line in run.rounds}
    if all(row["round_index"] in recorded for row in (*run.edges, *run.ledger)):
        return run
    return replace(
        run,
        edges=[row for row in run.edges if row["round_index"] in recorded],
        ledger=[row for row in run.ledger if row["round_index"] in recorded],
    )


def total(amounts: Sequence[float | int]) -> float:
    """The correctly rounded sum."""
    return math.fsum(amounts)


def num_decimals(amounts: Sequence[float | int]) -> int:
    """Decimals that keep a column of amounts to about five digits."""
    largest = max((abs(amount) for amount in amounts), default=0.0)
    return 3 if largest < 10 else 2 if largest < 1000 else 1 if largest < 10_000 else 0


def _is_honest(row: dict[str, Any]) -> bool:
    return bool(row["kind"] != "attacker" and row["conduct"] == "honest")


def _last_known(entries: list[dict[str, Any]], key: str) -> float | None:
    for entry in reversed(entries):
        value: float | None = entry.get(key)
        if value is not None:
            return value
    return None


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _below_zero(run: Run) -> list[BelowZero]:
    amounts = [abs(entry["utility"]) for line in run.rounds for entry in line["participants"]]
    bound = -TOLERANCE * max(1.0, max(amounts, default=0.0))
    return [
        BelowZero(entry["id"], line["round_index"], entry["utility"])
        for line in run.rounds
        for entry in line["participants"]
        if entry["utility"] < bound
    ]


def _unexplained(run: Run) -> float:
    """The largest difference between what a participant's rounds and its ledger account say."""
    rounds = {entry["id"] for line in run.rounds for entry in line["participants"]}
    postings: dict[str, list[float]] = {name: [] for name in rounds}
    for line in run.rounds:
        for entry in line["participants"]:
            postings[entry["id"]] += [entry["paid"], -entry["received"]]
    for row in run.ledger:
        postings.setdefault(row["payer"], []).append(-row["amount"])
        postings.setdefault(row["payee"], []).append(row["amount"])
    return max((abs(math.fsum(postings[name])) for name in rounds), default=0.0)


def _sales(run: Run, participant: str) -> Sales:
    sold = [edge for edge in run.edges if edge["seller"] == participant]
    return Sales(
        participant,
        len(sold),
        total([edge["payment"] for edge in sold]),
        tuple(sorted({edge["round_index"] for edge in sold})),
    )

"""What the page's template shows without any script: heading, verdict, bill, how the run was made."""

from collections.abc import Sequence
from typing import Any

from ipfl.methods.registry import WITH_A_MARKET
from ipfl.report.sentences import points
from ipfl.report.summary import Verdict, num_decimals, total
from ipfl.run_folder import Run

MONEY = ("gain", "cost", "paid", "received", "utility")
COUNTS = ("imports", "exports")
COLUMNS = (
    ("id", "participant", True),
    ("kind", "kind", True),
    ("num_examples", "examples", False),
    ("accuracy", "accuracy", False),
    ("accuracy_alone", "alone", False),
    *((key, key, False) for key in MONEY),
    ("imports", "bought", False),
    ("exports", "sold", False),
)
LOSSES = (("loss", "loss", False), ("loss_alone", "loss alone", False))
"""After the accuracies, in runs of language models."""

_RULES = {"paper": "marginal", "lean": "critical", "truthful": "vcg", "subsidised": "vcg-subsidised"}
_PRICING = {
    "marginal": (
        "Under marginal payments the price is all that the model adds on top of the others bought; "
        "the buyer gains because several models together are worth more than those prices."
    ),
    "critical": "Under critical payments it is the highest cost at which the seller would still have sold.",
    "vcg": "Under VCG payments it is the seller's cost and all that the buyer would lose without this seller.",
    "vcg-subsidised": "The buyer pays the seller's cost, and the operator the rest of the VCG payment.",
}


def view(run: Run, facts: Verdict, table: list[dict[str, Any]]) -> dict[str, Any]:
    """The template's variables."""
    decimals = num_decimals([row[key] for row in table for key in MONEY])
    losses = LOSSES if facts.answers else ()
    rows = [
        {"id": row["id"], "kind": row["kind"], "cells": _cells(row, decimals, len(losses))} for row in table
    ]
    examples = sum(row["num_examples"] or 0 for row in table)
    sums = [fixed(total([row[key] for row in table]), decimals) for key in MONEY]
    counts = [f"{sum(row[key] for row in table):,}" for key in COUNTS]
    return {
        "title": run.path.resolve().name,
        "facts": _facts(run, len(table)),
        "points": points(facts),
        "pricing": _pricing(run),
        "rounds_done": facts.rounds_done,
        "columns": (*_named(COLUMNS[:5], facts), *losses, *COLUMNS[5:]),
        "measure": "Exact match" if facts.answers else "Accuracy",
        "rows": rows,
        "totals": [f"{examples:,}", "", "", *([""] * len(losses)), *sums, *counts],
        "refusals": refusals(run),
        "ineligible": ineligible(run),
        "environment": [(key, value) for key, value in run.environment.items() if value is not None],
        "config": run.config.to_toml(),
    }


def refusals(run: Run, limit: int = 200) -> list[tuple[int, str, str]]:
    """The latest absences and refusals: round, participant, reason."""
    found = [
        (line["round_index"], entry["id"], entry["refusal"] or "absent")
        for line in run.rounds
        for entry in line["participants"]
        if entry["refusal"] or not entry["present"]
    ]
    return found[-limit:]


def ineligible(run: Run, limit: int = 200) -> list[tuple[int, str, str, str]]:
    """The latest sellers that were not on offer: round, buyer, seller, reason."""
    found = [
        (line["round_index"], pair["buyer"], pair["seller"], pair["reason"])
        for line in run.rounds
        for pair in line.get("ineligible", ())
    ]
    return found[-limit:]


def fixed(value: float | None, decimals: int) -> str:
    """A number as the page writes it.

    >>> fixed(-1234.5, 2), fixed(-0.0001, 2), fixed(None, 2)
    ('−1,234.50', '0.00', '–')
    """
    if value is None:
        return "–"
    text = f"{abs(value):,.{decimals}f}"
    return f"−{text}" if value < 0 and any(digit in "123456789" for digit in text) else text


def _named(columns: Sequence[tuple[str, str, bool]], facts: Verdict) -> list[tuple[str, str, bool]]:
    """Accuracy by its name: of language models it is exact match."""
    renamed = {"accuracy": "exact match"} if facts.answers else {}
    return [(key, renamed.get(key, label), text) for key, label, text in columns]


def _cells(row: dict[str, Any], decimals: int, num_losses: int) -> list[tuple[str, float | None]]:
    """Text and value of every column after id and kind."""
    shares = [
        ("–" if row[key] is None else f"{row[key]:.1%}", row[key]) for key in ("accuracy", "accuracy_alone")
    ]
    return [
        (fixed(row["num_examples"], 0), row["num_examples"]),
        *shares,
        *((fixed(row[key], 3), row[key]) for key, *_ in LOSSES[:num_losses]),
        *((fixed(row[key], decimals), row[key]) for key in MONEY),
        *((f"{row[key]:,}", row[key]) for key in COUNTS),
    ]


def _pricing(run: Run) -> str:
    if run.config.method not in WITH_A_MARKET:
        return f"Method {run.config.method} has no market: it uses whose model it wants, and nobody pays."
    market = run.config.market
    return _PRICING.get(market.payment or _RULES.get(market.rule or "", ""), "")


def _facts(run: Run, count: int) -> list[str]:
    market = run.config.market
    rules = market.rule or f"{market.allocation} allocation, {market.payment} payment"
    if run.config.method not in WITH_A_MARKET:
        rules = "no market, nobody pays"
    facts = [
        run.config.task,
        f"{count} participant{'' if count == 1 else 's'}",
        f"method {run.config.method}",
        f"{rules}, lam {market.lam:g}",
        f"seed {run.config.seed}",
    ]
    model = run.environment.get("model")
    if model and run.environment.get("num_params"):
        facts.insert(2, f"{model}, {run.environment['num_params']:,} parameters")
    return facts

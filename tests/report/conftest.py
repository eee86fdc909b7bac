"""Run folders made from real clearings of made-up participants: small, consistent, quick."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipfl.config import PROHIBITIVE_COST, Config
from ipfl.market import Bids, billed, clear, whole_units
from ipfl.run_folder import (
    EDGE_COLUMNS,
    LEDGER_COLUMNS,
    append_lines,
    csv_lines,
    write_distances,
    write_json,
    write_text,
)
from ipfl.types import OPERATOR

KINDS = ("trader",) * 8 + ("buyer",) * 2 + ("seller", "attacker")
BuildRun = Callable[..., Path]


def build_run(
    folder: Path,
    kinds: tuple[str, ...] = KINDS,
    rounds: int = 6,
    *,
    planned: int | None = None,
    seed: int = 0,
    allocation: str = "greedy",
    payment: str = "marginal",
    absent: tuple[int, int] | None = None,
    prefix: str = "clinic-",
) -> Path:
    """Write a run folder of `rounds` rounds; unfinished when more were `planned`.

    `absent` = (participant, round) is missing in that round.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    count = len(kinds)
    num_examples = generator.integers(25, 51, count)
    valuation = np.array(
        [0.0 if kind in ("seller", "attacker") else generator.uniform(60, 240) for kind in kinds]
    )
    costs = {"buyer": PROHIBITIVE_COST, "attacker": 0.0}
    export_cost = np.array(
        [costs.get(kind, round(float(generator.uniform(0.01, 0.09)), 4)) for kind in kinds]
    )
    ids = [f"{prefix}{index:02d}" for index in range(count)]
    config = Config.from_mapping(
        {
            "rounds": planned or rounds,
            "seed": seed,
            "participants": [
                {
                    "id": name,
                    "kind": kind,
                    "valuation": float(valuation[index]),
                    "export_cost": float(export_cost[index]),
                    "conduct": "sign_flip" if kind == "attacker" else "honest",
                }
                for index, (name, kind) in enumerate(zip(ids, kinds, strict=True))
            ],
            "market": {"lam": 0.3, "eta": 5.0, "allocation": allocation, "payment": payment},
        }
    )
    write_text(folder / "config.toml", config.to_toml())
    write_json(
        folder / "environment.json",
        {"ipfl": "0.1.0", "python": "3.12.0", "numpy": "2.3.0", "torch": "2.13.0", "platform": "Linux x86_64"}
        | {"seed": seed, "task": "digits", "task_fingerprint": "0f1e2d", "model": "cnn", "num_params": 5994},
    )
    write_text(folder / "edges.csv", ",".join(EDGE_COLUMNS) + "\n")
    write_text(folder / "ledger.csv", ",".join(LEDGER_COLUMNS) + "\n")
    bids = Bids(num_examples=num_examples, valuation=valuation, export_cost=export_cost)
    alone_end = generator.uniform(0.68, 0.84, count)
    lines: list[dict[str, Any]] = []
    for round_index in range(rounds):
        present = np.ones(count, dtype=bool)
        if absent is not None and absent[1] == round_index:
            present[absent[0]] = False
        lines.append(
            _round(
                folder,
                round_index,
                kinds,
                ids,
                bids,
                config,
                alone_end,
                present,
                np.random.default_rng(seed + 7),
            )
        )
    write_text(folder / "rounds.jsonl", "")
    append_lines(folder / "rounds.jsonl", [json.dumps(line) for line in lines])
    if planned is None or planned == rounds:
        write_json(folder / "summary.json", _summary(config, lines, num_examples))
    return folder


def _round(
    folder: Path,
    round_index: int,
    kinds: tuple[str, ...],
    ids: list[str],
    bids: Bids,
    config: Config,
    alone_end: np.ndarray,
    present: np.ndarray,
    generator: np.random.Generator,
) -> dict[str, Any]:
    count = len(kinds)
    centres = generator.normal(size=(3, 40))
    updates = centres[np.arange(count) % 3] + generator.normal(size=(count, 40)) * 1.4 / (1 + round_index / 4)
    updates[[index for index, kind in enumerate(kinds) if kind == "attacker"]] *= -1
    unit = updates / np.linalg.norm(updates, axis=1, keepdims=True)
    distance = np.clip(1 - unit @ unit.T, 0, 2)
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    here = np.flatnonzero(present)
    theirs = whole_units(Bids(bids.num_examples[here], bids.valuation[here], bids.export_cost[here]))
    cleared = clear(
        theirs,
        distance[np.ix_(here, here)],
        lam=config.market.lam,
        allocation=config.market.allocation,
        payment=config.market.payment,
    )
    outcome = billed(cleared, theirs)
    distance[~present] = distance[:, ~present] = np.nan
    write_distances(folder, round_index, distance)
    subsidised = config.market.payment == "vcg-subsidised"
    edges, postings = [], []
    for buyer, seller in np.argwhere(outcome.allocation):
        names = (ids[here[buyer]], ids[here[seller]])
        payment = float(outcome.payments[buyer, seller])
        edges.append(
            {
                "round_index": round_index,
                "buyer": names[0],
                "seller": names[1],
                "num_examples": int(bids.num_examples[here[seller]]),
                "distance": float(distance[here[buyer], here[seller]]),
                "payment": payment,
            }
        )
        cost = float(theirs.export_cost[seller]) if subsidised else payment
        sale = payment - (payment - cost)  # as runs post it: sale and subsidy add up to the payment exactly
        posting = {"round_index": round_index, "payee": names[1]}
        postings.append(posting | {"payer": names[0], "amount": sale, "purpose": "sale"})
        if payment > sale:
            postings.append(posting | {"payer": OPERATOR, "amount": payment - sale, "purpose": "subsidy"})
    append_lines(folder / "edges.csv", csv_lines(edges, EDGE_COLUMNS))
    append_lines(folder / "ledger.csv", csv_lines(postings, LEDGER_COLUMNS))
    progress = 1 - math.exp(-(round_index + 1) / 3)
    participants = []
    position = {int(index): place for place, index in enumerate(here)}
    for index, name in enumerate(ids):
        place = position.get(index)
        alone = round(0.2 + (alone_end[index] - 0.2) * progress, 3)
        gain = 0.0 if place is None else float(outcome.gains[place])
        own = [row["amount"] for row in postings if row["payer"] == name]
        income = [row["amount"] for row in postings if row["payee"] == name]
        participants.append(
            {
                "id": name,
                "present": bool(present[index]),
                "accuracy": None if place is None else round(min(0.99, alone + 0.08 * gain * progress), 3),
                "loss": None if place is None else 1.5 - progress,
                "accuracy_alone": alone,
                "loss_alone": 1.6 - progress,
                "gain": gain,
                "cost": 0.0 if place is None else float(outcome.costs[place]),
                "friction": 0.0 if place is None else float(outcome.frictions[place]),
                "paid": math.fsum(own),
                "received": math.fsum(income),
                "utility": 0.0 if place is None else float(outcome.utilities[place]),
                "surplus": 0.0 if place is None else float(outcome.surpluses[place]),
                "imports": 0 if place is None else int(outcome.allocation[place].sum()),
                "exports": 0 if place is None else int(outcome.allocation[:, place].sum()),
                "refusal": None if place is not None else "no reply in time",
                "bid": {
                    "num_examples": int(bids.num_examples[index]),
                    "valuation": float(bids.valuation[index]),
                    "export_cost": float(bids.export_cost[index]),
                },
            }
        )
    buying = [row for row, kind in zip(participants, kinds, strict=True) if kind in ("trader", "buyer")]
    known = [row for row in buying if row["accuracy"] is not None]
    return {
        "round_index": round_index,
        "welfare": outcome.welfare,
        "objective": outcome.objective,
        "subsidy": outcome.subsidy,
        "mean_accuracy": math.fsum(row["accuracy"] for row in known) / len(known) if known else None,
        "mean_accuracy_alone": math.fsum(row["accuracy_alone"] for row in buying) / len(buying)
        if buying
        else None,
        "seconds": {"train": 0.4, "evaluate": 0.1, "market": 0.01, "total": 0.51},
        "participants": participants,
    }


def _summary(config: Config, lines: list[dict[str, Any]], num_examples: np.ndarray) -> dict[str, Any]:
    rows = []
    for index, row in enumerate(config.participants.rows):
        entries = [line["participants"][index] for line in lines]
        sums = {
            key: math.fsum(entry[key] for entry in entries)
            for key in ("gain", "cost", "paid", "received", "utility")
        }
        rows.append(
            {
                "id": row.id,
                "kind": row.kind,
                "num_examples": int(num_examples[index]),
                "valuation": row.valuation,
                "export_cost": row.export_cost,
                "accuracy": entries[-1]["accuracy"],
                "accuracy_alone": entries[-1]["accuracy_alone"],
                **sums,
                "imports": sum(entry["imports"] for entry in entries),
                "exports": sum(entry["exports"] for entry in entries),
            }
        )
    return {
        "method": config.method,
        "seed": config.seed,
        "rounds": len(lines),
        "participants": rows,
        "mean_accuracy": lines[-1]["mean_accuracy"],
        "mean_accuracy_alone": lines[-1]["mean_accuracy_alone"],
        "total_utility": math.fsum(row["utility"] for row in rows),
        "total_welfare": math.fsum(line["welfare"] for line in lines),
        "individually_rational": all(row["utility"] >= 0 for row in rows),
        "budget_imbalance": 0.0,
        "seconds": 3.06,
    }


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve participants of all kinds, six rounds, one absence."""
    return build_run(tmp_path_factory.mktemp("runs") / "finished", absent=(3, 2))


@pytest.fixture(scope="session")
def make_run() -> BuildRun:
    """`build_run`, for runs of one's own."""
    return build_run


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
NO_BROWSER = "page test did not run: install chromium and chromium-driver"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a browser where there is none."""
    if not (CHROMIUM and CHROMEDRIVER):
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so plainly: a skip alone is easily overlooked."""
    if any(NO_BROWSER in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_sep("!", NO_BROWSER, yellow=True)


@pytest.fixture(scope="session")
def browser_paths() -> tuple[str, str]:
    """Where the browser and its driver are."""
    return CHROMIUM or "", CHROMEDRIVER or ""

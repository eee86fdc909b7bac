"""Grids of made-up run folders: what a comparison reads, without any training."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipfl.comparison.grid import Cell, Grid, Variant
from ipfl.comparison.study import Results, collect
from ipfl.config import Config
from ipfl.run_folder import EDGE_COLUMNS, LEDGER_COLUMNS, write_json, write_text

Person = dict[str, Any]


def person(name: str, held_out: float | None, alone: float | None = 0.5, **more: Any) -> Person:
    """A participant's line of summary.json; the paper's protocol is a tenth above held out."""

    def plus(value: float | None) -> float | None:
        return None if value is None else value + 0.1

    return {
        "id": name,
        "kind": "trader",
        "conduct": "honest",
        "num_examples": 10,
        "valuation": 100.0,
        "export_cost": 0.5,
        "accuracy_held_out": held_out,
        "accuracy_held_out_alone": alone,
        "accuracy_paper": plus(held_out),
        "accuracy_paper_alone": plus(alone),
        "utility": 1.0,
        "received": 0.0,
        "exports": 0,
    } | more


def write_run(
    folder: Path,
    people: Sequence[Person],
    *,
    method: str = "ipfl",
    seed: int = 0,
    curve: Sequence[float] = (0.3, 0.6),
    liars: Mapping[str, float] | None = None,
    protocols: bool = True,
    finished: bool = True,
) -> Path:
    """A run folder with no more than a comparison needs."""
    rows = [
        {key: row[key] for key in ("id", "kind", "conduct", "valuation", "export_cost")}
        | {"report_export_cost": (liars or {}).get(row["id"], 1.0)}
        for row in people
    ]
    config = {"rounds": len(curve), "seed": seed, "method": method, "participants": rows}
    write_text(folder / "config.toml", Config.from_mapping(config).to_toml())
    write_json(
        folder / "environment.json", {"ipfl": "0.1.0", "task": "digits", "model": "mlp", "num_params": 5}
    )
    lines = [
        {
            "round_index": index,
            "mean_accuracy": value,
            "participants": [
                {
                    "id": row["id"],
                    "utility": row["utility"] / len(curve),
                    "surplus": row["utility"] / len(curve) - 0.1,
                }
                for row in people
            ],
        }
        for index, value in enumerate(curve)
    ]
    write_text(folder / "rounds.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(folder / "edges.csv", ",".join(EDGE_COLUMNS) + "\n")
    write_text(folder / "ledger.csv", ",".join(LEDGER_COLUMNS) + "\n")
    buyers = [row for row in people if row["conduct"] == "honest" and row["valuation"] > 0]
    honest = [row for row in people if row["conduct"] == "honest"]

    def mean(key: str, of: Sequence[Person]) -> float | None:
        known = [row[key] for row in of if row[key] is not None]
        return sum(known) / len(known) if known else None

    summary: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "rounds": len(curve),
        "participants": list(people),
        "mean_utility": mean("utility", honest),
        "seconds": {"total": 2.0 + seed},
    }
    if protocols:
        summary["protocols"] = {
            name: {
                "mean_accuracy": mean(f"accuracy_{name}", buyers),
                "mean_accuracy_alone": mean(f"accuracy_{name}_alone", buyers),
            }
            for name in ("paper", "held_out")
        }
    if finished:
        write_json(folder / "summary.json", summary)
    return folder


def make_grid(
    methods: Sequence[str] = ("ipfl", "local"),
    seeds: Sequence[int] = (0, 1, 2),
    variants: Sequence[str] = ("digits",),
    **more: Any,
) -> Grid:
    labelled = tuple(Variant(label) for label in variants)
    return Grid("compare", "digits", ("rounds=2",), labelled, tuple(methods), tuple(seeds), **more)


PeopleOf = Callable[[Cell], Sequence[Person]]


def two_people(cell: Cell) -> list[Person]:
    """North gains with ipfl, south loses; each seed is 0.01 better than the one before."""
    step = 0.01 * cell.seed
    if cell.method == "local":
        return [
            person("north", 0.5 + step, 0.5 + step, utility=0.0),
            person("south", 0.6 + step, 0.6 + step, utility=0.0),
        ]
    return [
        person("north", 0.7 + step, 0.5 + step, utility=3.0 + cell.seed),
        person("south", 0.5 + step, 0.6 + step, utility=1.0 + cell.seed),
    ]


def make_results(
    folder: Path, grid: Grid | None = None, people: PeopleOf = two_people, **more: Any
) -> Results:
    """A grid's results, from made-up run folders."""
    grid = grid or make_grid()
    cells = grid.cells(folder)
    for cell in cells:
        write_run(cell.folder, people(cell), method=cell.method, seed=cell.seed, **more)
    return collect(grid, folder, cells)

"""What a comparison writes: comparison.csv, .md, .tex, .html, and runs.csv with the figures of every run."""

from typing import TYPE_CHECKING, Any

from ipfl.comparison.page import Section, write_page
from ipfl.comparison.study import Results
from ipfl.comparison.tables import (
    CSV_COLUMNS,
    METHOD_COLUMNS,
    RUN_COLUMNS,
    Row,
    csv_text,
    method_rows,
    run_rows,
    terminal,
    write_tables,
)
from ipfl.run_folder import write_text

if TYPE_CHECKING:
    from rich.table import Table


def comparison_rows(results: Results) -> list[Row]:
    """One row per method, in the order asked for."""
    methods = next(iter(results.groups.values()), {})
    return method_rows({name: methods[name] for name in results.grid.methods if name in methods})


def title_of(results: Results) -> str:
    """What was compared, in a few words."""
    seeds = len(results.grid.seeds)
    return f"{results.grid.variants[0].label}: {len(results.grid.methods)} methods, {seeds} seed{'s' * (seeds > 1)}"


def write_comparison(results: Results, command: str) -> None:
    """Write all files of `ipfl compare`, each whole or not at all."""
    rows, title = comparison_rows(results), title_of(results)
    write_text(results.folder / "comparison.csv", csv_text(rows, CSV_COLUMNS))
    write_tables(results.folder, "comparison", rows, METHOD_COLUMNS, title)
    write_text(results.folder / "runs.csv", csv_text(run_rows(results), RUN_COLUMNS))
    section = Section("Methods", rows, METHOD_COLUMNS)
    write_page(results, results.folder / "comparison.html", title, [section], command)


def comparison_table(results: Results, width: int) -> "Table":
    """The table for the terminal."""
    return terminal(comparison_rows(results), METHOD_COLUMNS, title_of(results), width)


def as_json(results: Results) -> dict[str, Any]:
    """The results for programs."""
    return {
        "title": title_of(results),
        "methods": comparison_rows(results),
        "runs": run_rows(results),
        **failures_and_notes(results),
    }


def failures_and_notes(results: Results) -> dict[str, Any]:
    """What did not go well."""
    return {
        "failed": [
            {
                "variant": failure.cell.variant,
                "method": failure.cell.method,
                "seed": failure.cell.seed,
                "reason": failure.reason,
            }
            for failure in results.failures
        ],
        "notes": list(results.notes),
        "folder": str(results.folder),
    }

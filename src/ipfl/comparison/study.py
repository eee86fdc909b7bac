"""From a grid to its results: claim the folder, work the grid off, read every run back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ipfl.comparison.grid import Cell, Grid, check_methods, claim
from ipfl.comparison.kept import kept_cells, remember
from ipfl.comparison.pool import Failure, Progress, Watcher, run_all
from ipfl.comparison.statistics import Figures, figures_of, grouped, lacking, prohibitive
from ipfl.errors import IpflError
from ipfl.run_folder import Run, load_run


@dataclass(frozen=True)
class Results:
    """A grid with what came of it: figures of every finished run, and the runs that failed."""

    grid: Grid
    folder: Path
    runs: tuple[Figures, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    environment: dict[str, object]
    rounds: int

    @property
    def groups(self) -> dict[str, dict[str, list[Figures]]]:
        """Runs by variant and method; empty ones are left out."""
        return grouped(self.runs)


def carry_out(grid: Grid, folder: Path, *, workers: int, force: bool, watch: Watcher) -> Results:
    """Run all that is not there yet, and read all of it.

    Args:
      grid: what to run.
      folder: the comparison's folder; held for this process alone while it works.
      workers: runs at a time; 0 = one per core.
      force: start over, whatever comparison is there.
      watch: told of every round and every run.
    Raises:
      ConfigError, DataError: before anything is trained or written.
      RunFolderError: the folder holds something else, or is in use.
      KeyboardInterrupt: after all processes have ended.
    """
    from ipfl.upkeep.folder import held

    cells = grid.cells(folder)
    kept = [] if force else kept_cells(folder, cells)
    known = {cell.folder for cell in kept}
    check_methods(grid, [cell for cell in cells if cell.folder not in known])

    def watch_and_remember(progress: Progress) -> None:
        if progress.ended not in (None, "failed") and progress.cell.folder not in known:
            remember(folder, progress.cell)
        watch(progress)

    with held(folder):
        claim(grid, folder, force)
        failures = run_all(cells, workers, watch_and_remember, kept)
    return collect(grid, folder, cells, failures)


def collect(grid: Grid, folder: Path, cells: Sequence[Cell], failures: Sequence[Failure] = ()) -> Results:
    """Read the runs of a grid; one that cannot be read counts as failed."""
    failed = {failure.cell.folder for failure in failures}
    runs: list[tuple[Cell, Run]] = []
    unreadable: list[Failure] = []
    for cell in cells:
        if cell.folder in failed:
            continue
        try:
            run = load_run(cell.folder)
            if run.finished:
                runs.append((cell, run))
            else:
                unreadable.append(Failure(cell, "it is not finished"))
        except IpflError as error:
            unreadable.append(Failure(cell, str(error)))
    notes = (lacking(run for _, run in runs), prohibitive(run for _, run in runs))
    return Results(
        grid=grid,
        folder=folder,
        runs=tuple(figures_of(run, cell.variant) for cell, run in runs),
        failures=(*failures, *unreadable),
        notes=tuple(note for note in notes if note),
        environment=runs[0][1].environment if runs else {},
        rounds=runs[0][1].config.rounds if runs else 0,
    )

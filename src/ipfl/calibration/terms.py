"""What a calibration writes: a row for a table of bids, and a file of terms that says how they were found."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ipfl.calibration.examples import Examples
from ipfl.calibration.fit import Estimate, Fit
from ipfl.calibration.learning_curve import LearningCurve
from ipfl.calibration.worth import Worth
from ipfl.config import PROHIBITIVE_COST
from ipfl.errors import RunFolderError
from ipfl.market.curve_text import curve_text
from ipfl.market.tables import COLUMNS
from ipfl.run_folder import write_text

BIDS_FILE, TERMS_FILE = "bids.csv", "terms.toml"
FILES = (BIDS_FILE, TERMS_FILE)


@dataclass(frozen=True, eq=False)
class Calibration:
    """All that was found: the measured curve, its fit, and what it is worth.

    `export_cost` is None where it was not said; `model` is the name of the model that was trained.
    """

    examples: Examples
    model: str
    measured: LearningCurve
    fit: Fit
    worth: Worth
    export_cost: float | None = None

    @property
    def bid(self) -> dict[str, Any]:
        """One record with the columns of a table of bids; without an export cost, one that only buys."""
        return {
            "participant_id": self.examples.participant_id,
            "num_examples": self.worth.num_examples,
            "valuation": self.worth.valuation,
            "export_cost": PROHIBITIVE_COST if self.export_cost is None else self.export_cost,
            "curve": "power",
            "exponent": self.worth.gain_curve.exponent,
            "scale": self.worth.gain_curve.scale,
            "reference": "",
        }


def bids_text(found: Calibration) -> str:
    """A table of bids with the one row; floats keep every digit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerow(found.bid)
    return buffer.getvalue()


def terms_text(found: Calibration) -> str:
    """The terms as TOML: [bid] is what to report, the other tables say how it was found."""
    worth, fit, measured = found.worth, found.fit, found.measured
    bid: dict[str, Any] = {"num_examples": worth.num_examples, "valuation": worth.valuation}
    if found.export_cost is not None:
        bid["export_cost"] = found.export_cost
    bid["curve"] = curve_text(worth.gain_curve)
    twice = fit.improvement(worth.num_examples, worth.num_examples)
    tables = {
        "bid": bid,
        "worth": {
            "per_point_of_accuracy": worth.worth_per_point,
            "of_twice_the_data": worth.money(worth.num_examples),
            "points_of_twice_the_data": _listed(Estimate(*(100 * value for value in twice))),
            "square_root_curve_off_at_most": worth.square_root_off,
            "square_root_curve_fitted_up_to_more_examples": worth.more_max,
        },
        "error_curve": {
            "formula": "floor + scale * n^-exponent",
            "floor": _listed(fit.floor),
            "scale": _listed(fit.scale),
            "exponent": _listed(fit.exponent),
            "largest_residual": fit.residual,
            "interval": f"{fit.level:.0%}, bootstrap over seeds, widened {fit.widening:.2f} times",
        },
        "measured": {
            "data": found.examples.source,
            "model": found.model,
            "rows_for_training": measured.num_train,
            "rows_for_testing": measured.num_test,
            "seeds": list(measured.seeds),
            "sizes": measured.sizes.tolist(),
            "errors": [[round(error, 6) for error in row] for row in measured.errors.tolist()],
            "steps_max": measured.steps_max,
            "unsettled_trainings": measured.unsettled,
        },
    }
    head = "# Terms of a bid, written by `ipfl calibrate`. Three numbers in a list are the value and its interval.\n\n"
    return head + tomli_w.dumps(tables)


def check_free(folder: Path, force: bool) -> None:
    """Refuse to replace files that were not asked to be replaced, before anything is trained.

    Raises:
      RunFolderError: one of the files is there and `force` is not set, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: give --out the name of a folder")
    taken = [name for name in FILES if (folder / name).exists()]
    if taken and not force:
        raise RunFolderError(f"{folder / taken[0]} exists: choose another --out, or replace it with --force")


def write_terms(found: Calibration, folder: Path) -> None:
    """Write bids.csv and terms.toml into a folder, each as a whole."""
    write_text(folder / BIDS_FILE, bids_text(found))
    write_text(folder / TERMS_FILE, terms_text(found))


def _listed(estimate: Estimate) -> list[float]:
    return [float(value) for value in estimate]

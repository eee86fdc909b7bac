import tomllib
from pathlib import Path

import numpy as np
import pytest

import tiny
from ipfl.calibration.examples import Examples, pooled_examples, read_examples
from ipfl.calibration.fit import ErrorCurve, fit_curve
from ipfl.calibration.learning_curve import LearningCurve
from ipfl.calibration.terms import Calibration, bids_text, check_free, terms_text, write_terms
from ipfl.calibration.worth import worth
from ipfl.config import Config
from ipfl.errors import ConfigError, DataError, RunFolderError
from ipfl.market import PowerLaw
from ipfl.market.curve_text import parse_curve
from ipfl.market.tables import read_bids

SIZES = np.array([50, 100, 200, 400])


def calibration(export_cost: float | None = 2.5) -> Calibration:
    errors = np.tile(ErrorCurve(0.02, 1.5, 0.6).error(SIZES), (3, 1))
    fit = fit_curve(SIZES, errors)
    measured = LearningCurve(SIZES, (0, 1, 2), errors, 400, 100, 0, 1500)
    examples = Examples("north", "north.csv", np.zeros((500, 3)), np.zeros(500, np.int64), ("no", "yes"))
    return Calibration(examples, "mlp", measured, fit, worth(fit.curve, 400, 25.0), export_cost)


def test_a_table_and_arrays_are_read_as_for_a_run(tmp_path: Path) -> None:
    tables = tiny.write_tables(tmp_path / "tables", m=1, count=20)
    x, y = tiny.examples(0, 20)
    table = read_examples(tables / "a.csv")
    np.savez(tmp_path / "b.npz", x=x, y=y)
    arrays = read_examples(tmp_path / "b.npz")
    assert (table.participant_id, table.class_names, table.input_shape) == ("a", ("no", "yes"), (3,))
    assert np.allclose(table.x, x)
    assert table.y.tolist() == y.tolist() == arrays.y.tolist()
    train, test = table.prepared(np.arange(12), np.arange(12, 20))
    assert train.dtype == np.float32
    assert train.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert not np.allclose(test.mean(axis=0), 0)  # the test rows had no part in the standardising


def test_images_become_pixels(tmp_path: Path) -> None:
    x = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4)
    np.savez(tmp_path / "c.npz", x=x, y=np.arange(10) % 2)
    examples = read_examples(tmp_path / "c.npz")
    train, _ = examples.prepared(np.arange(5), np.arange(5, 10))
    assert train.shape == (5, 1, 4, 4)
    assert train.dtype == np.float32
    assert float(train[0, 0, 0, 0]) == -1.0


def test_a_task_is_taken_as_a_whole() -> None:
    digits = pooled_examples(Config(task="digits"))
    train, _ = digits.prepared(np.arange(5), np.arange(5, 10))
    assert np.array_equal(train, digits.x[:5])
    hospitals = pooled_examples(Config(task="hospitals"))
    assert len(hospitals.y) == 569
    train, _ = hospitals.prepared(np.arange(100), np.arange(100, 110))
    assert train.std(axis=0) == pytest.approx(np.ones(30), abs=1e-3)
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        pooled_examples(Config(task="digts"))


@pytest.mark.parametrize(
    ("name", "said"),
    [("absent.csv", "no file"), ("notes.txt", "format"), ("a folder.csv", "id"), ("sub", "is a folder")],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a folder.csv").write_text("x,label\n1,a\n")
    with pytest.raises(DataError, match=said):
        read_examples(tmp_path / name)


def test_the_written_row_is_a_bid_digit_for_digit(tmp_path: Path) -> None:
    found = calibration()
    write_terms(found, tmp_path / "out")
    bids = read_bids(tmp_path / "out" / "bids.csv")
    assert bids.ids == ("north",)
    assert (bids.num_examples[0], bids.export_cost[0]) == (400, 2.5)
    assert bids.valuation[0] == found.worth.valuation
    assert bids.curves == (found.worth.gain_curve,)


def test_the_terms_say_the_same_as_the_row_and_how_they_were_found(tmp_path: Path) -> None:
    found = calibration()
    terms = tomllib.loads(terms_text(found))
    assert terms["bid"]["num_examples"] == 400
    assert terms["bid"]["valuation"] == found.worth.valuation
    assert terms["bid"]["export_cost"] == 2.5
    curve = parse_curve(terms["bid"]["curve"])
    assert isinstance(curve, PowerLaw)
    assert curve == found.worth.gain_curve
    assert terms["worth"]["of_twice_the_data"] == pytest.approx(
        25 * 100 * 1.5 * (400**-0.6 - 800**-0.6), rel=1e-4
    )
    assert terms["measured"]["sizes"] == SIZES.tolist()
    assert terms["measured"]["data"] == "north.csv"


def test_without_an_export_cost_the_row_only_buys() -> None:
    found = calibration(export_cost=None)
    assert found.bid["export_cost"] == 1e9
    assert "export_cost" not in tomllib.loads(terms_text(found))["bid"]
    assert bids_text(found).count("\n") == 2


def test_files_that_are_there_are_not_replaced_unless_asked(tmp_path: Path) -> None:
    check_free(tmp_path, force=False)
    (tmp_path / "terms.toml").write_text("mine")
    with pytest.raises(RunFolderError, match="--force"):
        check_free(tmp_path, force=False)
    check_free(tmp_path, force=True)
    with pytest.raises(RunFolderError, match="is a file"):
        check_free(tmp_path / "terms.toml", force=True)

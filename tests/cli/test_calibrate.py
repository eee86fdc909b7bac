import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from ipfl.market.tables import read_bids

FAST = ("--steps", "100", "--set", "training.lr=0.1", "--set", "training.batch_size=16")


@pytest.fixture(scope="module")
def north(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A participant's table of twelve weak signs, so that more rows help."""
    random = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = random.normal(size=(300, 12)) + 0.5 * (2 * y[:, None] - 1)
    lines = [",".join([*(f"sign{index}" for index in range(12)), "label"])]
    lines += [",".join([*map(str, row), str(label)]) for row, label in zip(x.tolist(), y, strict=True)]
    path = tmp_path_factory.mktemp("calibrate") / "north.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_calibration_from_file_to_cleared_market(ipfl_command, north: Path) -> None:
    done = ipfl_command(
        "calibrate", "--data", north, "--worth", "100", "--seeds", "0-2", "--sizes", "4,8,16,32,64,210",
        "--export-cost", "3", "--out", "terms", "--plot", "curve.png", "--twice", *FAST,
    )  # fmt: skip
    assert done.code == 0, done.err
    for said in (
        "Error against examples",
        "Twice your data (210 more",
        "worth",
        "█",
        "░",
        "Check: from 64",
        "Your bid: N 210",
    ):
        assert said in done.out
    assert "18 trainings" in done.err
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")
    terms = tomllib.loads(Path("terms/terms.toml").read_text())
    row = read_bids("terms/bids.csv")
    assert (row.ids, row.export_cost[0]) == (("north",), 3.0)
    assert row.valuation[0] == terms["bid"]["valuation"]

    # a seller of 630 examples at no distance and no cost is bought; the gain is the worth of the points by hand
    text = Path("terms/bids.csv").read_text() + "archive,630,0,0.001,,,,\n"
    Path("market.csv").write_text(text)
    np.save("d.npy", np.zeros((2, 2)))
    cleared = ipfl_command("clear", "market.csv", "--distances", "d.npy", "--json")
    gain = json.loads(cleared.out)["participants"][0]["gain"]
    scale, exponent = terms["error_curve"]["scale"][0], terms["error_curve"]["exponent"][0]
    assert gain == pytest.approx(100 * 100 * scale * (210**-exponent - 840**-exponent), rel=1e-9)


def test_json_is_all_that_is_printed(ipfl_command, north: Path) -> None:
    done = ipfl_command("calibrate", "--data", north, "--worth", "5", "--seeds", "0-2", "--json", *FAST,
                        "--sizes", "4,8,16,32,210")  # fmt: skip
    record = json.loads(done.out)
    assert done.err == ""
    assert record["sizes"] == [4, 8, 16, 32, 210]
    assert np.array(record["errors"]).shape == (3, 5)
    twice = record["twice"]
    assert twice["worth"] == pytest.approx(5 * twice["points"]["value"])
    assert twice["points"]["low"] <= twice["points"]["value"] <= twice["points"]["high"]
    assert record["bid"]["export_cost"] == 1e9
    assert not record["export_cost_given"]
    assert "check" not in record


def test_quiet_prints_the_summary_only(ipfl_command, north: Path) -> None:
    done = ipfl_command("calibrate", "--data", north, "--worth", "5", "--seeds", "0-2", "--quiet", "--twice", *FAST,
                        "--sizes", "4,8,16,210")  # fmt: skip
    assert "Twice your data" in done.out
    assert "Not checked: 3 of the sizes are at most half of 210" in done.out
    assert "Error against examples" not in done.out
    assert "bids.csv" not in done.out
    assert done.err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--worth", "1"], "either --data FILE or --task NAME"),
        (["--data", "north.csv", "--task", "digits", "--worth", "1"], "either --data FILE or --task NAME"),
        (["--data", "absent.csv", "--worth", "1"], "no file absent.csv"),
        (["--task", "digts", "--worth", "1"], "did you mean 'digits'"),
        (["--task", "digits", "--worth", "0"], "> 0"),
        (["--task", "digits", "--worth", "1", "--export-cost", "-1"], ">= 0"),
        (["--task", "digits", "--worth", "1", "--seeds", "x"], "expected seeds"),
        (["--task", "digits", "--worth", "1", "--sizes", "a,b"], "whole numbers"),
        (["--task", "digits", "--worth", "1", "--set", "training.lrr=1"], "did you mean 'lr'"),
        (["--task", "digits", "--worth", "1", "--plot", "curve.txt"], "ends in .png"),
        (["--task", "digits", "--worth", "1", "--out", "taken"], "--force"),
    ],
)
def test_mistakes_are_refused_before_training(ipfl_command, arguments: list[str], said: str) -> None:
    Path("taken").mkdir()
    Path("taken/bids.csv").write_text("mine")
    done = ipfl_command("calibrate", *arguments)
    assert done.code == 2
    assert said in done.err
    assert Path("taken/bids.csv").read_text() == "mine"


def test_data_that_tells_no_curve_is_refused_and_nothing_is_written(ipfl_command, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", x=random.normal(size=(120, 3)), y=random.integers(2, size=120))
    done = ipfl_command("calibrate", "--data", "noise.npz", "--worth", "5", "--seeds", "0-2", "--out", "terms", *FAST,
                        "--sizes", "10,20,40,80")  # fmt: skip
    assert done.code == 2
    assert "does not fall" in done.err
    assert not Path("terms").exists()

"""Grids: what is run, and which folder may hold it."""

import json

import pytest

import grids
from ipfl.comparison import grid as module
from ipfl.comparison.grid import check_methods, claim, parse_methods, parse_seeds
from ipfl.config import Config
from ipfl.errors import ConfigError, RunFolderError
from ipfl.methods import METHODS


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("3,1,2-3", (3, 1, 2)), (" 0 , 5-6", (0, 5, 6))],
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "4-2", "-1", "1-", "0,,1", "1.5", "0-9999999", "99999999999999999999"]
)
def test_what_is_no_seed(text):
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)


def test_methods():
    assert parse_methods("all") == tuple(METHODS)
    assert parse_methods("ipfl, local,ipfl") == ("ipfl", "local")
    with pytest.raises(ConfigError, match="did you mean 'ipfl'"):
        parse_methods("local,ipf")


def test_every_run_has_its_folder_and_configuration(tmp_path):
    grid = grids.make_grid(variants=("a", "b"))
    cells = grid.cells(tmp_path)
    assert len({cell.folder for cell in cells}) == len(cells) == 2 * 2 * 3
    last = cells[-1]
    assert last.folder == tmp_path / "runs" / "b" / "local" / "seed-2"
    assert (last.config.method, last.config.seed, last.config.rounds) == ("local", 2, 2)
    assert {cell.config.engine.workers for cell in cells} == {1}
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_a_vacant_folder_is_taken_and_known_again(tmp_path):
    grid = grids.make_grid()
    claim(grid, tmp_path / "new", False)
    before = (tmp_path / "new" / "comparison.json").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / ".comparison.json.tmp").write_text("{")  # killed in its first moment
    claim(grid, tmp_path / "cut", False)
    claim(grid, tmp_path / "new", False)
    assert (tmp_path / "new" / "comparison.json").read_bytes() == before


def test_methods_and_seeds_may_be_added(tmp_path):
    claim(grids.make_grid(methods=("local",), seeds=(0, 1)), tmp_path, False)
    claim(grids.make_grid(methods=("ipfl",), seeds=(1, 2)), tmp_path, False)
    stored = json.loads((tmp_path / "comparison.json").read_text())
    assert (stored["methods"], stored["seeds"]) == (["local", "ipfl"], [0, 1, 2])


def test_another_comparison_is_refused_and_named(tmp_path):
    claim(grids.make_grid(), tmp_path, False)
    before = (tmp_path / "comparison.json").read_bytes()
    for other in (
        grids.make_grid(variants=("other",)),
        module.Grid(**grids.make_grid().__dict__ | {"settings": ()}),
    ):
        with pytest.raises(
            RunFolderError, match=r"holds another comparison \(compare digits --set rounds=2\).*--force"
        ):
            claim(other, tmp_path, False)
    assert (tmp_path / "comparison.json").read_bytes() == before


def test_force_takes_the_old_runs_out(tmp_path):
    claim(grids.make_grid(), tmp_path, False)
    grids.make_results(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    claim(grids.make_grid(variants=("other",), methods=("local",)), tmp_path, True)
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "notes.txt").exists()
    assert json.loads((tmp_path / "comparison.json").read_text())["methods"] == ["local"]


def test_force_takes_out_nothing_but_runs(tmp_path):
    claim(grids.make_grid(), tmp_path, False)
    mine = tmp_path / "runs" / "digits" / "ipfl" / "seed-0" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("three years")
    with pytest.raises(RunFolderError, match="is no run folder"):
        claim(grids.make_grid(), tmp_path, True)
    assert mine.exists()


@pytest.mark.parametrize("force", [False, True])
def test_strangers_folders_are_left_alone(tmp_path, force):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(RunFolderError, match="holds no comparison"):
        claim(grids.make_grid(), tmp_path, force)
    with pytest.raises(RunFolderError, match="is a file"):
        claim(grids.make_grid(), tmp_path / "thesis.txt", force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_description_is_said_to_be_one(tmp_path):
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(RunFolderError, match="not valid JSON"):
        claim(grids.make_grid(), tmp_path, False)
    (tmp_path / "comparison.json").write_text('{"identity": 3, "settings": 4}')
    with pytest.raises(RunFolderError, match="of an unknown form"):
        claim(grids.make_grid(), tmp_path, False)


def test_a_new_default_makes_no_other_comparison(monkeypatch):
    grid = grids.make_grid()
    before = grid.identity()
    config = grid.config(grid.variants[0], "local", 0)
    newer = config.__dict__ | {"label": "a default of another version"}
    monkeypatch.setattr(
        module.Grid, "config", lambda *_: Config.model_construct(config.model_fields_set, **newer)
    )
    assert grid.identity() == before


def test_a_method_that_cannot_do_the_task_is_refused_by_name(tmp_path):
    grid = module.Grid(
        "compare", "hospitals", ("rounds=1", "participants.count=3"), grids.make_grid().variants,
        ("local", "fedfomo"), (0,),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"^method fedfomo: .*leave it out: --methods local$"):
        check_methods(grid, grid.cells(tmp_path))

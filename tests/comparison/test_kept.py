"""Finished runs are recognised, and nothing else is taken for one."""

import json
from dataclasses import replace

import pytest

import grids
from ipfl.comparison.kept import kept_cells, remember


@pytest.fixture
def grid(tmp_path):
    """A comparison whose runs are all finished and remembered."""
    made = grids.make_grid(methods=("ipfl",), seeds=(0, 1))
    grids.make_results(tmp_path, made)
    for cell in made.cells(tmp_path):
        remember(tmp_path, cell)
    return made


def test_what_is_remembered_is_kept_and_nothing_that_never_ran(grid, tmp_path):
    cells = grid.cells(tmp_path)
    more = grids.make_grid(methods=("ipfl", "local"), seeds=(0, 1, 2)).cells(tmp_path)
    assert kept_cells(tmp_path, cells) == kept_cells(tmp_path, more) == cells


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "summary.json"])
def test_a_changed_run_is_not_kept(grid, tmp_path, name):
    cells = grid.cells(tmp_path)
    path = cells[0].folder / name
    path.write_text(path.read_text() + "\n")
    assert kept_cells(tmp_path, cells) == cells[1:]


def test_neither_is_an_unfinished_one_nor_one_of_another_version(grid, tmp_path, monkeypatch):
    cells = grid.cells(tmp_path)
    (cells[1].folder / "summary.json").unlink()
    assert kept_cells(tmp_path, cells) == cells[:1]
    remember(tmp_path, cells[1])
    assert kept_cells(tmp_path, cells) == cells[:1]
    monkeypatch.setattr("ipfl.comparison.kept.version", lambda name: "9.9")
    assert kept_cells(tmp_path, cells) == []


def test_another_configuration_is_another_run(grid, tmp_path):
    cells = grid.cells(tmp_path)
    longer = replace(cells[0], config=cells[0].config.model_copy(update={"rounds": 9}))
    assert kept_cells(tmp_path, [longer]) == []


def test_files_of_ones_own_may_have_changed(grid, tmp_path):
    cell = grid.cells(tmp_path)[0]
    own = replace(cell, config=cell.config.model_copy(update={"data": "tables"}))
    remember(tmp_path, own)
    assert kept_cells(tmp_path, [own]) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps({"runs/digits/ipfl/seed-0": 3})])
def test_a_damaged_list_costs_only_time(grid, tmp_path, text):
    (tmp_path / "finished.json").write_text(text)
    assert kept_cells(tmp_path, grid.cells(tmp_path)) == []

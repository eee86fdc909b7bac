"""The page as text, and the data in it."""

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

import grids
from grids import person
from ipfl.comparison.grid import Grid
from ipfl.comparison.outputs import write_comparison
from ipfl.comparison.page import NUM_DOTS_MAX, headline_cards, payload
from ipfl.comparison.pool import Failure
from ipfl.comparison.study import collect

CHARTS = (files("ipfl.report") / "vendor" / "echarts.min.js").read_text(encoding="utf-8").strip()


def page_of(results, command="ipfl compare digits"):
    write_comparison(results, command)
    return (results.folder / "comparison.html").read_text(encoding="utf-8")


def test_one_small_file_that_loads_nothing(results):
    text = page_of(results)
    own = text.replace(CHARTS, "")
    assert len(own) < 100_000
    assert not re.search(r"<(script|iframe)[^>]* src=", own)
    assert "http" not in own.replace("http-equiv", "")
    assert page_of(results) == text


def test_the_policy_allows_what_is_there_and_nothing_else(results):
    text = page_of(results)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    parts = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", text, flags=re.S)
    assert len(parts) == 3
    for part in parts:
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"sha256-{digest}" in policy.replace("&#39;", "'").replace("&#43;", "+")
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy


def test_the_data_are_those_of_the_runs(results):
    data = payload(results)
    json.dumps(data, allow_nan=False)
    assert data["methods"] == ["ipfl", "local"]
    ipfl = data["variants"][0]["methods"][0]
    assert ipfl["paper"] == [pytest.approx(0.71), pytest.approx(0.01 * 4.302652729696142 / 3**0.5, rel=1e-5)]
    assert ipfl["dots"] == [
        [who, seed, value] for seed in range(3) for who, value in (("north", 0.2), ("south", -0.1))
    ]
    assert ipfl["curve"] == [0.3, 0.6]


def test_many_dots_are_averaged_over_seeds(tmp_path):
    many = NUM_DOTS_MAX // 10 // 2 - 1

    def people(cell):
        return [person(f"p{index}", 0.6 + 0.1 * cell.seed) for index in range(many)]

    results = grids.make_results(tmp_path, grids.make_grid(methods=("ipfl",)), people)
    dots = payload(results)["variants"][0]["methods"][0]["dots"]
    assert len(dots) == many
    assert dots[0] == ["p0", None, pytest.approx(0.2)]


def test_cards_name_the_best_and_who_shares_the_place(results, tmp_path):
    cards = {card.title: card for card in headline_cards(results)}
    assert cards["Most accurate"].figure == "ipfl"
    assert cards["Highest utility"].sentence.startswith("3.0 ± 2.5:")
    assert "local" not in [cards[title].figure for title in ("Most better off", "Kindest to the worst off")]
    tied = grids.make_results(tmp_path, people=lambda cell: [person("a", 0.6)])
    assert "(as local)" in headline_cards(tied)[0].sentence


def test_failed_runs_and_old_ones_are_said(tmp_path):
    grid = grids.make_grid()
    results = grids.make_results(tmp_path, grid, protocols=False)
    cells = grid.cells(tmp_path)
    results = collect(grid, tmp_path, cells, [Failure(cells[0], "the disk is full")])
    text = page_of(results)
    assert "1 run failed and is in no figure here" in text
    assert "digits, ipfl, seed 0" in text
    assert "the disk is full" in text
    assert "older ipfl" in text


def test_hostile_strings_are_escaped(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    grid = Grid(**grids.make_grid().__dict__ | {"settings": ("rounds=2", f'label="{hostile}"')})
    text = page_of(grids.make_results(tmp_path, grid), f"ipfl compare {hostile}")
    assert "<img src=x" not in text


def test_an_unfinished_or_unreadable_run_counts_as_failed(tmp_path):
    grid = grids.make_grid(methods=("ipfl",))
    grids.make_results(tmp_path, grid)
    cells = grid.cells(tmp_path)
    (cells[0].folder / "summary.json").unlink()
    (cells[1].folder / "config.toml").write_text("rounds = [")
    results = collect(grid, tmp_path, cells)
    assert [failure.cell.seed for failure in results.failures] == [0, 1]
    assert results.failures[0].reason == "it is not finished"
    assert len(results.runs) == 1

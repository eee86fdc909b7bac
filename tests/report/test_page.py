"""The page as text, and the data in it."""

import hashlib
import json
import re
from importlib.resources import files

import numpy as np
import pytest

from ipfl.errors import RunFolderError
from ipfl.report import render_page, write_page
from ipfl.report.payload import circle, payload, short_names, thinned
from ipfl.run_folder import load_run

VENDOR = files("ipfl.report") / "vendor"


def test_vendored_charts_are_the_file_the_readme_names():
    digest = hashlib.sha256((VENDOR / "echarts.min.js").read_bytes()).hexdigest()
    assert digest in (VENDOR / "README.md").read_text(encoding="utf-8")
    assert "Apache License" in (VENDOR / "LICENSE-echarts").read_text(encoding="utf-8")
    assert (VENDOR / "NOTICE-echarts").is_file()


def test_page_is_one_small_file_without_addresses_to_load(finished_run):
    path = write_page(finished_run)
    text = path.read_text(encoding="utf-8")
    assert path == finished_run / "report.html"
    assert path.stat().st_size < 2_000_000
    own = text.replace((VENDOR / "echarts.min.js").read_text(encoding="utf-8").strip(), "")
    assert len(own) < 500_000
    assert not re.search(r"<(script|img|iframe)[^>]* src=", own)
    assert "http" not in own.replace("http-equiv", "")
    assert re.findall(r'<link[^>]*href="([^"]*)"', own) == ["data:,"]


def test_same_run_same_page(finished_run):
    run = load_run(finished_run)
    assert render_page(run) == render_page(load_run(finished_run))


def test_a_page_that_cannot_be_written_leaves_the_old_one(finished_run, monkeypatch):
    path = write_page(finished_run)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunFolderError, match="No space left"):
        write_page(finished_run)
    assert path.read_bytes() == before
    assert not list(finished_run.glob(".report*"))


def test_payload_is_plain_json(finished_run):
    json.dumps(payload(load_run(finished_run)), allow_nan=False)


def test_missing_distances_cost_only_the_reasons(make_run, tmp_path):
    folder = make_run(tmp_path / "run", rounds=2)
    (folder / "distances" / "00001.npy").unlink()
    data = payload(load_run(folder))
    assert list(data["not_bought"]) == ["0"]
    assert list(data["rounds"]) == ["0", "1"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_participants_have_a_page(make_run, tmp_path, count):
    folder = make_run(tmp_path / "run", kinds=("trader",) * count, rounds=1)
    assert "clinic-00" in render_page(load_run(folder))


def test_thinning_keeps_first_and_last():
    assert thinned(range(500), [1000] * 500, 6000) == [0, 100, 200, 299, 399, 499]
    assert thinned(range(3), [1000] * 3, 10) == [2]
    assert thinned([], [], 10) == []


def test_short_names_stay_different():
    assert short_names(["bank-a-1", "bank-a-2", "bank-b-1"]) == ["a-1", "a-2", "b-1"]
    assert short_names(["solo"]) == ["solo"]
    assert short_names(["x-", "x-1"]) == ["x-", "x-1"]


def test_similar_models_stand_side_by_side(finished_run):
    places = circle(load_run(finished_run))
    assert sorted(places) == pytest.approx(list(np.arange(12) / 12))
    cluster = sorted(places[index] for index in (1, 4, 7, 10))
    gaps = np.diff([*cluster, cluster[0] + 1])
    assert sorted(gaps)[:3] == pytest.approx([1 / 12] * 3)

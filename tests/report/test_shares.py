"""Who has what data, in the page."""

import re

import numpy as np
import pytest

from ipfl.errors import RunFolderError
from ipfl.report import render_page
from ipfl.report.shares import CELLS_MAX, CLASSES_MAX, levels, shares_view
from ipfl.run_folder import load_run, read_partition, write_partition
from ipfl.types.partition import PartitionTable


def table(m, classes, seed=0):
    counts = np.random.default_rng(seed).integers(0, 50, (m, classes))
    return PartitionTable(
        "skew",
        {"classes_per_participant": 2},
        tuple(f"clinic-{index:04d}" for index in range(m)),
        tuple(f"<{index}>" for index in range(classes)),
        counts,
        0 * counts,
        counts // 2,
        np.ones(classes, np.int64),
        "cd" * 32,
    )


def cells(page):
    """(level, text) of every cell of the picture, row by row."""
    section = re.search(r'<section id="shares".*?</section>', page, re.DOTALL)[0]
    body = re.search(r"<tbody>.*?</tbody>", section, re.DOTALL)[0]
    return [re.findall(r'<td class="s(\d)">(\d*)</td>', row) for row in body.split("</tr>") if "<td" in row]


def test_the_page_shows_every_count_on_its_shade(make_run, tmp_path):
    folder = make_run(tmp_path / "run", rounds=1)
    written = table(12, 10)
    write_partition(folder, written)
    page = render_page(load_run(folder))
    shown = cells(page)
    assert [[int(text or 0) for _, text in row] for row in shown] == written.train.tolist()
    assert [[int(level) for level, _ in row] for row in shown] == levels(written.train).tolist()
    assert "cd" * 32 in page
    assert "skew (a few classes each): classes_per_participant 2" in page
    assert "&lt;3&gt;" in page
    assert "<3>" not in page
    assert "All are also tested on 10 common examples." in page


def test_a_run_from_before_partitions_were_kept_still_has_its_page(make_run, tmp_path):
    page = render_page(load_run(make_run(tmp_path / "run", rounds=1)))
    assert 'id="shares"' not in page
    assert 'href="#shares"' not in page


@pytest.mark.parametrize(("m", "classes"), [(5000, 62), (40, 5000), (100_000, 2)])
def test_large_partitions_are_thinned_and_say_so(m, classes):
    view = shares_view(table(m, classes))
    assert sum(len(row.cells) for row in view["rows"]) <= max(CELLS_MAX, 12 * CLASSES_MAX)
    assert view["rows"][0].id == "clinic-0000"
    assert view["rows"][-1].id == f"clinic-{m - 1:04d}"
    assert "partition.json holds all." in view["notes"]
    assert view["totals"][0] == f"{int(table(m, classes).train.sum()):,}"


def test_partitions_that_fit_are_shown_whole():
    view = shares_view(table(100, 62))
    assert len(view["rows"]) == 100
    assert all(len(row.cells) == 62 for row in view["rows"])
    assert view["notes"] == []
    assert view["dense"]


def test_partition_json_is_read_back_as_written_and_one_line_per_participant(tmp_path):
    written = table(7, 3)
    write_partition(tmp_path, written)
    found = read_partition(tmp_path)
    assert found.to_json() == written.to_json()
    assert (tmp_path / "partition.json").read_text().count("\n") == 7 + 9
    write_partition(tmp_path, table(7, 3, seed=1))  # once written, it stays
    assert read_partition(tmp_path).to_json() == written.to_json()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not valid JSON"),
        ('{"participants": [{"id": "a"}], "classes": ["x"]}', "it lacks 'train'"),
        ('{"participants": 3, "classes": []}', "not iterable"),
        (
            '{"participants": [{"id": "a", "train": [1.5], "validation": null, "test": null}], "classes": ["x"]}',
            "expected 1 whole numbers",
        ),
    ],
)
def test_a_damaged_file_is_refused(content, why, tmp_path):
    (tmp_path / "partition.json").write_text(content)
    with pytest.raises(RunFolderError, match=why):
        read_partition(tmp_path)

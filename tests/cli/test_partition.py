"""`ipfl partition`: the picture of who has what, in a terminal, as JSON and as a file."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from ipfl.cli.partition import render
from ipfl.types.partition import PartitionTable


def partition_json(ipfl_command, *arguments):
    done = ipfl_command("partition", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def printed(table, width, colour=None, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(width=width, file=file, force_terminal=colour is not None, color_system=colour)
    render(table, "letters", console)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def table(m, classes, largest=40):
    counts = np.random.default_rng(0).integers(1, largest, (m, classes))
    counts[0, 0], counts[:, -1] = largest, 0
    names = tuple(f"c{index}" for index in range(classes))
    ids = tuple(f"site-{index:03d}" for index in range(m))
    none = np.zeros_like(counts)
    return PartitionTable("niid", {"alpha": 0.5}, ids, names, counts, none, none, None, "ab" * 32)


def test_a_preset_is_shared_out_and_shown_without_training(ipfl_command, tmp_path):
    done = ipfl_command("partition", "hospitals")
    assert (done.code, done.err) == (0, "")
    assert "Partition of hospitals" in done.out
    found = partition_json(ipfl_command, "hospitals")
    for row in found["participants"]:
        line = next(line for line in done.out.splitlines() if line.startswith(row["id"]))
        numbers = [int(word) for word in line.split()[1:] if word.isdigit()]
        assert numbers == [sum(row[split]) for split in ("train", "validation", "test")] + row["train"]
    assert f"SHA-256  {found['sha256']}" in done.out
    assert list(tmp_path.iterdir()) == []


def test_seed_and_settings_decide(ipfl_command):
    settings = ["--set", "partition.kind=niid", "--set", "partition.train_examples=all"]
    first, again, other = (
        partition_json(ipfl_command, "digits", *settings, "--seed", seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["sha256"] != other["sha256"]
    assert first["kind"] == "niid"
    assert first["participants"][0]["test"] is None
    everybody = sum(sum(row["train"]) for row in first["participants"])
    assert everybody + sum(first["common"]) == 1797


def test_a_run_shows_what_it_was_run_on_and_the_same_as_its_configuration(ipfl_command, run_folder, tables):
    of_run = partition_json(ipfl_command, run_folder)
    assert of_run == partition_json(ipfl_command, "--data", run_folder.parent / "tables")
    assert of_run["kind"] == "own"
    assert of_run["parameters"] == {"seed": 0, "test_fraction": 0.3}


def test_a_run_from_before_partitions_were_kept_is_shared_out_again(ipfl_command, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "old")
    (tmp_path / "old" / "partition.json").unlink()
    assert partition_json(ipfl_command, "old") == partition_json(ipfl_command, run_folder)


def test_a_run_takes_no_settings(ipfl_command, run_folder):
    done = ipfl_command("partition", run_folder, "--seed", 3)
    assert done.code == 2
    assert "is a run, which was shared out already: it takes no settings" in done.err


def test_what_cannot_be_shared_out_is_one_sentence(ipfl_command):
    done = ipfl_command("partition", "--set", "partition.kind=natural")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "choose another partition.kind" in done.err


def test_a_damaged_file_is_named(ipfl_command, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "partition.json").write_text('{"participants": []}')
    done = ipfl_command("partition", "damaged")
    assert done.code == 2
    assert "partition.json is damaged (it lacks 'classes'): restore it, or take it out" in done.err


def test_numbers_where_they_fit_and_bars_where_they_do_not():
    wide, narrow = printed(table(3, 8), 100, "truecolor"), printed(table(3, 60), 100, "truecolor")
    assert "site-000" in wide
    assert "by class" not in wide
    assert "48;2;23;63;156" in wide  # the largest count on the strongest shade
    row = next(line for line in narrow.splitlines() if "site-000" in line)
    assert "█" in row
    assert "by class" in narrow
    plain = printed(table(3, 8), 100)
    assert "by class" in plain
    assert "\x1b" not in plain
    assert max(map(len, printed(table(3, 60), 100).splitlines())) <= 100


def test_a_plain_terminal_gets_digits_for_bars():
    text = printed(table(3, 60), 100, encoding="ascii")
    row = next(line for line in text.splitlines() if line.startswith("site-000"))
    assert row.rstrip().split()[-1].strip("|.").isdigit()


def test_classes_that_nobody_trains_on_are_named_and_many_participants_are_cut():
    text = printed(table(250, 5), 100)
    assert "Nobody trains on 1 class (c4)." in text
    assert "and 50 more: see --json" in text


@pytest.mark.parametrize(("m", "classes"), [(12, 10), (100, 62), (300, 3)])
def test_the_picture_has_a_bubble_for_every_count(m, classes, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    from ipfl.cli.partition_plot import draw

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: drawn.append(figure))
    one = table(m, classes)
    draw(one, "letters", tmp_path / "picture.png")
    bubbles = drawn[0].axes[0].collections[0]
    assert len(bubbles.get_offsets()) == int((one.train > 0).sum())
    area = bubbles.get_sizes()
    counts = one.train[one.train > 0]
    assert np.allclose(area / area.max(), counts / counts.max())


def test_the_picture_is_written(ipfl_command, tmp_path):
    done = ipfl_command("partition", "hospitals", "--plot", "who.svg")
    assert done.code == 0
    assert "Picture  who.svg" in done.out
    assert "<svg" in (tmp_path / "who.svg").read_text(encoding="utf-8")
    refused = ipfl_command("partition", "hospitals", "--plot", "who.doc")
    assert refused.code == 2
    assert "expected a name that ends in" in refused.err

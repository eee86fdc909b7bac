"""`ipfl run --track`: asked for on the command line, and no part of what identifies a run."""

import pytest

import tiny


def test_a_tracker_writes_into_the_run_folder_and_changes_nothing_else(ipfl_command, tables, quick, tmp_path):
    pytest.importorskip("tensorboardX")
    arguments = ["run", "--data", tables, *quick, "--quiet", "--out"]
    assert ipfl_command(*arguments, "plain").code == 0
    done = ipfl_command(*arguments, "tracked", "--track", "tensorboard")
    assert (done.code, done.out, done.err) == (0, "tracked\n", "")
    assert list((tmp_path / "tracked" / "tracking" / "tensorboard").glob("*tfevents*"))
    tracked = {
        name: content
        for name, content in tiny.contents(tmp_path / "tracked").items()
        if not name.startswith("tracking/")
    }
    assert tracked == tiny.contents(tmp_path / "plain")
    # what a tracker left behind goes with the run that --force replaces
    assert ipfl_command(*arguments, "tracked", "--force").code == 0
    assert not (tmp_path / "tracked" / "tracking").exists()


def test_an_unknown_tracker_is_refused_before_anything_is_made(ipfl_command, tables, quick, tmp_path):
    done = ipfl_command("run", "--data", tables, *quick, "--out", "run", "--track", "tensorbord")
    assert done.code == 2
    assert done.err == "error: unknown tracker 'tensorbord'; did you mean 'tensorboard'?\n"
    assert not (tmp_path / "run").exists()

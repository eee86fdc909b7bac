"""TensorBoard's event files, read back."""

import struct

import pytest

from ipfl.run_folder import load_run
from ipfl.trackers import tracking

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def scalars(folder):
    """Every scalar in the event files of a folder: name -> [(step, value)], in the order they were written."""
    found = {}
    for path in sorted(folder.glob("*tfevents*")):
        content, at = path.read_bytes(), 0
        while at < len(content):  # a record: length (8 bytes), its checksum (4), the event, its checksum (4)
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def play(events, asked):
    with tracking([asked]) as watch:
        for event in events:
            watch(event)


def test_event_files_hold_what_the_rounds_say(played, tmp_path, capsys):
    events, folder = played
    play(events, f"tensorboard={tmp_path / 'logs'}")
    assert capsys.readouterr().err == ""
    found = scalars(tmp_path / "logs")
    stored = load_run(folder)
    expected = [(line["round_index"], line["mean_accuracy"]) for line in stored.rounds]
    assert found["accuracy/mean"] == [(step, pytest.approx(value)) for step, value in expected]
    assert len(found["participants/a/utility"]) == 3
    assert found["summary/total_welfare"] == [(0, pytest.approx(stored.summary["total_welfare"]))]


def test_an_interrupted_run_goes_on_in_the_same_folder(interrupted, capsys):
    folder = interrupted(tracking(["tensorboard"]), tracking(["tensorboard"]))
    assert capsys.readouterr().err == ""
    assert [step for step, _ in scalars(folder / "tracking" / "tensorboard")["market/welfare"]] == [0, 1, 2]

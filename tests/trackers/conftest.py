"""One short run, played back to trackers."""

import pytest

import tiny
from ipfl.experiment import run
from ipfl.experiment.events import JobsDone


@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """(events, folder) of a finished run of three rounds; look, do not touch."""
    events = []
    folder = tmp_path_factory.mktemp("played") / "run"
    run(tiny.config(), task=tiny.task(), out=folder, watch=events.append)
    return [event for event in events if not isinstance(event, JobsDone)], folder


@pytest.fixture
def interrupted(tmp_path):
    """play(tracking) -> folder: a run that is stopped in its second round, then resumed with `tracking`."""
    from ipfl.experiment import resume
    from ipfl.experiment.events import RoundDone

    def stopping(watch):
        def both(event):
            watch(event)
            if isinstance(event, RoundDone) and event.line["round_index"] == 1:
                raise KeyboardInterrupt

        return both

    def play(before, after):
        folder = tmp_path / "interrupted"
        with before as watch, pytest.raises(KeyboardInterrupt):
            run(tiny.config(), task=tiny.task(), out=folder, watch=stopping(watch))
        with after as watch:
            resume(folder, task=tiny.task(), watch=watch)
        return folder

    return play

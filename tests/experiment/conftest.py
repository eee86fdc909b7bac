"""One small finished run, made once."""

import pytest

import ipfl
import tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Three rounds of five participants of every kind; look at it, do not touch it."""
    return ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path_factory.mktemp("runs") / "finished")

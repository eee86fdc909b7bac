"""The operator's end before it starts: what it refuses, and that there is nobody to ask yet."""

from pathlib import Path

import pytest

from ipfl.errors import ConfigError, NetworkError
from ipfl.network.flower_host import FlowerHost


def test_a_host_that_others_reach_is_refused_unless_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control interface, which has no password"):
        FlowerHost(tmp_path, tmp_path, host="0.0.0.0")
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    FlowerHost(tmp_path, tmp_path, host="0.0.0.0", expose_control=True)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").touch()
    with pytest.raises(ConfigError, match=r"holds no server\.crt"):
        FlowerHost(tmp_path, tmp_path)


def test_without_start_there_is_nothing_to_ask(tmp_path: Path) -> None:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    host = FlowerHost(tmp_path, tmp_path)
    with pytest.raises(NetworkError, match="call start"):
        host.online()
    host.close()
    assert host.pids() == {}

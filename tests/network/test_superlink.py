"""Whom the operator's SuperLink has turned away, by its log."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from ipfl.errors import NetworkError
from ipfl.network.keys import make_participant_key
from ipfl.network.superlink import SuperLink, turned_away


def turned_away_line(public_text: str) -> str:
    pem = load_ssh_public_key(public_text.encode()).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return f"ERROR: [/v1/fleet/activate-node][ApiError:2004] Attempted to register SuperNode with public key: {pem!r}"


def test_keys_that_the_superlink_turned_away_are_read_from_its_log(tmp_path: Path) -> None:
    key = make_participant_key(tmp_path / "stranger")
    line = turned_away_line(key.public_text)
    assert turned_away(f"{line}, exception: none\nINFO: nothing\n{line}\n") == [key.fingerprint] * 2
    assert turned_away(line.replace("MHYw", "%%%%")) == []
    assert turned_away("INFO: [ApiError:2004]") == []


def test_each_line_of_the_log_is_told_once_and_when_it_is_whole(tmp_path: Path) -> None:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    superlink = SuperLink(tmp_path, tmp_path, "127.0.0.1", 1)
    first, second = (make_participant_key(tmp_path / name) for name in ("first", "second"))
    half, rest = turned_away_line(second.public_text).split("BEGIN")
    with (tmp_path / "superlink.log").open("w") as log:
        print(turned_away_line(first.public_text), half, sep="\n", end="", file=log, flush=True)
        assert superlink.newly_turned_away() == [first.fingerprint]
        print("BEGIN" + rest, file=log, flush=True)
        assert superlink.newly_turned_away() == [second.fingerprint]
        assert superlink.newly_turned_away() == []


def test_it_lets_in_the_keys_of_this_start_and_forgets_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    database = tmp_path / "state.db"
    asked: list[str] = []

    def ask(command: list[str], home: Path, timeout_s: float) -> tuple[int, str]:
        asked.append((tmp_path / "registering.pub").read_text().strip())
        return (1, "no room") if asked[-1] == "refused" else (0, "")

    monkeypatch.setattr("ipfl.network.programs.ask", ask)
    monkeypatch.setattr(SuperLink, "_launch", lambda self: database.touch())

    def start(**keys: str) -> list[str]:
        asked.clear()
        SuperLink(tmp_path, tmp_path, "127.0.0.1", 1).start({key: (key, line) for key, line in keys.items()})
        return list(asked)

    assert start(a="line a", b="line b") == ["line a", "line b"]
    database.write_text("a and b")
    assert start(a="line a", b="line b", c="line c") == ["line c"]
    assert database.read_text() == "a and b"
    with pytest.raises(NetworkError, match="did not register the key of d: no room"):
        start(a="line a", b="line b", c="line c", d="refused")
    assert database.read_text() == "a and b"
    assert start(a="line a", b="line b", c="line c", d="line d") == ["line d"]
    assert start(a="line a", c="line c", d="line d") == ["line a", "line c", "line d"]
    assert database.read_text() == ""

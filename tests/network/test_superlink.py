"""Whom the operator's SuperLink has turned away, by its log."""

import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from ipfl.network.keys import make_participant_key
from ipfl.network.superlink import SuperLink, _last_line, turned_away


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


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).touch()
    return tmp_path


def test_it_begins_with_an_empty_database_whatever_there_was_and_lets_in_the_keys_given(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flwr")
    folder, asked, found = keys / "work", list[tuple[str, dict[str, str]]](), list[list[bool]]()
    database = [folder / f"state.db{end}" for end in ("", "-wal", "-shm")]

    def launch(_: SuperLink) -> None:
        found.append([path.exists() for path in database])
        for path in database:
            path.touch()

    monkeypatch.setattr(SuperLink, "_launch", launch)
    monkeypatch.setattr(
        "ipfl.engines.flower_control.register",
        lambda address, ca, lines: asked.append((address, dict(lines))),
    )
    for names in ("ab", "ab", "ac"):
        SuperLink(folder, keys, "127.0.0.1", 1).start({key: (key, f"line {key}\n") for key in names})
        assert asked.pop() == ("127.0.0.1:1", {name: f"line {name}" for name in names})
        assert found.pop() == [False] * 3
    SuperLink(folder, keys, "127.0.0.1", 1).restart()  # after it has died: it remembers the keys
    assert (found, asked) == ([[True] * 3], [])


def test_its_settings_are_toml_wherever_the_keys_are(tmp_path: Path) -> None:
    folder = tmp_path / 'a "market" \\ of \U0001f4c8 ü'
    folder.mkdir()
    for name in ("ca.crt", "server.crt", "server.key"):
        (folder / name).touch()
    for host, address in (("::1", "[::1]:1"), ("0.0.0.0", "127.0.0.1:1"), ("127.0.0.1", "127.0.0.1:1")):
        SuperLink(folder, folder, host, 1, expose_control=True)._write_settings()
        settings = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
        assert settings["superlink"]["market"] == {
            "address": address,
            "root-certificates": str(folder / "ca.crt"),
        }


def test_of_what_flower_says_the_last_line_with_words_is_told() -> None:
    said = "╭─ Error ─────╮\n│ the name is not that of the certificate │\n╰──────╯\n\n"
    assert _last_line(said) == "the name is not that of the certificate"
    assert _last_line("first\nlast\n=====") == "last"
    assert _last_line("╭──╮\n╰──╯") == "it said nothing"

"""What a SuperNode's log tells: connected or not, an answer still to send, an end that is one for good."""

from pathlib import Path

import pytest

from ipfl.network.supernode_log import END_LETTERS, connected, end_of, is_sending, key_not_let_in, refusal


@pytest.mark.parametrize(
    ("said", "is_connected", "sending"),
    [
        ("", False, False),
        ("SuperNode ID: 1", True, False),
        ("SuperNode ID: 1\nReceiving: query.market message\nReceived successfully", True, True),
        ("SuperNode ID: 1\nReceiving: query.market message\nSent successfully", True, False),
        ("SuperNode ID: 1\nConnection attempt failed, retrying in 0.30 seconds", False, False),
        ("Connection attempt failed, retrying\nConnection successful after 0.89 seconds", True, False),
    ],
)
def test_the_log_tells_whether_a_supernode_is_connected_and_sending(
    said: str, is_connected: bool, sending: bool
) -> None:
    assert (connected(said), is_sending(said)) == (is_connected, sending)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR : Exit Code: 606\nincompatible", "runs another version of Flower"),
        (
            "ERROR : Exit Code: 302\nUnable to parse the private key file.",
            "p0 is no key that Flower can read",
        ),
        ("ERROR : Exit Code: 305\n[code: 2004] Failed to activate SuperNode.", ""),
    ],
)
def test_an_end_that_trying_again_would_not_help_has_a_sentence(said: str, sentence: str) -> None:
    found = refusal(said, "market.example:443", Path("p0"))
    assert sentence in found
    assert bool(sentence) == bool(found)


@pytest.mark.parametrize(
    ("said", "is_refused"),
    [
        ("ERROR : Exit Code: 305\n[code: 2004] Failed to activate SuperNode.", True),
        ("ERROR : Exit Code: 302\nUnable to parse the private key file.", False),
        ("", False),
    ],
)
def test_a_key_that_is_not_let_in_is_told_from_other_ends(said: str, is_refused: bool) -> None:
    assert key_not_let_in(said) == is_refused


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    assert end_of(log) == ""
    log.write_bytes(b"\xff start" + b"." * END_LETTERS + b"the end")
    assert len(end_of(log)) == END_LETTERS
    assert end_of(log).endswith("the end")

"""What a SuperNode's log says: whether it is connected, whether it has an answer to send still, why it ended."""

from pathlib import Path

END_LETTERS = 20_000
"""So much of a log's end is read: more than a SuperNode writes between two things that matter."""
# what is said before it ends
_KEY_UNREADABLE, _NOT_ACTIVATED, _OTHER_VERSION = "Exit Code: 302", "[code: 2004]", "Exit Code: 606"


def end_of(log: Path) -> str:
    """The end of a log, which grows for as long as a SuperNode runs."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - END_LETTERS))
        return file.read().decode("utf-8", "replace")


def connected(said: str) -> bool:
    """Whether the last thing that a SuperNode's log says of its connection is that it stands.

    >>> connected("INFO : SuperNode ID: 12")
    True
    >>> connected("INFO : SuperNode ID: 12\\nWARNING : Connection attempt failed, retrying in 1.00 seconds")
    False
    """
    good = max(said.rfind("SuperNode ID:"), said.rfind("Connection successful"), said.rfind("Receiving:"))
    return good > said.rfind("Connection attempt failed")


def is_sending(said: str) -> bool:
    """Whether a SuperNode has received a message that it has not sent the answer to.

    >>> is_sending("INFO : Receiving: query.market message (ID: 1)\\nINFO : Received successfully")
    True
    >>> is_sending("INFO : Receiving: query.market message (ID: 1)\\nINFO : Sent successfully")
    False
    """
    done = ("Sent successfully", "Failed to send", "Ignoring reply", "Ignoring message", "Failed to receive")
    return said.rfind("Receiving:") > max(said.rfind(words) for words in done)


def refusal(said: str, address: str, key: Path) -> str:
    """One sentence for a SuperNode's end over which trying again would not help; empty for any other end.

    Args:
      said: its log.
      address: of the market.
      key: the participant's.
    """
    if _KEY_UNREADABLE in said:
        return f"{key} is no key that Flower can read, which is an ECDSA key in OpenSSH's format without a passphrase"
    if _OTHER_VERSION in said:
        return (
            f"the market at {address} runs another version of Flower than this machine: "
            "install the version of ipfl that the operator has"
        )
    return ""


def key_not_let_in(said: str) -> bool:
    """Whether a SuperNode ended because the SuperLink does not know its key, or takes it for connected already.

    >>> key_not_let_in("ERROR : Exit Code: 305\\n[code: 2004] Failed to activate SuperNode.")
    True
    """
    return _NOT_ACTIVATED in said

"""The errors of ipfl, and the exit code each one ends a command with.

    IpflError                  everything this package raises on purpose
    ├── ConfigError       (2)  a setting, a preset or an argument
    ├── DataError         (2)  participants' data
    ├── BidError          (2)  bids, distances or rules that no market can be cleared from
    ├── RunFolderError    (2)  a run folder that is missing, in the way, or unreadable
    ├── CheckpointError   (2)  a checkpoint that is damaged or belongs to another run
    ├── LedgerError       (2)  a ledger or receipt that is missing, damaged, in use, or against which a posting goes
    ├── KeyFileError      (2)  a key or certificate that is missing, unreadable by rights, or not what it should be
    ├── NetworkError      (1)  the market cannot be reached, or does not let a participant in
    ├── ReplyError        (1)  a participant's reply that cannot be used
    ├── EngineError       (1)  local training or evaluation failed
    └── InvariantError    (1)  a law of the market does not hold: our own fault, please report it

A message is one sentence that names what is wrong, where, and what to do about it.
"""

from typing import ClassVar


class IpflError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class ConfigError(IpflError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class DataError(IpflError):
    """Participants' data is missing, malformed or unusable."""

    exit_code = 2


class BidError(IpflError):
    """A bid, a distance or a pair of rules from which no market can be cleared."""

    exit_code = 2


class RunFolderError(IpflError):
    """A run folder is missing, not empty, incomplete or unreadable."""

    exit_code = 2


class CheckpointError(IpflError):
    """A checkpoint is damaged, or is not one of this run."""

    exit_code = 2


class LedgerError(IpflError):
    """The ledger or a receipt cannot be read, or a posting goes against what the ledger holds already."""

    exit_code = 2


class KeyFileError(IpflError):
    """A key or a certificate is missing, open to others, expired, or not the one it should be."""

    exit_code = 2


class NetworkError(IpflError):
    """The market cannot be reached or served over the network, or does not let a participant in."""


class ReplyError(IpflError):
    """A participant's reply cannot be used (wrong shape, not finite)."""


class EngineError(IpflError):
    """Local training or evaluation failed; the message names participant and round."""


class InvariantError(IpflError):
    """A law that the market promises does not hold. This is a fault of ipfl, not of its user."""


def check(holds: bool, law: str) -> None:
    """Raise `InvariantError` unless `holds`. Unlike `assert`, it stays on under `python -O`.

    >>> check(1 + 1 == 2, "arithmetic")
    >>> check(False, "money in equals money out")
    Traceback (most recent call last):
    ...
    ipfl.errors.InvariantError: broken law: money in equals money out
    """
    if not holds:
        raise InvariantError(f"broken law: {law}")

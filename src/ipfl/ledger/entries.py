"""Entries of the ledger: what is booked, in which form it is hashed, and what chains one to the next.

The chain: hash_n = SHA-256(hash_(n-1) + newline + canonical JSON of entry n), hexadecimal; what stands before the first
entry is 64 zeros. Canonical JSON has sorted keys, no blanks, UTF-8, and floats as Python's repr writes them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ipfl.errors import LedgerError, check
from ipfl.market.units import AMOUNT_MAX

GENESIS = "0" * 64
"""What stands in place of a hash before the first entry."""
KINDS = ("open", "join", "leave", "sale", "round", "reversal", "finish")
"""What an entry can be; only sales and reversals move money."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

Postings = tuple[tuple[str, int], ...]
"""Accounts and amounts in units; positive is received."""


def canonical(content: Any) -> str:
    """The one text of a value that JSON can say.

    >>> canonical({"b": [1, 0.5], "a": None})
    '{"a":null,"b":[1,0.5]}'
    """
    return _CANONICAL.encode(content)


@dataclass(frozen=True)
class Draft:
    """An entry before it has a place in the chain.

    `key` is its name for good: posted again it changes nothing. `account` is whose joining or leaving it is.
    """

    key: str
    kind: str
    round_index: int
    terms: Mapping[str, Any]
    postings: Postings = ()
    account: str | None = None

    def __post_init__(self) -> None:
        check(self.kind in KINDS, f"an entry is one of {', '.join(KINDS)}")
        check(sum(amount for _, amount in self.postings) == 0, f"the postings of {self.key} add up to zero")
        for name, amount in self.postings:
            whole = type(amount) is int and 0 < abs(amount) <= AMOUNT_MAX
            check(whole, f"what {self.key} posts to {name} is a whole number of units, not 0, at most 2**53")
        names = [name for name, _ in self.postings]
        check(len(set(names)) == len(names), f"{self.key} posts to each account once")


@dataclass(frozen=True)
class Entry:
    """An entry of the ledger, numbered from 1 and chained to the one before it."""

    seq: int
    key: str
    kind: str
    round_index: int
    account: str | None
    terms: Mapping[str, Any]
    postings: Postings
    prev: str
    hash: str

    @property
    def draft(self) -> Draft:
        """Its content, without its place."""
        return Draft(self.key, self.kind, self.round_index, self.terms, self.postings, self.account)


def text_of(seq: int, draft: Draft) -> str:
    """The canonical text that is hashed."""
    return canonical(
        {
            "seq": seq,
            "key": draft.key,
            "kind": draft.kind,
            "round_index": draft.round_index,
            "account": draft.account,
            "terms": draft.terms,
            "postings": draft.postings,
        }
    )


def chained(prev: str, text: str) -> str:
    """The hash of an entry.

    >>> chained(GENESIS, "{}")[:16]
    '5649d09ed68c1715'
    """
    return hashlib.sha256(f"{prev}\n{text}".encode()).hexdigest()


def same_or_refuse(entry: Entry, draft: Draft) -> None:
    """Let a repeated posting pass if it is the same in all things.

    Raises:
      LedgerError: the key is taken by another content; the message says what differs.
    """
    for part in ("kind", "round_index", "account", "terms", "postings"):
        was, now = canonical(getattr(entry, part)), canonical(getattr(draft, part))
        if was != now:
            raise LedgerError(
                f"entry {draft.key!r} is booked already with another {part} ({_short(was)}, not {_short(now)}): "
                "nothing was changed; what is booked is corrected by a reversal, never by posting again"
            )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."

"""From text to tokens: which of them are the response, and rows of unequal length side by side.

Where the response begins is found by the characters that each token covers, so it does not depend on how a
tokenizer happens to cut the template (the paper's code looks for the tokens of its marker, and drops the first two of
them by hand to suit one tokenizer).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ipfl.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Encoded:
    """One row as tokens: those from `start` on are the response, its end mark included."""

    ids: Int64[np.ndarray, "t"]
    start: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prefix(self) -> Int64[np.ndarray, "start"]:
        """What the response is a continuation of."""
        return self.ids[: self.start]


@dataclass(frozen=True, eq=False)
class Text:
    """What is to be encoded: the text before the response, the response, and where it comes from (for errors)."""

    prompt: str
    response: str
    where: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows side by side, filled up at their ends.

    Attributes:
      ids: tokens.
      row, position: where the next token is one of a response, in order of rows.
      target: that next token.
    """

    ids: Int64[torch.Tensor, "n t"]
    row: Int64[torch.Tensor, "labels"]
    position: Int64[torch.Tensor, "labels"]
    target: Int64[torch.Tensor, "labels"]

    def counts(self) -> Float32[torch.Tensor, "n"]:
        """How many tokens each row's response has."""
        return torch.bincount(self.row, minlength=len(self.ids)).to(torch.float32)

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        parts = (self.ids, self.row, self.position, self.target)
        return Batch(*(part.to(device) for part in parts))


def encode(tokenizer: Any, texts: Sequence[Text], tokens_max: int) -> list[Encoded]:
    """Rows as tokens, each ended by the tokenizer's end mark.

    Args:
      tokenizer: a fast one, with an end mark.
      texts: what to encode.
      tokens_max: a longer row is refused: its response would be cut off.
    Raises:
      ConfigError: a tokenizer that gives no offsets, or has no end mark.
      DataError: a row that is too long, or whose response has no token of its own; names it.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            "the base's tokenizer is a slow one, which does not say what text a token covers: "
            "give the base a tokenizer.json"
        )
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the base's tokenizer has no end mark (eos_token), so a response would have no end: "
            "set one in its tokenizer_config.json"
        )
    if not texts:
        return []
    found = tokenizer(
        [text.prompt + text.response for text in texts], return_offsets_mapping=True, verbose=False
    )
    return [
        _encoded(text, ids, offsets, tokenizer.eos_token_id, tokens_max)
        for text, ids, offsets in zip(texts, found["input_ids"], found["offset_mapping"], strict=True)
    ]


def _encoded(
    text: Text, ids: list[int], offsets: list[tuple[int, int]], end_mark: int, tokens_max: int
) -> Encoded:
    while ids and offsets[len(ids) - 1][0] == offsets[len(ids) - 1][1] and ids[-1] == end_mark:
        ids = ids[:-1]  # some tokenizers set it themselves
    ids = [*ids, end_mark]
    if len(ids) > tokens_max:
        raise DataError(
            f"{text.where}: {len(ids)} tokens, of which language.max_tokens = {tokens_max} would cut off the "
            "response; raise it, or shorten the row"
        )
    start = next(
        (place for place, (_, end) in enumerate(offsets[: len(ids) - 1]) if end > len(text.prompt)), None
    )
    if not start:
        what = "response" if start is None else "prompt"
        raise DataError(f"{text.where}: the base's tokenizer makes no token of the {what} {text.response!r}")
    return Encoded(np.array(ids, dtype=np.int64), start)


def batch(rows: Sequence[Encoded | None], filler: int, width: int = 0) -> Batch:
    """Rows side by side; None is a row of `filler` alone, without a response.

    Args:
      rows: one at least that is not None.
      filler: the token to fill up with; it is behind all that counts, so no result depends on it.
      width: of the batch, at least the longest row.

    >>> both = batch([Encoded(np.array([5, 6, 7]), 1), Encoded(np.array([5, 8]), 1)], filler=0)
    >>> both.ids.tolist(), both.row.tolist(), both.position.tolist(), both.target.tolist()
    ([[5, 6, 7], [5, 8, 0]], [0, 0, 1], [0, 1, 0], [6, 7, 8])
    """
    width = max(width, max(len(row) for row in rows if row is not None))
    ids = np.full((len(rows), width), filler, dtype=np.int64)
    where, position, target = [], [], []
    for place, row in enumerate(rows):
        if row is None:
            continue
        ids[place, : len(row)] = row.ids
        labelled = np.arange(row.start, len(row))
        where.append(np.full(len(labelled), place))
        position.append(labelled - 1)
        target.append(row.ids[labelled])
    return Batch(
        torch.from_numpy(ids),
        *(torch.from_numpy(np.concatenate(part)) for part in (where, position, target)),
    )

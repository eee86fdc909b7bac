"""Greedy generation: what an adapted model really writes. The reference for `answers.judge`, and what `chat` uses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ipfl.learning.language import needed

ROWS_AT_ONCE = 32


def generate(
    model: Any, prefixes: Sequence[np.ndarray], end_mark: int, filler: int, max_new_tokens: int
) -> list[list[int]]:
    """The likeliest continuation of every prefix, token by token, up to and with the end mark.

    Args:
      model: a causal language model of transformers, with or without adapters.
      prefixes: tokens to go on from, (t,) each.
      end_mark: where a text ends.
      filler: a token to fill up with.
      max_new_tokens: a text that has not ended by then is cut off.
    """
    written: list[list[int]] = []
    for start in range(0, len(prefixes), ROWS_AT_ONCE):
        written += _continued(model, prefixes[start : start + ROWS_AT_ONCE], end_mark, filler, max_new_tokens)
    return written


def _continued(
    model: Any, prefixes: Sequence[np.ndarray], end_mark: int, filler: int, max_new_tokens: int
) -> list[list[int]]:
    device = model.get_input_embeddings().weight.device
    width = max(map(len, prefixes))
    ids = torch.full((len(prefixes), width), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prefix in enumerate(prefixes):  # filled up in front, so that all go on from the same place
        ids[row, width - len(prefix) :] = torch.from_numpy(np.asarray(prefix))
        mask[row, width - len(prefix) :] = 1
    with torch.inference_mode(), needed.quietly():
        whole = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=max_new_tokens,
            eos_token_id=end_mark,
            pad_token_id=filler,
        )
    return [_until(row[width:].tolist(), end_mark) for row in whole]


def _until(tokens: list[int], end_mark: int) -> list[int]:
    return tokens[: tokens.index(end_mark) + 1] if end_mark in tokens else tokens

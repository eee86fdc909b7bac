"""Judging adapters without generating: loss, exact match and the likeliest choice, from one pass per row.

Greedy generation gives the reference text if and only if, with the reference as its past, every next token of it is
the likeliest (by induction on the length). So exact match is read from a pass that is teacher-forced; `generate` is
the reference that the tests hold it against. A text reached by another cut into tokens counts as a miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch.nn.functional import cross_entropy

from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.base import Base
from ipfl.learning.language.encode import Encoded, batch

TOKENS_AT_ONCE = 16_384
"""Tokens that one pass takes forward, fillers included."""


@dataclass(frozen=True, eq=False)
class Question:
    """One row to be judged: `answers` to the same prompt, of which the one at the place `right` is the right one."""

    answers: tuple[Encoded, ...]
    right: int


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What b models make of n questions each.

    Attributes:
      loss: cross-entropy per token of the right answer.
      match: whether greedy decoding gives the right answer, to its end mark.
      choice: whether the right answer is the likeliest of those offered; where nothing is offered, never.
    """

    loss: Float32[np.ndarray, "b n"]
    match: Bool[np.ndarray, "b n"]
    choice: Bool[np.ndarray, "b n"]


def judge(
    base: Base,
    adapters: Adapters,
    theta: Float[torch.Tensor, "b p"],
    questions: Sequence[Sequence[Question]],
    score: str,
) -> Verdicts:
    """Judge b adapters, each on as many questions of its own.

    Args:
      base: the frozen model.
      adapters: its adapted layers.
      theta: one adapter per row.
      questions: of each adapter.
      score: of a choice: the "sum" of its tokens' log-scores or their "mean"; "no": do not look at the others.
    """
    flat = [
        [(place, option) for place, question in enumerate(own) for option in _asked(question, score)]
        for own in questions
    ]
    rows = [
        [own[place].answers[option] for place, option in pieces]
        for own, pieces in zip(questions, flat, strict=True)
    ]
    sums, hits = _passes(base, adapters, theta, rows)
    num_questions = max(map(len, questions))
    loss = np.full((len(theta), num_questions), np.nan, dtype=np.float32)
    match = np.zeros(loss.shape, dtype=bool)
    choice = np.zeros(loss.shape, dtype=bool)
    for model, (own, pieces) in enumerate(zip(questions, flat, strict=True)):
        scores: dict[int, list[tuple[float, int]]] = {}
        for column, (place, option) in enumerate(pieces):
            row = rows[model][column]
            count = len(row) - row.start
            mean = sums[model, column] / count
            scores.setdefault(place, []).append(
                (float(mean if score == "mean" else sums[model, column]), option)
            )
            if option == own[place].right:
                loss[model, place] = mean
                match[model, place] = hits[model, column] == count
        for place, found in scores.items():
            if len(found) > 1:
                choice[model, place] = min(found)[1] == own[place].right
    return Verdicts(loss, match, choice)


def _asked(question: Question, score: str) -> Sequence[int]:
    """Which answers need a pass."""
    return [question.right] if score == "no" else range(len(question.answers))


def _passes(
    base: Base, adapters: Adapters, theta: torch.Tensor, rows: Sequence[Sequence[Encoded]]
) -> tuple[np.ndarray, np.ndarray]:
    """Of every model's every row: summed cross-entropy of its response, and how many tokens were the likeliest."""
    b, most = len(rows), max(map(len, rows))
    sums, hits = np.zeros((b, most)), np.zeros((b, most), dtype=np.int64)
    order = [np.argsort([len(row) for row in own], kind="stable").tolist() for own in rows]
    pairs = adapters.pairs(theta)
    start = 0
    while start < most:
        count = _fitting(rows, order, start)
        pieces = [places[start : start + count] for places in order]
        taken: list[Encoded | None] = []
        for own, places in zip(rows, pieces, strict=True):
            taken += [own[place] for place in places] + [None] * (count - len(places))
        packed = batch(taken, base.filler).to(theta.device)
        with torch.inference_mode(), adapters.bound(pairs):
            scores = base.scores(packed)
            losses = cross_entropy(scores, packed.target, reduction="none").double()
            right = (scores.argmax(1) == packed.target).long()
        total = torch.zeros(len(taken), dtype=torch.float64, device=theta.device)
        total.index_add_(0, packed.row, losses)
        found = torch.zeros(len(taken), dtype=torch.long, device=theta.device).index_add_(
            0, packed.row, right
        )
        for model, places in enumerate(pieces):
            columns = slice(model * count, model * count + len(places))
            sums[model, places] = total[columns].cpu().numpy()
            hits[model, places] = found[columns].cpu().numpy()
        start += count
    return sums, hits


def _fitting(rows: Sequence[Sequence[Encoded]], order: Sequence[Sequence[int]], start: int) -> int:
    """How many rows of each model, from `start` on in order of length, one pass takes."""
    longest, count = 0, 0
    most = max(map(len, rows))
    while start + count < most:
        ahead = [
            own[places[start + count]]
            for own, places in zip(rows, order, strict=True)
            if start + count < len(own)
        ]
        longest = max(longest, max(map(len, ahead)))
        if count and longest * (count + 1) * len(rows) > TOKENS_AT_ONCE:
            break
        count += 1
    return count

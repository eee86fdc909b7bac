"""Evaluation of torch modules in this process: sheets are filled in large batches, models stacked where that pays."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from ipfl.data.exams import TRIAL, Exam, trial_rows
from ipfl.data.tasks import Split
from ipfl.engines.models import Models
from ipfl.engines.sheets import JudgingBatch, Piece, Sheet
from ipfl.learning import Stack, examine
from ipfl.learning.evaluate import BATCH
from ipfl.types import EvaluateJob

BLOCK = 32
"""Models that are stacked to be judged together."""
SLICE = 4 * BATCH
"""Examples that one piece of work holds, of a model that is judged by itself."""
SHARED_FROM = 4
"""Models from which a set of examples is handed to a stack of them as one."""


class Judge:
    """Runs evaluation jobs on the participants' exams."""

    def __init__(
        self,
        models: Models,
        stack: Stack | None,
        exams: Sequence[tuple[Exam[Split], ...]],
        training_sets: Sequence[Split],
        seed: int = 0,
    ):
        """`exams`: of every participant; `training_sets`: what it learns from, and (by `seed`) tries others' models on.

        `stack`: to judge models together.
        """
        self._models = models
        self._stack = stack
        self._exams = exams
        self._training = [Exam(split, {"train": None}) for split in training_sets]
        self._trials = [
            Exam(Split(split.x[rows], split.y[rows]), {TRIAL: None})
            for split, rows in (
                (split, trial_rows(len(split), seed, index)) for index, split in enumerate(training_sets)
            )
        ]

    def batch(self, jobs: Sequence[EvaluateJob]) -> "JudgingBatch[Split]":
        """The sheets that answer some jobs."""
        return JudgingBatch(self, jobs)

    def exams_of(self, job: EvaluateJob) -> list[Exam[Split]]:
        """The participant's exams in which a split that is asked for stands."""
        own = [*self._exams[job.participant], self._training[job.participant], self._trials[job.participant]]
        return [exam for exam in own if any(name in exam.weights for name in job.splits)]

    def pieces(
        self, sheets: Sequence[Sheet[Split]], params: Sequence[np.ndarray], buffers: Sequence[np.ndarray]
    ) -> list[Piece]:
        """Work that fills the sheets, to be done in any order."""
        stack = self._stack
        if stack is None:
            return [
                partial(self._judge_one, sheet, start, params[sheet.model], buffers[sheet.model])
                for sheet in sheets
                for start in range(0, len(sheet.examples), SLICE)
            ]
        by_examples: dict[int, list[Sheet[Split]]] = {}
        for sheet in sheets:
            by_examples.setdefault(id(sheet.examples), []).append(sheet)
        shared = [group for group in by_examples.values() if len(group) >= SHARED_FROM]
        own = [sheet for group in by_examples.values() if len(group) < SHARED_FROM for sheet in group]
        own.sort(key=lambda sheet: len(sheet.examples))  # sheets of a block are filled up to the longest
        judge = partial(self._judge_stack, stack, params, buffers)
        return [
            *(partial(judge, block, True) for group in shared for block in _blocks(group)),
            *(partial(judge, block, False) for block in _blocks(own)),
        ]

    def _judge_one(self, sheet: Sheet[Split], start: int, params: np.ndarray, buffers: np.ndarray) -> None:
        x, y = _tensors(sheet.examples, slice(start, start + SLICE))
        with self._models.borrowed() as model:
            model.load(params, buffers)
            losses, correct = examine(model, x.to(self._models.device), y.to(self._models.device))
        sheet.fill(start, losses, correct)

    def _judge_stack(
        self,
        stack: Stack,
        params: Sequence[np.ndarray],
        buffers: Sequence[np.ndarray],
        sheets: Sequence[Sheet[Split]],
        shared: bool,
    ) -> None:
        device = self._models.device
        theta = torch.from_numpy(np.stack([params[sheet.model] for sheet in sheets])).to(device)
        kept = torch.from_numpy(np.stack([buffers[sheet.model] for sheet in sheets])).to(device)
        if shared:
            x, y = _tensors(sheets[0].examples, slice(None))
        else:
            longest = max(len(sheet.examples) for sheet in sheets)
            rows = [np.arange(longest) % len(sheet.examples) for sheet in sheets]
            x, y = (
                torch.stack(parts)
                for parts in zip(
                    *(_tensors(sheet.examples, r) for sheet, r in zip(sheets, rows, strict=True)), strict=True
                )
            )
        losses, correct = stack.examine(theta, kept, x.to(device), y.to(device))
        for sheet, found, right in zip(sheets, losses.cpu().numpy(), correct.cpu().numpy(), strict=True):
            sheet.fill(0, found[: len(sheet.examples)], right[: len(sheet.examples)])


def _blocks(sheets: Sequence[Sheet[Split]]) -> list[Sequence[Sheet[Split]]]:
    return [sheets[start : start + BLOCK] for start in range(0, len(sheets), BLOCK)]


def _tensors(examples: Split, rows: slice | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = examples.x[rows], examples.y[rows]
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(y))

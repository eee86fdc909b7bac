"""Evaluation jobs in this process: every distinct model meets every set of examples once, in large batches.

Which models and examples belong together is sorted out for all jobs of a call at once, so that equal models (those of
federated averaging) are judged once on what they share, and all protocols are read from the same outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float32

from ipfl.data.exams import Exam
from ipfl.data.tasks import Split
from ipfl.engines.models import Models
from ipfl.learning import Stack, examine
from ipfl.learning.evaluate import BATCH
from ipfl.types import EvaluateJob, EvaluateReply

BLOCK = 32
"""Models that are stacked to be judged together."""
SLICE = 4 * BATCH
"""Examples that one piece of work holds, of a model that is judged by itself."""
SHARED_FROM = 4
"""Models from which a set of examples is handed to a stack of them as one."""
ENTRIES_MAX = 50_000_000
"""Outcomes of single examples that are held at once."""
Piece = Callable[[], None]


@dataclass(eq=False)
class Sheet:
    """One model's answers on one set of examples; `needed_by` says for which jobs and rows."""

    model: int
    examples: Split
    losses: Float32[np.ndarray, "n"] | None = None
    correct: Bool[np.ndarray, "n"] | None = None
    needed_by: list[tuple[int, int, Exam]] = field(default_factory=list)

    def fill(self, start: int, losses: np.ndarray, correct: np.ndarray) -> None:
        """Write down the answers from example `start` on."""
        if self.losses is None or self.correct is None:
            raise RuntimeError("the sheet was not laid out")
        self.losses[start : start + len(losses)] = losses
        self.correct[start : start + len(correct)] = correct


class Judge:
    """Runs evaluation jobs on the participants' exams."""

    def __init__(
        self,
        models: Models,
        stack: Stack | None,
        exams: Sequence[tuple[Exam, ...]],
        training_sets: Sequence[Split],
    ):
        """`exams`: of every participant; `training_sets`: what it learns from. `stack`: to judge models together."""
        self._models = models
        self._stack = stack
        self._exams = exams
        self._training = [Exam(split, {"train": None}) for split in training_sets]

    def batch(self, jobs: Sequence[EvaluateJob]) -> "JudgingBatch":
        """The sheets that answer some jobs."""
        return JudgingBatch(self, jobs)

    def exams_of(self, job: EvaluateJob) -> list[Exam]:
        """The participant's exams in which a split that is asked for stands."""
        own = [*self._exams[job.participant], self._training[job.participant]]
        return [exam for exam in own if any(name in exam.weights for name in job.splits)]

    def pieces(
        self, sheets: Sequence[Sheet], params: Sequence[np.ndarray], buffers: Sequence[np.ndarray]
    ) -> list[Piece]:
        """Work that fills the sheets, to be done in any order."""
        stack = self._stack
        if stack is None:
            return [
                partial(self._judge_one, sheet, start, params[sheet.model], buffers[sheet.model])
                for sheet in sheets
                for start in range(0, len(sheet.examples), SLICE)
            ]
        by_examples: dict[int, list[Sheet]] = {}
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

    def _judge_one(self, sheet: Sheet, start: int, params: np.ndarray, buffers: np.ndarray) -> None:
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
        sheets: Sequence[Sheet],
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


class JudgingBatch:
    """The evaluation jobs of one call: their sheets, in portions of bounded size."""

    def __init__(self, judge: Judge, jobs: Sequence[EvaluateJob]):
        self._judge = judge
        self.jobs = jobs
        self._params: list[np.ndarray] = []
        self._buffers: list[np.ndarray] = []
        self._loss = [np.full((len(job.params), len(job.splits)), np.nan) for job in jobs]
        self._accuracy = [loss.copy() for loss in self._loss]
        self._sheets = self._laid_out()

    def portions(self) -> list[list[Sheet]]:
        """The sheets, cut so that what is held at once stays bounded."""
        portions: list[list[Sheet]] = [[]]
        held = 0
        for sheet in self._sheets:
            if portions[-1] and held + len(sheet.examples) > ENTRIES_MAX:
                portions.append([])
                held = 0
            portions[-1].append(sheet)
            held += len(sheet.examples)
        return portions

    def pieces(self, portion: Sequence[Sheet]) -> list[Piece]:
        """Work that answers a portion, to be done in any order; then `collect` it."""
        for sheet in portion:
            sheet.losses = np.empty(len(sheet.examples), dtype=np.float32)
            sheet.correct = np.empty(len(sheet.examples), dtype=bool)
        return self._judge.pieces(portion, self._params, self._buffers)

    def collect(self, portion: Sequence[Sheet]) -> None:
        """Read every split's mean loss and accuracy from the filled sheets, and let go of them."""
        for sheet in portion:
            if sheet.losses is None or sheet.correct is None:
                raise RuntimeError("the sheet was not laid out")
            for place, row, exam in sheet.needed_by:
                splits = self.jobs[place].splits
                for column, name in enumerate(splits):
                    if name in exam.weights:
                        weights = exam.weights[name]
                        self._loss[place][row, column] = mean(sheet.losses, weights)
                        self._accuracy[place][row, column] = share(sheet.correct, weights)
            sheet.losses = sheet.correct = None

    def replies(self) -> list[EvaluateReply]:
        """Every job's reply."""
        return [
            EvaluateReply(job.participant, loss, accuracy)
            for job, loss, accuracy in zip(self.jobs, self._loss, self._accuracy, strict=True)
        ]

    def _laid_out(self) -> list[Sheet]:
        """One sheet per distinct model and set of examples."""
        sheets: dict[tuple[int, int], Sheet] = {}
        known: dict[bytes, list[int]] = {}
        for place, job in enumerate(self.jobs):
            exams = self._judge.exams_of(job)
            for row, (params, buffers) in enumerate(zip(job.params, job.buffers, strict=True)):
                model = self._number_of(params, buffers, known)
                for exam in exams:
                    key = (model, id(exam.examples))
                    sheet = sheets.setdefault(key, Sheet(model, exam.examples))
                    sheet.needed_by.append((place, row, exam))
        return list(sheets.values())

    def _number_of(self, params: np.ndarray, buffers: np.ndarray, known: dict[bytes, list[int]]) -> int:
        """The number of this model among the distinct ones; models are compared whole only where samples agree."""
        sample = params[:: max(1, len(params) // 64)].tobytes()
        for number in known.setdefault(sample, []):
            if np.array_equal(self._params[number], params) and np.array_equal(
                self._buffers[number], buffers
            ):
                return number
        known[sample].append(len(self._params))
        self._params.append(params)
        self._buffers.append(buffers)
        return len(self._params) - 1


def mean(losses: Float32[np.ndarray, "n"], weights: np.ndarray | None) -> float:
    """The weighted mean; an example that does not count does not, however wrong the model is on it."""
    if weights is None:
        return float(losses.mean(dtype=np.float64))
    counted = weights > 0
    return float((losses[counted] * weights[counted]).sum())


def share(correct: Bool[np.ndarray, "n"], weights: np.ndarray | None) -> float:
    """The share that is correct; exactly the quotient of two counts where all count alike."""
    if weights is None:
        return int(correct.sum()) / len(correct)
    return min(1.0, float(np.sum(weights[correct])))  # weights add up to 1 but for rounding


def _blocks(sheets: Sequence[Sheet]) -> list[Sequence[Sheet]]:
    return [sheets[start : start + BLOCK] for start in range(0, len(sheets), BLOCK)]


def _tensors(examples: Split, rows: slice | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = examples.x[rows], examples.y[rows]
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(y))

"""Evaluation jobs sorted out: every distinct model meets every set of examples once, on a sheet of its own.

Which models and examples belong together is found for all jobs of a call at once, so that equal models (those of
federated averaging) are judged once on what they share, and all protocols are read from the same outputs. Whoever
fills the sheets (`SheetFiller`) knows what an example is; nothing here does.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32

from ipfl.data.exams import Exam
from ipfl.types import EvaluateJob, EvaluateReply

ENTRIES_MAX = 50_000_000
"""Outcomes of single examples that are held at once."""
Piece = Callable[[], None]
Examples = TypeVar("Examples", bound=Sized)


@dataclass(eq=False)
class Sheet(Generic[Examples]):
    """One model's answers on one set of examples; `needed_by` says for which jobs and rows.

    `likeliest` (language models): whether the right one is the likeliest of the answers offered.
    """

    model: int
    examples: Examples
    losses: Float32[np.ndarray, "n"] | None = None
    correct: Bool[np.ndarray, "n"] | None = None
    likeliest: Bool[np.ndarray, "n"] | None = None
    needed_by: list[tuple[int, int, Exam[Examples]]] = field(default_factory=list)

    def fill(self, start: int, losses: np.ndarray, correct: np.ndarray) -> None:
        """Write down the answers from example `start` on."""
        if self.losses is None or self.correct is None:
            raise RuntimeError("the sheet was not laid out")
        self.losses[start : start + len(losses)] = losses
        self.correct[start : start + len(correct)] = correct


@runtime_checkable
class SheetFiller(Protocol[Examples]):
    """Judges models on examples."""

    def exams_of(self, job: EvaluateJob) -> list[Exam[Examples]]:
        """The participant's exams in which a split that is asked for stands."""
        ...

    def pieces(
        self, sheets: Sequence[Sheet[Examples]], params: Sequence[np.ndarray], buffers: Sequence[np.ndarray]
    ) -> list[Piece]:
        """Work that fills the sheets, to be done in any order."""
        ...


class JudgingBatch(Generic[Examples]):
    """The evaluation jobs of one call: their sheets, in portions of bounded size."""

    def __init__(self, judge: SheetFiller[Examples], jobs: Sequence[EvaluateJob]):
        self._judge = judge
        self.jobs = jobs
        self._params: list[np.ndarray] = []
        self._buffers: list[np.ndarray] = []
        self._loss = [np.full((len(job.params), len(job.splits)), np.nan) for job in jobs]
        self._accuracy = [loss.copy() for loss in self._loss]
        self._choice = [loss.copy() for loss in self._loss]
        self._error = [loss.copy() for loss in self._loss]
        self._sheets = self._laid_out()

    def portions(self) -> list[list[Sheet[Examples]]]:
        """The sheets, cut so that what is held at once stays bounded."""
        portions: list[list[Sheet[Examples]]] = [[]]
        held = 0
        for sheet in self._sheets:
            if portions[-1] and held + len(sheet.examples) > ENTRIES_MAX:
                portions.append([])
                held = 0
            portions[-1].append(sheet)
            held += len(sheet.examples)
        return portions

    def pieces(self, portion: Sequence[Sheet[Examples]]) -> list[Piece]:
        """Work that answers a portion, to be done in any order; then `collect` it."""
        for sheet in portion:
            sheet.losses = np.empty(len(sheet.examples), dtype=np.float32)
            sheet.correct = np.empty(len(sheet.examples), dtype=bool)
        return self._judge.pieces(portion, self._params, self._buffers)

    def collect(self, portion: Sequence[Sheet[Examples]]) -> None:
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
                        self._error[place][row, column] = standard_error(sheet.losses, weights)
                        self._accuracy[place][row, column] = share(sheet.correct, weights)
                        if sheet.likeliest is not None:
                            self._choice[place][row, column] = share(sheet.likeliest, weights)
            sheet.losses = sheet.correct = sheet.likeliest = None

    def replies(self) -> list[EvaluateReply]:
        """Every job's reply."""
        return [
            EvaluateReply(job.participant, loss, accuracy, None if np.isnan(choice).all() else choice, error)
            for job, loss, accuracy, choice, error in zip(
                self.jobs, self._loss, self._accuracy, self._choice, self._error, strict=True
            )
        ]

    def _laid_out(self) -> list[Sheet[Examples]]:
        """One sheet per distinct model and set of examples."""
        sheets: dict[tuple[int, int], Sheet[Examples]] = {}
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


def standard_error(losses: Float32[np.ndarray, "n"], weights: np.ndarray | None) -> float:
    """Of `mean`, where all examples count alike; NaN with weights, of a single example, or where a loss is infinite."""
    if weights is not None or len(losses) < 2 or not np.isfinite(losses).all():
        return float("nan")
    return float(losses.std(ddof=1, dtype=np.float64) / np.sqrt(len(losses)))


def share(correct: Bool[np.ndarray, "n"], weights: np.ndarray | None) -> float:
    """The share that is correct; exactly the quotient of two counts where all count alike."""
    if weights is None:
        return int(correct.sum()) / len(correct)
    return min(1.0, float(np.sum(weights[correct])))  # weights add up to 1 but for rounding

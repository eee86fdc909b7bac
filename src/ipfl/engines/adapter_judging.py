"""Evaluation of adapters: every distinct adapter meets every set of rows once, some adapters at a time."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ipfl.config import LanguageConfig
from ipfl.data.exams import TRIAL, Exam, trial_rows
from ipfl.data.instructions import Instructions, InstructionTask, prompt, template_text
from ipfl.engines.sheets import JudgingBatch, Piece, Sheet
from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.answers import Question, judge
from ipfl.learning.language.base import Base
from ipfl.learning.language.encode import Encoded, Text, encode
from ipfl.learning.language.generate import generate
from ipfl.types import EvaluateJob

TOGETHER = 4
"""Adapters that are judged in one go."""


class AdapterJudge:
    """Runs evaluation jobs on the participants' rows.

    A participant's "common" split, on which the protocol `paper` both chooses the round and reports, is its test
    rows: the paper's code selects the adapter by the very file that it reports on.
    """

    def __init__(
        self, base: Base, adapters: Adapters, language: LanguageConfig, task: InstructionTask, seed: int
    ):
        """Encode all that anybody can be judged on; raises what `encode` does."""
        self._base, self._adapters, self._language = base, adapters, language
        self._exams = [
            [
                Exam(entry.test, {"test": None, "common": None}),
                *([Exam(entry.validation, {"validation": None})] if entry.validation is not None else []),
                Exam(entry.train, {"train": None}),
                Exam(_trial(entry.train, seed, index), {TRIAL: None}),
            ]
            for index, entry in enumerate(task.participants)
        ]
        template = template_text(language, judging=True)
        self._questions = {
            id(exam.examples): questions(
                base.tokenizer, exam.examples, template, language, f"participant {entry.participant_id!r}"
            )
            for entry, exams in zip(task.participants, self._exams, strict=True)
            for exam in exams
        }

    def batch(self, jobs: Sequence[EvaluateJob]) -> JudgingBatch[Instructions]:
        """The sheets that answer some jobs."""
        return JudgingBatch(self, jobs)

    def exams_of(self, job: EvaluateJob) -> list[Exam[Instructions]]:
        """The participant's exams in which a split that is asked for stands."""
        return [
            exam for exam in self._exams[job.participant] if any(name in exam.weights for name in job.splits)
        ]

    def pieces(
        self,
        sheets: Sequence[Sheet[Instructions]],
        params: Sequence[np.ndarray],
        buffers: Sequence[np.ndarray],
    ) -> list[Piece]:
        """Work that fills the sheets: those of like length together."""
        ordered = sorted(sheets, key=lambda sheet: len(sheet.examples))
        together = TOGETHER if self._language.match == "forced" else 1
        return [
            partial(self._fill, ordered[start : start + together], params)
            for start in range(0, len(ordered), together)
        ]

    def _fill(self, sheets: Sequence[Sheet[Instructions]], params: Sequence[np.ndarray]) -> None:
        device = self._base.device
        theta = torch.from_numpy(np.stack([params[sheet.model] for sheet in sheets])).to(device)
        asked = [self._questions[id(sheet.examples)] for sheet in sheets]
        found = judge(self._base, self._adapters, theta, asked, self._language.score_choices)
        for model, sheet in enumerate(sheets):
            count = len(sheet.examples)
            match = found.match[model, :count]
            if self._language.match == "generated":
                match = self._generated(theta, asked[model])
            sheet.fill(0, found.loss[model, :count], match)
            if any(len(question.answers) > 1 for question in asked[model]):
                sheet.likeliest = found.choice[model, :count]

    def _generated(self, theta: torch.Tensor, asked: Sequence[Question]) -> np.ndarray:
        """Whether what the adapter writes is the response, text against text."""
        right = [question.answers[question.right] for question in asked]
        tokenizer = self._base.tokenizer
        with self._adapters.bound(self._adapters.pairs(theta)):
            written = generate(
                self._base.model,
                [row.prefix for row in right],
                tokenizer.eos_token_id,
                self._base.filler,
                self._language.max_new_tokens,
            )
        return np.array(
            [
                plain(tokenizer, text) == plain(tokenizer, row.ids[row.start :].tolist())
                for text, row in zip(written, right, strict=True)
            ]
        )


def _trial(rows: Instructions, seed: int, participant: int) -> Instructions:
    """The rows that a participant tries others' adapters on."""
    return Instructions(tuple(rows.rows[place] for place in trial_rows(len(rows), seed, participant)))


def questions(
    tokenizer: Any, rows: Instructions, template: str, language: LanguageConfig, whose: str
) -> list[Question]:
    """Rows as tokens: each with the answers that it offers, or with the right one alone."""
    scored = language.score_choices != "no"
    texts: list[Text] = []
    shapes: list[tuple[int, int]] = []
    for number, row in enumerate(rows.rows, 1):
        answers = row.choices if scored and row.choices else (row.response,)
        where = row.where or f"{whose}, row {number}"
        shapes.append((len(answers), answers.index(row.response)))
        texts += [Text(prompt(template, row.instruction), answer, where) for answer in answers]
    encoded = iter(encode(tokenizer, texts, language.max_tokens))
    return [Question(tuple(next(encoded) for _ in range(count)), right) for count, right in shapes]


def training_rows(
    tokenizer: Any, rows: Instructions, template: str, language: LanguageConfig, whose: str
) -> list[Encoded]:
    """Rows as tokens, to be learnt from."""
    texts = [
        Text(prompt(template, row.instruction), row.response, row.where or f"{whose}, row {number}")
        for number, row in enumerate(rows.rows, 1)
    ]
    return encode(tokenizer, texts, language.max_tokens)


def plain(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Tokens as text, without marks and without spaces at the ends."""
    return str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()

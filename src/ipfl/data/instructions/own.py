"""A task of instructions from a folder of one's own files, one per participant.

The only thing taken from all files together is the list of answers, where there are few.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ipfl.data.instructions.reading import ENDINGS, Row, read_rows
from ipfl.data.instructions.rows import Instruction, InstructionData, Instructions, InstructionTask
from ipfl.data.own import ARRAYS, FOLDER_TASK, OTHER_DATA, check_split
from ipfl.data.participant_files import participant_files
from ipfl.errors import DataError
from ipfl.seeding import generator

OTHERS = (*(one for one in OTHER_DATA if one not in ENDINGS), *ARRAYS, ".csv", ".json")
ANSWERS_MAX = 20
"""More different responses than this are free text."""
TEXT = "text"
"""The one class of free text."""
ROWS_MIN = 2


def load_instruction_folder(folder: str | Path, test_fraction: float = 0.3, seed: int = 0) -> InstructionTask:
    """The task whose participants are the .jsonl and .parquet files of a folder, in the order of their ids.

    A file's name without its ending is its participant's id. A row has the fields `instruction` and `response` (or
    `output`), and may have `input`, which is put behind the instruction, and `choices`, the answers that it offers.

    Where all files together have at most 20 different responses, which is at most half as many as rows, responses are
    the classes, and are offered by every row that has no choices of its own. Rows are taken as they are: one that
    stands twice counts twice, and may be in training and in tests.

    Laws: every row is in exactly one of training and tests; no participant's file decides which rows of another are
    kept for tests.

    Args:
      folder: where the files lie; subfolders, hidden files and files such as .md or .toml are left alone.
      test_fraction: the part of each participant's rows kept for testing, in (0, 1); at least one row.
      seed: decides which rows.
    Raises:
      DataError: one sentence naming file, row and field, what is wrong and what to do.
      ConfigError: test_fraction or seed out of range.
    """
    check_split(test_fraction, seed)
    files = participant_files(Path(folder), ENDINGS, OTHERS, " or ".join(ENDINGS))
    read = [read_own_rows(path) for path in files]
    answers = _answers([row for rows in read for row in rows])
    participants = [
        participant_rows(path.stem, rows, answers, index, test_fraction, seed)
        for index, (path, rows) in enumerate(zip(files, read, strict=True))
    ]
    return InstructionTask(FOLDER_TASK, tuple(participants), answers or (TEXT,))


def participant_rows(
    name: str,
    rows: Sequence[Instruction],
    answers: tuple[str, ...],
    index: int,
    test_fraction: float,
    seed: int,
) -> InstructionData:
    """One participant's rows, some of them kept for tests; `index` is its place among all."""
    counted = [_counted(row, answers) for row in rows]
    test = np.zeros(len(rows), dtype=bool)
    kept = int(np.clip(round(test_fraction * len(rows)), 1, len(rows) - 1))
    test[generator(seed, -1, index, "split").permutation(len(rows))[:kept]] = True
    splits = [
        tuple(row for row, tests in zip(counted, test, strict=True) if tests == wanted)
        for wanted in (False, True)
    ]
    return InstructionData(name, *map(Instructions, splits))


def read_own_rows(path: Path) -> list[Instruction]:
    """The rows of one participant's file.

    Raises:
      DataError: it cannot be read, or has too few.
    """
    rows = [_instruction(row) for row in read_rows(path)]
    if len(rows) < ROWS_MIN:
        raise DataError(
            f"{path.name} has {len(rows)} row, fewer than the {ROWS_MIN} needed to train and test: "
            "add rows, or take the file out"
        )
    return rows


def _instruction(row: Row) -> Instruction:
    more = row.text_or_none("input")
    instruction = row.text("instruction")
    response = row.text("output" if row.has("output") and not row.has("response") else "response")
    return Instruction(
        f"{instruction} {more}" if more else instruction, response, row.texts("choices"), where=row.where
    )


def _answers(rows: Sequence[Instruction]) -> tuple[str, ...]:
    """All different responses in order, where they are few; else none."""
    different = {row.response for row in rows}
    few = len(different) <= ANSWERS_MAX and 2 * len(different) <= len(rows)
    return tuple(sorted(different)) if few else ()


def _counted(row: Instruction, answers: tuple[str, ...]) -> Instruction:
    if not answers:
        return row
    return replace(row, choices=row.choices or answers, category=answers.index(row.response))

"""What an instruction task is: every participant's own rows of instruction and response, already split."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from ipfl.data.tasks import NUM_PARTICIPANTS_MIN, check_participant_id
from ipfl.errors import DataError


@dataclass(frozen=True)
class Instruction:
    """One row: what is asked, and the answer to be learnt.

    `choices` are the answers that the instruction offers, if it does (the right one among them); `category` is what
    the row is counted as (an index into the task's `class_names`); `where` names file and row in errors.
    """

    instruction: str
    response: str
    choices: tuple[str, ...] = ()
    category: int = 0
    where: str = ""


@dataclass(frozen=True)
class Instructions:
    """The rows of one split."""

    rows: tuple[Instruction, ...]

    @cached_property
    def y(self) -> Int64[np.ndarray, "n"]:
        """Every row's category."""
        return np.array([row.category for row in self.rows], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class InstructionData:
    """One participant's own rows: what it learns from, what chooses its best round, and what reports on it."""

    participant_id: str
    train: Instructions
    test: Instructions
    validation: Instructions | None = None

    def splits(self) -> dict[str, Instructions]:
        """The splits it has, by name."""
        named = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: split for name, split in named.items() if split is not None}


@dataclass(frozen=True)
class InstructionTask:
    """Instruction tuning shared out among participants.

    `class_names` say what rows are counted by: their answers, or where they come from.

    Raises:
      DataError: fewer than 2 participants, an id that stands twice or cannot be one, a split without rows, an empty
        instruction or response, a response that is not among its choices; names participant, split and row.

    >>> row = Instruction("Is it raining?", "yes", ("yes", "no"))
    >>> split = Instructions((row,))
    >>> task = InstructionTask("toy", tuple(InstructionData(name, split, split) for name in "ab"), ("yes",))
    >>> task.common, task.fingerprint()[:8]
    (None, '5ff936b6')
    """

    name: str
    participants: tuple[InstructionData, ...]
    class_names: tuple[str, ...]
    common: None = None

    def __post_init__(self) -> None:
        if len(self.participants) < NUM_PARTICIPANTS_MIN:
            raise DataError(
                f"task {self.name!r} has {len(self.participants)} participant(s): "
                f"a market needs at least {NUM_PARTICIPANTS_MIN}, add another one"
            )
        ids = [participant.participant_id for participant in self.participants]
        for participant in self.participants:
            name = participant.participant_id
            check_participant_id(name, f"participant id {name!r}")
            if ids.count(name) > 1:
                raise DataError(f"participant id {name!r} stands twice: ids must differ")
            for field, split in participant.splits().items():
                if not split.rows:
                    raise DataError(
                        f"participant {name!r} has no {field} rows: give it some, or leave it out"
                    )
                for row in split.rows:
                    self._check(row, f"participant {name!r}, {field}")

    def _check(self, row: Instruction, who: str) -> None:
        where = row.where or who
        for field in ("instruction", "response"):
            if not getattr(row, field).strip():
                raise DataError(f"{where}: the {field} is empty; fill it, or take the row out")
        if row.choices and row.response not in row.choices:
            raise DataError(
                f"{where}: the response {row.response!r} is none of the choices {', '.join(row.choices)}"
            )
        if not 0 <= row.category < len(self.class_names):
            raise DataError(f"{where}: category {row.category} is none of {len(self.class_names)}")

    def fingerprint(self) -> str:
        """SHA-256 of all rows, to notice that data changed between a run and its resumption."""
        digest = hashlib.sha256()
        for participant in self.participants:
            digest.update(participant.participant_id.encode())
            for name, split in participant.splits().items():
                rows = [(row.instruction, row.response, row.choices, row.category) for row in split.rows]
                digest.update(json.dumps([name, rows]).encode())
        return digest.hexdigest()


def repeated(rows: tuple[Instruction, ...]) -> int:
    """How many rows are copies of an earlier one."""
    counts = Counter((row.instruction, row.response) for row in rows)
    return sum(counts.values()) - len(counts)

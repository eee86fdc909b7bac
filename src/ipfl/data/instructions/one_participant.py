"""The instructions of one participant that keeps them to itself, read as `load_instruction_folder` does."""

from collections.abc import Sequence
from pathlib import Path

from ipfl.data.instructions.load import validated
from ipfl.data.instructions.own import TEXT, participant_rows, read_own_rows
from ipfl.data.instructions.reading import ENDINGS
from ipfl.data.instructions.rows import Instruction, InstructionData, Instructions, InstructionTask
from ipfl.data.own import check_split
from ipfl.data.participant_files import ending
from ipfl.data.tables import some
from ipfl.errors import DataError
from ipfl.seeding import generator


def load_participant_rows(
    path: Path,
    name: str,
    answers: Sequence[str],
    index: int,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> InstructionData:
    """One participant's instructions from its own file.

    Args:
      path: a .jsonl or .parquet file.
      name: the participant's id.
      answers: the responses that all have agreed on; none: free text.
      index: the participant's place among all.
      test_fraction, validation_fraction, seed: as for a folder of all participants' files.
    Raises:
      DataError: it cannot be read, or has a response that was not agreed on.
    """
    check_split(test_fraction, seed)
    if ending(path) not in ENDINGS:
        raise DataError(f"{path.name} holds no instructions that are read here: give {' or '.join(ENDINGS)}")
    rows = read_own_rows(path)
    unknown = [row for row in rows if answers and row.response not in answers]
    if unknown:
        raise DataError(
            f"{unknown[0].where}: the response {unknown[0].response!r} is none of the market's answers "
            f"({some(list(answers))}): correct it, or ask the operator for another market"
        )
    whole = participant_rows(name, rows, tuple(answers), index, test_fraction, seed)
    return validated(whole, validation_fraction, generator(seed, -1, index, "split"))


def in_its_place(
    participant: InstructionData | None, answers: Sequence[str], index: int, count: int
) -> InstructionTask:
    """A task of `count` participants of which one (or none) has rows; every other has one that says nothing."""
    response = answers[0] if answers else "nothing"
    blank = Instructions((Instruction("nothing", response, tuple(answers)),))
    width = len(str(count))
    people = [InstructionData(f"another-{place:0{width}d}", blank, blank) for place in range(count)]
    if participant is not None:
        people[index] = participant
    return InstructionTask("market", tuple(people), tuple(answers) or (TEXT,))

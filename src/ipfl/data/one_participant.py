"""The file of one participant that keeps it to itself, read by what all participants have agreed on beforehand.

The examples, their split and their order are those that `load_folder` makes of the same file among the others'.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipfl.data.load import validated
from ipfl.data.own import check_split, in_order, participant_data, read_own
from ipfl.data.raw import Raw
from ipfl.data.tables import some
from ipfl.data.tasks import ParticipantData, Split, Task
from ipfl.errors import DataError
from ipfl.seeding import generator


@dataclass(frozen=True)
class Schema:
    """What the participants of a market have agreed on about their examples.

    Attributes:
      class_names: what the models' outputs mean, in order.
      label: the column of tables that names each row's class.
      columns: the features of tables, in order; None for arrays.
      shape: of one example of arrays; None for tables. Both are None of instructions.
    """

    class_names: tuple[str, ...]
    label: str = "label"
    columns: tuple[str, ...] | None = None
    shape: tuple[int, ...] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example as models see it."""
        return self.shape if self.columns is None and self.shape else (len(self.columns or ()),)


def load_participant(
    path: Path,
    name: str,
    schema: Schema,
    index: int,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> ParticipantData:
    """One participant's examples from its own file.

    Args:
      path: a .csv, .parquet or .npz file.
      name: the participant's id.
      schema: what all have agreed on.
      index: the participant's place among all.
      test_fraction, validation_fraction, seed: as for a folder of all participants' files.
    Raises:
      DataError: it cannot be read, or is not as agreed; the sentence names the file, what it has and what was agreed.
    """
    check_split(test_fraction, seed)
    raw = read_own(path, schema.label)
    unknown = [known for known in raw.class_names if known not in schema.class_names]
    if unknown:
        raise DataError(
            f"{raw.file} has the class {unknown[0]!r}, which is none of the market's "
            f"({some(list(schema.class_names))}): correct the labels, or ask the operator for another market"
        )
    whole = participant_data(
        name, raw, _as_agreed(raw, schema), schema.class_names, index, test_fraction, seed
    )
    return validated(whole, validation_fraction, generator(seed, -1, index, "split"))


def in_its_place(participant: ParticipantData, schema: Schema, index: int, count: int) -> Task:
    """A task of `count` participants of which one has examples; every other is one blank example.

    What is random depends on a participant's place among all, so it keeps its place.
    """
    blank = Split(np.zeros((1, *schema.input_shape), np.float32), np.zeros(1, np.int64))
    width = len(str(count))
    others = [ParticipantData(f"another-{place:0{width}d}", blank, blank) for place in range(count)]
    participants = [*others[:index], participant, *others[index + 1 :]]
    return Task("market", tuple(participants), schema.input_shape, schema.class_names)


def _as_agreed(raw: Raw, schema: Schema) -> np.ndarray:
    """The inputs with the agreed columns in the agreed order."""
    if schema.columns is None:
        if raw.columns is not None or raw.x.shape[1:] != schema.shape:
            has = f"{len(raw.columns)} columns" if raw.columns is not None else f"shape {raw.x.shape[1:]}"
            raise DataError(
                f"{raw.file}: its examples have {has}, those of the market shape {schema.shape}: "
                "prepare the file as the market's terms say"
            )
        return raw.x
    if raw.columns is None:
        raise DataError(f"{raw.file} holds arrays, but the market is of tables: give a .csv or .parquet file")
    return in_order(raw, schema.columns, "the columns that the market agreed on", "give it those columns")

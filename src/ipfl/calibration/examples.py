"""The examples of one participant: from one file, or all those of a task taken together."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from ipfl.config import Config
from ipfl.data.arrays import as_pixels, read_arrays
from ipfl.data.catalogue import find_task
from ipfl.data.prepare import standardise
from ipfl.data.tables import read_table
from ipfl.data.tasks import check_participant_id
from ipfl.errors import DataError

TABLES = (".csv", ".parquet")
ARRAYS = (".npz",)


@dataclass(frozen=True, eq=False)
class Examples:
    """One participant's examples before any split: vectors (n, features) or images (n, channels, height, width).

    `ready` says that inputs are what a model gets already, `model` what model = "auto" means where that does not
    follow from the shape.
    """

    participant_id: str
    source: str
    x: Shaped[np.ndarray, "n ..."]
    y: Int64[np.ndarray, "n"]
    class_names: tuple[str, ...]
    ready: bool = False
    model: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.x.shape[1:]

    def prepared(
        self, train: Int64[np.ndarray, "train"], test: Int64[np.ndarray, "test"]
    ) -> tuple[Float32[np.ndarray, "train ..."], Float32[np.ndarray, "test ..."]]:
        """Inputs as a model gets them: vectors standardised by the training rows alone, as in a run; pixels."""
        if self.ready:
            return self.x[train], self.x[test]
        if self.x.ndim == 2:
            wide = self.x.astype(np.float64)
            return standardise(wide[train], wide[test])
        return as_pixels(self.x[train]), as_pixels(self.x[test])


def read_examples(path: str | Path, label: str = "label") -> Examples:
    """One participant's file: a table (.csv, .parquet) or arrays (.npz), as `ipfl run --data` reads them.

    Args:
      path: its name without the ending is the participant's id.
      label: the column of a table that names each row's class.
    Raises:
      DataError: no such file, another format, or contents that cannot be used; one sentence.
    """
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{file} is a folder: give one participant's file, .csv, .parquet or .npz")
    if not file.exists():
        raise DataError(f"there is no file {file}: give one participant's .csv, .parquet or .npz file")
    ending = file.suffix.lower()
    if ending not in TABLES + ARRAYS:
        raise DataError(f"{file.name} is in a format that is not read here: expected .csv, .parquet or .npz")
    check_participant_id(file.stem, f"{file.name}: its name without the ending is the participant's id and")
    raw = read_arrays(file) if ending in ARRAYS else read_table(file, label)
    return Examples(file.stem, file.name, raw.x, raw.y, raw.class_names)


def pooled_examples(config: Config) -> Examples:
    """All examples of the task that `config` names, as if one participant had them: to try a calibration out.

    Raises:
      ConfigError: an unknown task.
      DataError: its data cannot be read.

    >>> examples = pooled_examples(Config(task="digits"))
    >>> len(examples.y), examples.input_shape, len(examples.class_names)
    (1797, (1, 8, 8), 10)
    """
    task = find_task(config.task)
    source = task.source(config)
    parts = [source] if source.test is None else [source, source.test]
    return Examples(
        config.task,
        f"task {config.task}",
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        source.class_names,
        ready=not task.standardised,
        model=task.model,
    )

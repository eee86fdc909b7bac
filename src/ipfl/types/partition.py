"""Who has how many examples of which class: what a partition looks like from outside."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class PartitionTable:
    """Counts per participant and class of each split; `common` counts the test set that all share, if there is one.

    `kind` is that of the configuration, or "own" where everybody brought its own examples; `parameters` are those
    that the kind has. `sha256` stands for the examples themselves: two partitions with one hash are the same.
    """

    kind: str
    parameters: Mapping[str, Any]
    participant_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    train: Int64[np.ndarray, "m classes"]
    validation: Int64[np.ndarray, "m classes"]
    test: Int64[np.ndarray, "m classes"]
    common: Int64[np.ndarray, "classes"] | None
    sha256: str

    @property
    def sizes(self) -> Int64[np.ndarray, "m"]:
        """Training examples of each participant."""
        sizes: Int64[np.ndarray, "m"] = self.train.sum(axis=1)
        return sizes

    def to_json(self) -> dict[str, Any]:
        """The content of partition.json: one short record per participant; None where nobody has such a split.

        >>> counts = np.array([[1, 2], [3, 0]])
        >>> none = np.zeros((2, 2), np.int64)
        >>> table = PartitionTable("iid", {}, ("a", "b"), ("no", "yes"), counts, none, none, None, "00")
        >>> table.to_json()["participants"][1]
        {'id': 'b', 'train': [3, 0], 'validation': None, 'test': None}
        >>> PartitionTable.from_json(table.to_json()).sizes.tolist()
        [3, 3]
        """
        return {
            "kind": self.kind,
            "parameters": dict(self.parameters),
            "sha256": self.sha256,
            "classes": list(self.class_names),
            "common": None if self.common is None else self.common.tolist(),
            "participants": [
                {"id": name} | {split: self._row(split, index) for split in SPLITS}
                for index, name in enumerate(self.participant_ids)
            ],
        }

    def _row(self, split: str, index: int) -> list[int] | None:
        table: Int64[np.ndarray, "m classes"] = getattr(self, split)
        return list(map(int, table[index])) if table.any() else None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PartitionTable":
        """Read `to_json` back.

        Raises:
          ValueError: a part is missing, or is no table of whole numbers >= 0.
        """
        try:
            rows, classes = content["participants"], tuple(str(name) for name in content["classes"])
            tables = {split: _counts([row[split] for row in rows], len(classes)) for split in SPLITS}
            common = content["common"]
            return cls(
                str(content["kind"]),
                dict(content["parameters"]),
                tuple(str(row["id"]) for row in rows),
                classes,
                **tables,
                common=None if common is None else _counts([common], len(classes))[0],
                sha256=str(content["sha256"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks {error}" if isinstance(error, KeyError) else str(error)) from None


def partition_hash(counts: Mapping[str, Any], fingerprint: str) -> str:
    """The SHA-256 of the counts and of the examples' own fingerprint."""
    text = json.dumps(counts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{text}\n{fingerprint}".encode()).hexdigest()


def _counts(rows: list[Any], num_classes: int) -> Int64[np.ndarray, "rows classes"]:
    full = [[0] * num_classes if row is None else row for row in rows]
    for row in full:
        if len(row) != num_classes or any(type(count) is not int or count < 0 for count in row):
            raise ValueError(f"expected {num_classes} whole numbers >= 0 in every row")
    return np.array(full, dtype=np.int64).reshape(len(full), num_classes)

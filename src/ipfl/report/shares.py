"""Who has how many examples of which class, as the page and the terminal show it: a shade for every count.

A page holds CELLS_MAX counts at most: of more participants an even choice is shown, first and last included, of
more classes the first ones, and a note says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from ipfl.report.payload import short_names
from ipfl.types.partition import PartitionTable

BARS = "▁▂▃▄▅▆▇█"
LEVELS = 10
"""Shades, of which 0 is an empty cell."""
CELLS_MAX = 8_000
CLASSES_MAX = 200
PARTICIPANTS_MIN = 12
DENSE = 16
"""With more classes than this, cells are too narrow for their numbers."""

_NAMES = {
    "own": "everybody's own data",
    "cluster": "clusters of participants",
    "niid": "every class shared out by Dirichlet",
    "skew": "a few classes each",
    "dirichlet": "label shares drawn by Dirichlet, equal sizes",
    "quantity": "equal label shares, sizes drawn by Dirichlet",
    "iid": "at random, equal sizes",
    "natural": "the data's own writers or roles",
    "domain": "the data's own domains",
}


@dataclass(frozen=True)
class Row:
    """One participant: its name, short name, sums over the splits, and (count, level) of every class shown."""

    id: str
    short: str
    sums: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]


def shares_view(table: PartitionTable) -> dict[str, Any]:
    """What the page's template shows of a partition."""
    num_classes = min(len(table.class_names), CLASSES_MAX)
    budget = max(PARTICIPANTS_MIN, CELLS_MAX // num_classes)
    count = len(table.participant_ids)
    shown = evenly(count, budget)
    shades = levels(table.train)
    short = short_names(table.participant_ids)
    splits = [name for name in ("train", "validation", "test") if getattr(table, name).any()]
    sums = np.stack([getattr(table, name).sum(axis=1) for name in splits], axis=1)
    notes = []
    if len(shown) < count:
        notes.append(f"{len(shown)} of {count:,} participants are shown.")
    if num_classes < len(table.class_names):
        notes.append(f"The first {num_classes} of {len(table.class_names):,} classes are shown.")
    if notes:
        notes.append("partition.json holds all.")
    return {
        "what": describe(table),
        "splits": splits,
        "classes": table.class_names[:num_classes],
        "dense": num_classes > DENSE,
        "upright": max(map(len, table.class_names[:num_classes])) <= (2 if num_classes > DENSE else 5),
        "rows": [
            Row(
                table.participant_ids[index],
                short[index],
                tuple(f"{total:,}" for total in sums[index]),
                tuple(zip(table.train[index].tolist(), shades[index].tolist(), strict=True))[:num_classes],
            )
            for index in shown
        ],
        "totals": [f"{total:,}" for total in sums.sum(axis=0)],
        "class_totals": table.train.sum(axis=0).tolist()[:num_classes],
        "common": None if table.common is None else f"{int(table.common.sum()):,}",
        "largest": f"{int(table.train.max()):,}",
        "sha256": table.sha256,
        "notes": notes,
    }


def evenly(count: int, budget: int) -> list[int]:
    """An even choice of at most `budget` (>= 2) of so many positions, first and last included.

    >>> evenly(9, 5), evenly(3, 5)
    ([0, 2, 4, 6, 8], [0, 1, 2])
    """
    if count <= budget:
        return list(range(count))
    return [round(step * (count - 1) / (budget - 1)) for step in range(budget)]


def levels(counts: Int64[np.ndarray, "m classes"]) -> Int64[np.ndarray, "m classes"]:
    """The shade of every count: 0 for none, then 1 to 9 in step with the share of the largest count.

    >>> levels(np.array([[0, 1], [50, 100]])).tolist()
    [[0, 1], [5, 9]]
    """
    steps = np.ceil((LEVELS - 1) * counts / max(1, int(counts.max()))).astype(np.int64)
    result: Int64[np.ndarray, "m classes"] = np.clip(steps, 0, LEVELS - 1)
    return result


def picture(table: PartitionTable) -> str:
    """The partition as plain text: name, training examples, and one bar for every class.

    >>> none = np.zeros((2, 3), np.int64)
    >>> counts = np.array([[9, 5, 0], [1, 0, 3]])
    >>> print(picture(PartitionTable("niid", {}, ("a", "bc"), ("x", "y", "z"), counts, none, none, None, "")))
    a   14  █▄·
    bc   4  ▁·▂
    """
    shades = levels(table.train).tolist()
    width = max(map(len, table.participant_ids))
    digits = len(str(int(table.sizes.max())))
    return "\n".join(
        f"{name:<{width}} {size:>{digits + 1}}  {bars(row)}"
        for name, size, row in zip(table.participant_ids, table.sizes.tolist(), shades, strict=True)
    )


def bars(row: Sequence[int], encoding: str = "utf-8") -> str:
    """One character for each level; digits where the encoding has no bars.

    >>> bars([0, 1, 5, 9]), bars([0, 1, 5, 9], "ascii")
    ('·▁▄█', '.159')
    """
    try:
        BARS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "".join(str(level) if level else "." for level in row)
    return "".join(BARS[(level - 1) * 8 // 9] if level else "·" for level in row)


def describe(table: PartitionTable) -> str:
    """Kind and parameters in a few words.

    >>> none = np.zeros((1, 2), np.int64)
    >>> describe(PartitionTable("niid", {"alpha": 0.5}, ("a",), ("no", "yes"), none, none, none, None, ""))
    'niid (every class shared out by Dirichlet): alpha 0.5'
    """
    values = [f"{key} {_shown(value)}" for key, value in table.parameters.items()]
    name = _NAMES.get(table.kind)
    what = table.kind if name is None else f"{table.kind} ({name})"
    return f"{what}: {', '.join(values)}" if values else what


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

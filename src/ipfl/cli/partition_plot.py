"""Drawing a partition as bubbles. matplotlib is imported here, when something is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ipfl.errors import ConfigError
from ipfl.report.payload import short_names
from ipfl.report.shares import describe

if TYPE_CHECKING:
    from ipfl.types.partition import PartitionTable

CELL_INCHES = 0.28
INCHES_MAX = (36.0, 24.0)
INCHES_MIN = (6.0, 2.4)
MARGINS = (1.6, 1.5)
NAMES_MAX = 120
"""More participants or classes than this are not named one by one."""


def draw(table: "PartitionTable", task: str, path: Path) -> None:
    """Participants from left to right, classes from top to bottom; a bubble's area is a count of examples.

    Raises:
      ConfigError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    num_participants, num_classes = table.train.shape
    grid = np.array([num_participants, num_classes])
    inches = np.clip(grid * CELL_INCHES + MARGINS, INCHES_MIN, INCHES_MAX)
    cell = 72 * float(((inches - MARGINS) / grid).min())  # points
    figure = Figure(figsize=(float(inches[0]), float(inches[1])), layout="constrained")
    axes = figure.subplots()
    who, label = np.nonzero(table.train)
    counts = table.train[who, label]
    areas = (0.94 * min(cell, 24)) ** 2 * counts / max(1, int(table.train.max()))
    axes.scatter(who, label, s=areas, c=counts, cmap="viridis_r", vmin=0, linewidths=0)
    axes.set_xlim(-0.6, num_participants - 0.4)
    axes.set_ylim(num_classes - 0.4, -0.6)
    names = list(short_names(table.participant_ids))
    for axis, ticks in ((axes.xaxis, names), (axes.yaxis, list(table.class_names))):
        if len(ticks) <= NAMES_MAX:
            axis.set_ticks(range(len(ticks)), ticks)
        axis.set_tick_params(length=0, labelsize=7)
    if max(map(len, names)) > 3:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("participant")
    axes.set_ylabel("class")
    axes.set_title(f"{task}, {describe(table)}", fontsize=9, loc="left", wrap=True)
    axes.spines[:].set_visible(False)
    axes.grid(alpha=0.15)
    axes.set_axisbelow(True)
    colours = figure.colorbar(axes.collections[0], ax=axes, shrink=0.8, pad=0.01, aspect=25)
    colours.set_label("training examples", fontsize=8)
    colours.ax.tick_params(labelsize=7)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None

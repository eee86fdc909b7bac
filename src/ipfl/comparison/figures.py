"""The paper's figures, drawn into NAME.pdf and NAME.png. matplotlib is imported when something is drawn."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfl.comparison.tables import Row
from ipfl.errors import ConfigError
from ipfl.market.rules import RULES
from ipfl.methods.registry import WITH_A_MARKET
from ipfl.run_folder import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ipfl.comparison.reproduce import Outcome

COLOURS = ("#2b5fcc", "#c2410c", "#0b8a7b", "#9333b5", "#a96a0c", "#bd2c62", "#4d7c0f", "#5a6675", "#0e7490")
MARKERS = "osD^vPX*h"
DPI = 200
ORDER = ("ipfl", "local", "fedavg", "fedprox", "cfl", "ditto", "fedamp", "fedfomo", "pfedgraph")
"""A method has the same colour and marker in every figure and on the page."""


def check_drawing() -> None:
    """Refuse before anything is run what could not be drawn afterwards.

    Raises:
      ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(
            "figures need matplotlib, which is not installed: pip install 'ipfl[plot]'"
        ) from None


def draw(outcome: "Outcome", folder: Path) -> Path:
    """Draw an experiment's figure as PDF and PNG, and return the path of the PNG."""
    check_drawing()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    makers: dict[str, Callable[[Figure, Sequence[Row]], None]] = {
        "fig2": _accuracy,
        "fig3": _utility,
        "fig4": _poisoning,
        "fig5": _kinds,
        "table2": _liars,
    }
    style: Any = {"font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "pdf.fonttype": 42}
    with rc_context(style):
        figure = Figure(figsize=_size(outcome), layout="constrained")
        makers[outcome.name](figure, outcome.csv_rows if outcome.name == "table2" else outcome.rows)
        for ending, more in (("pdf", {"metadata": {"CreationDate": None}}), ("png", {"dpi": DPI})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, **more)
            write_bytes(folder / f"{outcome.name}.{ending}", buffer.getvalue())
    return folder / f"{outcome.name}.png"


def _size(outcome: "Outcome") -> tuple[float, float]:
    if outcome.name == "fig4":
        return 9.5, 6.2
    return (9.5, 4.6) if outcome.name in ("fig5", "table2") else (9.5, 4.2)


def _accuracy(figure: "Figure", rows: Sequence[Row]) -> None:
    """Both protocols side by side."""
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, key, title in zip(
        panels, ("accuracy", "accuracy_held_out"), ("Paper's protocol", "Held out"), strict=True
    ):
        _dots(axes, rows, "partition", key, scale=100)
        axes.set_title(title, loc="left")
    panels[0].set_ylabel("accuracy of honest buyers [%]")
    _legend(figure, panels[0])


def _utility(figure: "Figure", rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    _bars(axes, rows, "partition", "utility")
    axes.set_ylabel("utility over the run, mean of the honest [gain units]")
    _legend(figure, axes)


def _poisoning(figure: "Figure", rows: Sequence[Row]) -> None:
    """Accuracy above, income below; one column per share of attackers."""
    shares = list(dict.fromkeys(row["attackers"] for row in rows if row["attack"] != "none"))
    panels: Any = figure.subplots(2, max(1, len(shares)), sharey="row", squeeze=False, height_ratios=(3, 2))
    clean = [row for row in rows if row["attack"] == "none"]
    paying = {row["method"] for row in rows if row["method"] in WITH_A_MARKET or row["attackers_income"]}
    for place, share in enumerate(shares):
        mine = [row for row in rows if row["attackers"] == share]
        _dots(panels[0][place], [*clean, *mine], "attack", "accuracy", scale=100)
        panels[0][place].set_title(f"{share} of the participants attack", loc="left")
        _bars(
            panels[1][place], [row for row in mine if row["method"] in paying], "attack", "attackers_income"
        )
        panels[1][place].set_ylim(bottom=0)
    panels[0][0].set_ylabel("accuracy of honest buyers [%]")
    panels[1][0].set_ylabel("an attacker earns [gain units]")
    _legend(figure, panels[0][0])


def _kinds(figure: "Figure", rows: Sequence[Row]) -> None:
    left, right = figure.subplots(1, 2)
    _bars(left, rows, "kind", "utility")
    left.set_ylabel("utility over the run [gain units]")
    left.set_title("Utility", loc="left")
    _dots(right, rows, "kind", "accuracy", scale=100)
    right.set_ylabel("accuracy, paper's protocol [%]")
    right.set_title("Accuracy of their own models", loc="left")
    _legend(figure, left)


def _liars(figure: "Figure", rows: Sequence[Row]) -> None:
    """One panel per misreported quantity; rules stand in it as methods do elsewhere."""
    quantities = list(dict.fromkeys(row["misreport"] for row in rows))
    panels: Any = figure.subplots(1, len(quantities), squeeze=False)
    for axes, quantity in zip(panels[0], quantities, strict=True):
        mine = [
            row | {"method": row["rule"], "report": f"{row['factor']:g} × the truth"}
            for row in rows
            if row["misreport"] == quantity
        ]
        _bars(axes, mine, "report", "utility_gained", order=tuple(RULES))
        axes.set_title(f"Lies about {quantity}", loc="left")
    panels[0][0].set_ylabel("utility gained by lying [gain units]")
    _legend(figure, panels[0][0])


def _spots(rows: Sequence[Row], group: str) -> tuple[list[str], list[str]]:
    groups = list(dict.fromkeys(row[group] for row in rows))
    names = list(dict.fromkeys(row["method"] for row in rows))
    return groups, names


def _look(name: str, order: Sequence[str]) -> tuple[str, str]:
    """A method's colour and marker."""
    place = order.index(name) if name in order else len(order) + sum(map(ord, name))
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def _dots(
    axes: "Axes", rows: Sequence[Row], group: str, key: str, scale: float, order: Sequence[str] = ORDER
) -> None:
    """Means with intervals, methods side by side within a group. Dots, as the axis need not begin at zero."""
    groups, names = _spots(rows, group)
    step = 0.78 / max(1, len(names))
    for place, name in enumerate(names):
        colour, marker = _look(name, order)
        mine = [row for row in rows if row["method"] == name and row[key] is not None]
        x = [groups.index(row[group]) + (place - (len(names) - 1) / 2) * step for row in mine]
        y = [scale * row[key] for row in mine]
        error = [scale * (row[f"{key}_ci"] or 0.0) for row in mine]
        axes.errorbar(
            x, y, error, fmt=marker, color=colour, markersize=5, elinewidth=1.2, capsize=2, label=name
        )
    _frame(axes, [row for row in rows if row[key] is not None], key)
    _dress(axes, groups)


def _bars(axes: "Axes", rows: Sequence[Row], group: str, key: str, order: Sequence[str] = ORDER) -> None:
    """Bars from zero with intervals, methods side by side within a group."""
    groups, names = _spots(rows, group)
    step = 0.78 / max(1, len(names))
    for place, name in enumerate(names):
        colour, _ = _look(name, order)
        mine = [row for row in rows if row["method"] == name and row[key] is not None]
        x = [groups.index(row[group]) + (place - (len(names) - 1) / 2) * step for row in mine]
        error = [row[f"{key}_ci"] or 0.0 for row in mine]
        axes.bar(
            x,
            [row[key] for row in mine],
            step * 0.88,
            yerr=error,
            color=colour,
            label=name,
            error_kw={"elinewidth": 1.0, "capsize": 2, "ecolor": "#444444"},
        )
    axes.axhline(0, color="#444444", linewidth=0.8)
    _compress(axes, sorted(abs(row[key]) for row in rows if row[key]))
    _dress(axes, groups)


def _frame(axes: "Axes", rows: Sequence[Row], key: str) -> None:
    """An axis of per cent around the means: the interval of very few seeds may run out of the picture.

    Panels that share the axis all keep their means in it.
    """
    if not rows:
        return
    means = [100 * row[key] for row in rows]
    room = max(3.0, max(means) - min(means))
    reach = [min(100 * (row[f"{key}_ci"] or 0.0), room) for row in rows]
    low = min(mean - max(half, 1.0) for mean, half in zip(means, reach, strict=True))
    high = max(mean + max(half, 1.0) for mean, half in zip(means, reach, strict=True))
    bottom, top = max(0.0, low - 0.04 * (high - low)), min(100.5, high + 0.04 * (high - low))
    shared = axes.get_shared_y_axes().get_siblings(axes)
    if any(other is not axes and other.containers for other in shared):  # another panel was framed before
        before = axes.get_ylim()
        bottom, top = min(bottom, before[0]), max(top, before[1])
    axes.set_ylim(bottom, top)


def _compress(axes: "Axes", sizes: Sequence[float]) -> None:
    """A logarithmic axis on both sides of zero where the largest would hide all others."""
    usual = sizes[len(sizes) // 2] if sizes else 0.0
    if usual > 0 and sizes[-1] > 100 * usual:
        axes.set_yscale("symlog", linthresh=10.0 ** math.ceil(math.log10(usual)))


def _dress(axes: "Axes", groups: Sequence[str]) -> None:
    crowded: dict[str, Any] = (
        {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if len(groups) > 5 else {}
    )
    axes.set_xticks(range(len(groups)), [str(group).replace("_", " ") for group in groups], **crowded)
    axes.set_xlim(-0.55, len(groups) - 0.45)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(9, max(1, len(labels))), frameon=False
    )

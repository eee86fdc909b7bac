"""Drawing quotes over a range. matplotlib is imported here, when something is drawn, and nowhere else."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ipfl.errors import BidError, ConfigError
from ipfl.market.quoting import QuoteRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {
    "num_examples": "number of examples N",
    "valuation": "valuation K",
    "export_cost": "export cost c per buyer served",
}


def check_plot(path: Path) -> None:
    """Refuse what could not be drawn, before anything is computed.

    Raises:
      ConfigError: matplotlib is missing, or cannot write such a file, or there is no such folder.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise ConfigError(
            "--plot needs matplotlib, which is not installed: pip install 'ipfl[plot]'"
        ) from None
    known = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise ConfigError(f"cannot draw {path}: expected a name that ends in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot draw {path}: there is no folder {path.parent}")


def draw(ranged: QuoteRange, path: Path) -> None:
    """Money above, trades below, over the range."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(9, 6), layout="constrained")
    money, trades = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    values, first = ranged.values, ranged.quotes[0]
    styles = {"utility": "-", "gain": "--", "received": "-.", "paid": ":", "cost": (0, (3, 1, 1, 1, 1, 1))}
    for place, (name, style) in enumerate(styles.items()):
        width = 2.4 if name == "utility" else 1.3
        money.plot(
            values, ranged.column(name), linestyle=style, linewidth=width, color=f"C{place}", label=name
        )
    if ranged.field == "export_cost" and not math.isnan(first.break_even_export_cost):
        _mark(money, first.break_even_export_cost, values)
    money.set_ylabel("gain units per round")
    money.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    title = f"{first.participant_id}: rules {first.allocation_rule}/{first.payment_rule}, lam {first.lam:g}"
    if first.assumed_distance is not None:
        title += f", distances assumed {first.assumed_distance:.3f}"
    money.set_title(title, fontsize=10, loc="left")
    trades.step(
        values, ranged.column("purchases"), where="mid", label="models bought", color="C3", linestyle=":"
    )
    trades.step(
        values, ranged.column("sales"), where="mid", label="buyers served", color="C2", linestyle="-."
    )
    trades.set_xlabel(LABELS[ranged.field])
    trades.set_ylabel("trades")
    trades.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    trades.yaxis.get_major_locator().set_params(integer=True)
    trades.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for axes in (money, trades):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise BidError(f"cannot write {path}: {error.strerror}") from None


def _mark(axes: "Axes", break_even_cost: float, values: np.ndarray) -> None:
    """A line where selling ends, if it is in the picture."""
    if values[0] <= break_even_cost <= values[-1]:
        axes.axvline(break_even_cost, color="grey", linewidth=0.8)
        axes.annotate(
            f" break-even {break_even_cost:.4g}", (break_even_cost, 1), xycoords=("data", "axes fraction"),
            va="top", fontsize=8, color="dimgrey",
        )  # fmt: skip

"""`ipfl calibrate`: what a better model is worth to one participant, as a bid."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipfl.cli import layout

if TYPE_CHECKING:
    from ipfl.calibration.calibrate import HalfCheck
    from ipfl.calibration.fit import Estimate
    from ipfl.calibration.learning_curve import Progress
    from ipfl.calibration.terms import Calibration

BAR_WIDTH = 30
AHEAD = (2, 4)
"""The curve is shown for so many times the examples there are."""


@click.command(short_help="What a better model is worth to you, from your own data.")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="FILE",
    help="Your examples: .csv, .parquet or .npz, as for `ipfl run --data`.",
)  # fmt: skip
@click.option("--task", metavar="NAME", help="Instead of --data: all examples of a task, to try it out.")
@click.option(
    "--worth", type=float, required=True, metavar="AMOUNT",
    help="What one percentage point of accuracy is worth to you, in your money.",
)  # fmt: skip
@click.option("--label", metavar="NAME", help="The column of a table that names the class.  [default: label]")
@click.option("--model", metavar="NAME", help="The model to train.  [default: auto]")
@click.option("--seeds", default="0-4", show_default=True, metavar="0-4|0,3,5", help="At least 3.")
@click.option(
    "--sizes", metavar="LIST",
    help="Numbers of training examples.  [default: 8, from all there are downwards by factors of 1.41]",
)  # fmt: skip
@click.option("--steps", type=int, help="The most steps of one training.  [default: 1500]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another setting, e.g. training.lr=0.03."
)
@click.option(
    "--export-cost",
    type=float,
    metavar="c",
    help="What serving one buyer costs you; without it you only buy.",
)
@click.option("--twice", is_flag=True, help="Check on your data: predict all of it from half of it.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Write bids.csv and terms.toml there."
)
@click.option("--force", is_flag=True, help="Replace what --out holds already.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the curve (.png, .svg, .pdf)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print the summary only.")
def calibrate(
    data: Path | None, task: str | None, worth: float, label: str | None, model: str | None, seeds: str,
    sizes: str | None, steps: int | None, settings: tuple[str, ...], export_cost: float | None, twice: bool,
    out: Path | None, force: bool, plot: Path | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Find your valuation and your gain curve.

    Trains a model on growing parts of your own data, fits error = floor + a * n^-b, and puts the curve in money.
    The result is a bid: a row for bids.csv (`ipfl clear`), and terms.toml, which says how it was found.

    \b
    ipfl calibrate --data north.csv --worth 100
    ipfl calibrate --data north.npz --worth 100 --export-cost 20 --out terms/ --plot curve.png
    ipfl calibrate --task digits --worth 100 --twice
    """
    if (data is None) == (task is None):
        raise click.UsageError("give either --data FILE or --task NAME")
    from ipfl.calibration.calibrate import calibrate as find
    from ipfl.calibration.examples import pooled_examples, read_examples
    from ipfl.calibration.learning_curve import STEPS_MAX
    from ipfl.calibration.terms import check_free, write_terms
    from ipfl.calibration.worth import check_money
    from ipfl.comparison.grid import parse_seeds
    from ipfl.config import Config, with_settings

    chosen = {"task": task, "label": label, "model": model}
    tables = {key: value for key, value in chosen.items() if value is not None}
    config = Config.from_mapping(with_settings(tables, settings), "the settings")
    check_money(worth, export_cost)
    if out is not None:
        check_free(out, force)
    if plot is not None:
        from ipfl.cli.plot import check_plot

        check_plot(plot)
    examples = read_examples(data, config.label) if data is not None else pooled_examples(config)
    with _watching(quiet or as_json) as progress:
        found = find(
            examples, worth, config, parse_seeds(seeds), None if sizes is None else _whole_numbers(sizes),
            export_cost, STEPS_MAX if steps is None else steps, progress,
        )  # fmt: skip
    checked = _checked(found) if twice else None
    if out is not None:
        write_terms(found, out)
    if plot is not None:
        draw(found, plot)
    if as_json:
        layout.print_json(as_record(found, checked))
        return
    render(found, checked, Console(), quiet)
    if not quiet:
        _say_where(found, out, plot)


def _checked(found: "Calibration") -> "HalfCheck | str":
    """The check on half the data, or why half of it tells nothing."""
    from ipfl.calibration.calibrate import check_on_half
    from ipfl.errors import DataError

    try:
        return check_on_half(found.measured)
    except DataError as error:
        return str(error)


def as_record(found: "Calibration", checked: "HalfCheck | str | None") -> dict[str, Any]:
    """What --json prints."""
    measured, fit, worth = found.measured, found.fit, found.worth
    n = worth.num_examples
    record: dict[str, Any] = {
        "participant_id": found.examples.participant_id,
        "data": found.examples.source,
        "model": found.model,
        "num_train": measured.num_train,
        "num_test": measured.num_test,
        "seeds": measured.seeds,
        "sizes": measured.sizes,
        "errors": measured.errors,
        "mean_errors": measured.mean_errors,
        "spread": measured.spread,
        "steps_max": measured.steps_max,
        "unsettled": measured.unsettled,
        "level": fit.level,
        "floor": fit.floor._asdict(),
        "scale": fit.scale._asdict(),
        "exponent": fit.exponent._asdict(),
        "largest_residual": fit.residual,
        "twice": {
            "accuracy": _accuracy(fit.error(2 * n)),
            "points": {key: 100 * value for key, value in fit.improvement(n, n)._asdict().items()},
            "worth": worth.money(n),
        },
        "worth_per_point": worth.worth_per_point,
        "bid": found.bid | {"reference": None},
        "export_cost_given": found.export_cost is not None,
        "square_root_off": worth.square_root_off,
        "square_root_off_share": worth.square_root_off_share,
    }
    if isinstance(checked, str):
        record["check"] = {"refused": checked}
    elif checked is not None:
        record["check"] = {
            "size": checked.size,
            "fitted_up_to": checked.fitted_up_to,
            "predicted_accuracy": _accuracy(checked.predicted),
            "measured_accuracy": 1 - checked.measured,
            "held": checked.held,
        }
    return record


def render(found: "Calibration", checked: "HalfCheck | str | None", console: Console, quiet: bool) -> None:
    """The table with its bars, and what it comes to."""
    if not quiet:
        measured = found.measured
        note = f"{found.model}, mean of {len(measured.seeds)} seeds, {measured.num_test:,} test rows each"
        layout.show(console, "Error against examples", note, curve_table(found, console.width))
    for text, good in sentences(found, checked):
        layout.sentence(console, text, good)


def curve_table(found: "Calibration", width: int) -> Table:
    """Measured and fitted errors, with bars; what the curve says of more examples below."""
    measured, fit = found.measured, found.fit
    shown = layout.table(["examples", "error", "spread", "fitted", "interval", ""], [""])
    largest = max(float(measured.mean_errors.max()), float(fit.curve.error(measured.sizes[0])))
    room = max(8, min(BAR_WIDTH, width - 52))
    for size, error, spread in zip(
        measured.sizes.tolist(), measured.mean_errors.tolist(), measured.spread.tolist(), strict=True
    ):
        fitted = fit.error(size)
        shown.add_row(
            f"{size:,}", f"{error:.2%}", f"{spread:.2%}", f"{fitted.value:.2%}", _range(fitted),
            Text("█" * round(room * error / largest) or "▏", "cyan"),
        )  # fmt: skip
    shown.add_section()
    for times in AHEAD:
        ahead = fit.error(times * found.worth.num_examples)
        shown.add_row(
            f"{times * found.worth.num_examples:,}", Text("–", "dim"), "", f"{ahead.value:.2%}", _range(ahead),
            Text("░" * round(room * ahead.value / largest) or "▏", "cyan"),
        )  # fmt: skip
    return shown


def sentences(found: "Calibration", checked: "HalfCheck | str | None") -> list[tuple[str, bool | None]]:
    """The calibration in words."""
    measured, fit, worth = found.measured, found.fit, found.worth
    n = worth.num_examples
    floor, scale, exponent = fit.floor, fit.scale, fit.exponent
    points = [100 * value for value in fit.improvement(n, n)]
    money = [layout.short(worth.worth_per_point * value) for value in points]
    said: list[tuple[str, bool | None]] = [
        (
            f"error(n) = {floor.value:.4f} + {scale.value:.4g} * n^-{exponent.value:.3f}: floor {floor.low:.4f} to "
            f"{floor.high:.4f}, exponent {exponent.low:.3f} to {exponent.high:.3f} ({fit.level:.0%}, bootstrap over "
            f"seeds). It misses a mean by {100 * fit.residual:.2f} points at most.",
            None,
        ),
        (
            f"Twice your data ({n:,} more examples like your own) would bring {points[0]:.1f} points ({points[1]:.1f} "
            f"to {points[2]:.1f}), worth {money[0]} ({money[1]} to {money[2]}).",
            True,
        ),
        (
            f"Your bid: N {n:,}, K {layout.figure(worth.valuation)}, gain curve power with exponent "
            f"{worth.gain_curve.exponent:.4g} and scale {worth.gain_curve.scale:.4g}; gains are then in your money.",
            None,
        ),
        (
            f"In a market with the square-root curve alone the same K is off by {layout.short(worth.square_root_off)} "
            f"at most ({worth.square_root_off_share:.0%} of the largest gain) up to {worth.more_max:,} more examples.",
            None,
        ),
    ]
    if isinstance(checked, str):
        said.append((f"Not checked: {checked}.", False))
    elif checked is not None:
        low, high = 1 - checked.predicted.high, 1 - checked.predicted.low
        said.append(
            (
                f"Check: from {checked.fitted_up_to:,} examples and fewer, the accuracy at {checked.size:,} is "
                f"predicted to be {1 - checked.predicted.value:.2%} ({low:.2%} to {high:.2%}); measured: "
                f"{1 - checked.measured:.2%}, so the prediction is off by {-100 * checked.off:+.2f} points.",
                checked.held,
            )
        )
    if measured.unsettled:
        said.append(
            (
                f"{measured.unsettled} of {measured.errors.size} trainings spent their {measured.steps_max:,} steps "
                "before the loss settled, so larger sizes may look worse than they are; give more --steps.",
                False,
            )
        )
    return said


def draw(found: "Calibration", path: Path) -> None:
    """Measured errors, the fitted curve and its interval, on logarithmic axes of examples."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, PercentFormatter, StrMethodFormatter

    measured, fit, n = found.measured, found.fit, found.worth.num_examples
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    grid = np.geomspace(measured.sizes[0], max(AHEAD) * n, 80)
    band = np.array([fit.error(size) for size in grid])
    axes.fill_between(grid, band[:, 1], band[:, 2], alpha=0.2, linewidth=0, label=f"{fit.level:.0%} interval")
    axes.plot(grid, band[:, 0], label="fitted")
    axes.errorbar(
        measured.sizes, measured.mean_errors, yerr=measured.spread, fmt="o", capsize=3, color="C1",
        label=f"measured, {len(measured.seeds)} seeds",
    )  # fmt: skip
    axes.axvline(n, color="grey", linewidth=0.8, linestyle=":")
    axes.annotate(" all you have", (n, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(sorted([*measured.sizes[::-2].tolist(), *(times * n for times in AHEAD)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training examples")
    axes.set_ylabel("error on test rows")
    axes.set_title(f"{found.examples.participant_id}: {found.model}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _say_where(found: "Calibration", out: Path | None, plot: Path | None) -> None:
    from ipfl.calibration.terms import FILES, bids_text

    if out is None:
        click.echo(
            f"\nA row for bids.csv (--out FOLDER writes it, and terms.toml):\n{bids_text(found).rstrip()}"
        )
    else:
        click.echo(f"\nWritten to {out}: {', '.join(FILES)}")
    if found.export_cost is None:
        click.echo(
            "No --export-cost was given: the row only buys (an export cost of 1e9, to sell to nobody)."
        )
    if plot is not None:
        click.echo(f"Plot  {plot}")


@contextmanager
def _watching(quiet: bool) -> "Iterator[Progress | None]":
    """Progress with the time left, on a terminal; elsewhere a line at the beginning and the end."""
    console = Console(stderr=True)
    try:
        if quiet:
            yield None
        elif console.is_terminal:
            with _bar(console) as progress:
                yield progress
        else:
            yield _lines(console)
    except KeyboardInterrupt:
        click.echo(
            "Nothing was written; the same command starts again. Fewer --seeds or --steps take less time.",
            err=True,
        )
        raise


@contextmanager
def _bar(console: Console) -> "Iterator[Progress]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ipfl.cli.progress import time_left

    columns = (
        TextColumn("[bold]trainings"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, expand=True) as bars:
        task = bars.add_task("trainings", total=None, left="")

        def show(done: int, total: int) -> None:
            left = (time.monotonic() - started) * (total - done) / done
            bars.update(task, completed=done, total=total, left=time_left(left) if done < total else "")

        yield show


def _lines(console: Console) -> "Progress":
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if done == 1:
            console.print(f"{total} trainings ...", highlight=False)
        elif done == total:
            console.print(f"{total} trainings took {time.monotonic() - started:.0f} s", highlight=False)

    return show


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"--sizes {text}: expected whole numbers separated by commas") from None


def _accuracy(error: "Estimate") -> dict[str, float]:
    return {"value": 1 - error.value, "low": 1 - error.high, "high": 1 - error.low}


def _range(estimate: "Estimate") -> str:
    return f"{estimate.low:.2%}–{estimate.high:.2%}"

"""`ipfl quote`: what joining a market, or bidding otherwise in it, would bring."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipfl.cli import layout
from ipfl.cli.market_input import market_options, read_market
from ipfl.cli.plot import check_plot, draw
from ipfl.market.curve_text import parse_curve
from ipfl.market.joining import FIELDS
from ipfl.market.quoting import Quote, QuoteRange, quote_range
from ipfl.market.quoting import quote as quote_market
from ipfl.market.rules import rule_name
from ipfl.market.tables import read_distances_to

VALUES_MAX = 10_000
TRADES_SHOWN = 20
MONEY = ("gain", "cost", "friction", "paid", "received", "utility", "surplus")


@click.command(short_help="What joining a market would bring, before joining it.")
@click.argument("bids", type=click.Path(path_type=Path), metavar="BIDS.csv")
@market_options
@click.option("--num-examples", type=float, metavar="N", help="Your number of examples, >= 1.")
@click.option("--valuation", type=float, metavar="K", help="How much you value a better model, >= 0.")
@click.option("--export-cost", type=float, metavar="c", help="What serving one buyer costs you, >= 0.")
@click.option(
    "--distances-to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your distance to each of the others: CSV with participant_id,distance, or .npy. "
    "Unknown: the median of the market's distances is assumed.",
)
@click.option(
    "--participant", metavar="ID", help="You are in the market already: your bid is replaced, not added."
)
@click.option(
    "--curve", metavar="CURVE", help="Your gain curve: sqrt, power:exponent=0.3 or log:scale=1,reference=0."
)
@click.option(
    "--range",
    "range_",
    metavar="FIELD=LOW:HIGH:COUNT",
    help=f"Quote COUNT values of {', '.join(FIELDS)}, e.g. valuation=0:50000:26.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the range (.png, .svg, .pdf)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print the summary (or the range) only.")
def quote(
    bids: Path,
    num_examples: float | None,
    valuation: float | None,
    export_cost: float | None,
    distances_to: Path | None,
    participant: str | None,
    curve: str | None,
    range_: str | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    **market: Any,
) -> None:
    """Say whom you would trade with, what you would pay and receive, and up to which export cost you sell.

    BIDS.csv and --distances are the market as it stands (see `ipfl clear --help`), without you. The market is
    cleared again with your bid in it, under the same rules, and judged as if your bid were the truth.

    \b
    ipfl quote bids.csv --distances d.csv --num-examples 900 --valuation 40000 --export-cost 0.5
    ipfl quote bids.csv --distances d.csv --participant north --range export_cost=0:2:21 --plot cost.png
    """
    if plot is not None and range_ is None:
        raise click.UsageError("--plot draws a range: give --range FIELD=LOW:HIGH:COUNT too")
    field, values = (None, np.zeros(0)) if range_ is None else parse_range(range_)
    if plot is not None:
        check_plot(plot)
    read = read_market(bids, **market)
    numbers = {"num_examples": num_examples, "valuation": valuation, "export_cost": export_cost}
    if field is not None and numbers[field] is not None:
        raise click.UsageError(f"{_option(field)} and --range {field}=... say two things: give one of them")
    if participant is None:
        missing = [name for name, value in numbers.items() if value is None and name != field]
        if missing:
            raise click.UsageError(
                f"Missing option '{_option(missing[0])}' (or --participant ID, for one of the market)."
            )
    arguments: dict[str, Any] = {
        **numbers,
        **read.options,
        "participant": participant,
        "curve": None if curve is None else parse_curve(curve),
        "distances_to_others": None if distances_to is None else read_distances_to(distances_to, read.bids),
    }
    console = Console()
    if field is None:
        quoted = quote_market(read.bids, read.distance, **arguments)
        if as_json:
            layout.print_json(as_record(quoted, read.bids.ids))
        else:
            render(quoted, console, quiet)
        return
    ranged = quote_range(read.bids, read.distance, field, values, **arguments)
    if plot is not None:
        draw(ranged, plot)
    if as_json:
        rows = [as_record(row, read.bids.ids) for row in ranged.quotes]
        layout.print_json({"field": field, "values": ranged.values, "quotes": rows})
    else:
        render_range(ranged, console)
        if plot is not None:
            console.print(f"\nPlot  {plot}", highlight=False, soft_wrap=True)


def parse_range(text: str) -> tuple[str, np.ndarray]:
    """FIELD=LOW:HIGH:COUNT as the field and its values; numbers of examples are rounded to whole ones.

    Raises:
      click.UsageError: another form, an unknown field, a bound that is no number, a count out of range.
    """
    field, _, bounds = text.partition("=")
    parts = bounds.split(":")
    if field not in FIELDS:
        raise click.UsageError(
            f"--range {text}: field {field!r} is unknown, expected one of {', '.join(FIELDS)}"
        )
    try:
        low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise click.UsageError(
            f"--range {text}: expected FIELD=LOW:HIGH:COUNT, e.g. valuation=0:50000:26"
        ) from None
    if len(parts) != 3 or not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise click.UsageError(f"--range {text}: expected two numbers, the smaller first, and a count")
    if not 1 <= count <= VALUES_MAX:
        raise click.UsageError(f"--range {text}: the count is {count}, expected 1 to {VALUES_MAX}")
    values = np.linspace(low, high, count)
    return field, np.unique(np.rint(values)) if field == "num_examples" else values


def as_record(quoted: Quote, ids: tuple[str, ...]) -> dict[str, Any]:
    """A quote for --json."""
    record = dataclasses.asdict(quoted)
    record["break_even_by_buyer"] = dict(zip(ids, quoted.break_even_by_buyer.tolist(), strict=True))
    record["rule"] = rule_name(quoted.allocation_rule, quoted.payment_rule)
    return record


def render(quoted: Quote, console: Console, quiet: bool) -> None:
    """The trades, the bill, and what they come to."""
    if not quiet:
        if quoted.purchases:
            layout.show(console, "You would buy", "adds = gain that the model adds", purchases_table(quoted))
        if quoted.sales:
            layout.show(console, "You would sell", "up to = your highest export cost", sales_table(quoted))
        layout.show(console, "Your round", "money in gain units", bill_table(quoted))
    for text, good in sentences(quoted):
        layout.sentence(console, text, good)


def purchases_table(quoted: Quote) -> Table:
    """What would be bought, dearest first."""
    shown = layout.table(
        ["from", "examples", "distance", "adds", "friction", "you pay", "you keep"], ["from"]
    )
    places = layout.decimals([purchase.adds for purchase in quoted.purchases])
    for purchase in quoted.purchases[:TRADES_SHOWN]:
        kept = purchase.adds - purchase.friction - purchase.payment
        shown.add_row(
            Text(purchase.seller),
            f"{purchase.num_examples:,}",
            f"{purchase.distance:.3f}",
            *(
                layout.amount(value, places)
                for value in (purchase.adds, purchase.friction, purchase.payment, kept)
            ),
        )
    layout.more(shown, len(quoted.purchases) - TRADES_SHOWN, "--json")
    return shown


def sales_table(quoted: Quote) -> Table:
    """To whom would be sold, dearest first."""
    shown = layout.table(["to", "distance", "you receive", "costs you", "you keep", "up to"], ["to"])
    places = layout.decimals([(sale.payment, sale.break_even_export_cost) for sale in quoted.sales])
    for sale in quoted.sales[:TRADES_SHOWN]:
        shown.add_row(
            Text(sale.buyer),
            f"{sale.distance:.3f}",
            layout.amount(sale.payment, places),
            layout.amount(quoted.export_cost, places),
            layout.amount(sale.payment - quoted.export_cost, places),
            layout.amount(sale.break_even_export_cost, places),
        )
    layout.more(shown, len(quoted.sales) - TRADES_SHOWN, "--json")
    return shown


def bill_table(quoted: Quote) -> Table:
    """Gain - cost - paid + received = utility; less friction, surplus."""
    shown = layout.table(["gain", "- cost", "- paid", "+ received", "= utility", "friction", "surplus"], [])
    figures = (quoted.gain, quoted.cost, quoted.paid, quoted.received, quoted.utility)
    places = layout.decimals(figures)
    shown.add_row(*(layout.amount(value, places) for value in (*figures, quoted.friction, quoted.surplus)))
    return shown


def sentences(quoted: Quote) -> list[tuple[str, bool | None]]:
    """The quote in words."""
    name = rule_name(quoted.allocation_rule, quoted.payment_rule)
    pair = f"{quoted.allocation_rule}/{quoted.payment_rule}"
    rules = f"rules {pair}" if name == pair else f"rule {name} ({pair})"
    bid = (
        f"N {quoted.num_examples:,}, K {layout.figure(quoted.valuation)}, c {quoted.export_cost:g}; "
        f"{rules}, lam {quoted.lam:g}."
    )
    who = "Joining with" if quoted.newcomer else f"{quoted.participant_id} with"
    found: list[tuple[str, bool | None]] = [(f"{who} {bid}", None)]
    if quoted.assumed_distance is not None:
        found.append((_assumption(quoted), None))
    if quoted.purchases or quoted.sales:
        found.append(
            (f"Each round is worth {quoted.utility:.6g} to you, {quoted.surplus:.6g} after friction.", True)
        )
    else:
        found.append(("You would trade with nobody: each round is worth nothing to you.", None))
    found.append((break_even(quoted), None))
    if quoted.gap > 0:
        found.append((_gap(quoted.gap), False))
    return found


def break_even(quoted: Quote) -> str:
    """What the export cost may be."""
    most = quoted.break_even_export_cost
    if math.isnan(most):
        return "Nobody would buy your model, whatever its export cost."
    text = f"Your break-even export cost is {most:.6g}: below it somebody buys your model, above it nobody."
    if quoted.sales:
        text += f" A sale brings {quoted.received_per_sale:.6g} on average."
    return text


def render_range(ranged: QuoteRange, console: Console) -> None:
    """One row per value, and what they come to."""
    rows = layout.widest(console, lambda wide, fewer: range_table(ranged, wide, fewer))
    layout.show(console, f"Quotes over {ranged.field}", "money in gain units", rows)
    first = ranged.quotes[0]
    best = int(np.argmax(ranged.column("utility")))
    layout.sentence(
        console,
        f"Utility is {ranged.quotes[best].utility:.6g} at most, with {ranged.field} "
        f"{layout.figure(ranged.values[best])} (rules {first.allocation_rule}/"
        f"{first.payment_rule}, lam {first.lam:g}).",
    )
    if first.assumed_distance is not None:
        layout.sentence(console, _assumption(first))
    gap = float(np.nanmax(np.append(ranged.column("gap"), 0.0)))
    if gap > 0:
        layout.sentence(console, _gap(gap), False)


def range_table(ranged: QuoteRange, wide: bool = True, fewer: int = 0) -> Table:
    """One row per value."""
    names = ["buys", "sells", "gain", *(["cost", "friction"] if wide else [])]
    names += ["paid", "received" if wide else "rec'd", "utility", "surplus", "break-even"]
    shown = layout.table([ranged.field, *names], [])
    places = layout.decimals([ranged.column(name) for name in MONEY], fewer)
    fields = {
        "buys": "purchases",
        "sells": "sales",
        "rec'd": "received",
        "break-even": "break_even_export_cost",
    }
    for value, row in zip(ranged.values.tolist(), ranged.quotes, strict=True):
        cells = [
            str(len(getattr(row, fields[name])))
            if name in ("buys", "sells")
            else layout.amount(getattr(row, fields.get(name, name)), places)
            for name in names
        ]
        shown.add_row(layout.figure(value), *cells)
    return shown


def _assumption(quoted: Quote) -> str:
    return (
        f"Your distance to the others is not known: {quoted.assumed_distance:.3g} is assumed for each, the median "
        "of the market (--distances-to says better)."
    )


def _gap(gap: float) -> str:
    return (
        f"The node limit ended a search: a buyer may be up to {gap:.3g} short of its optimum, and the quote is "
        "as good as that. Raise --node-limit."
    )


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")

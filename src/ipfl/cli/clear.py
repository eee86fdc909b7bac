"""`ipfl clear`: a market from two files, cleared."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipfl.cli import layout
from ipfl.cli.market_input import MarketInput, market_options, read_market
from ipfl.errors import BidError
from ipfl.market.clearing import clear as clear_market
from ipfl.market.rules import rule_name
from ipfl.types.market import Outcome

TRADES_SHOWN = 20
TRADE_COLUMNS = ("buyer", "seller", "num_examples", "distance", "payment", "charge")
PARTICIPANT_COLUMNS = (
    "participant_id", "num_examples", "valuation", "export_cost", "buys", "sells", "gain", "cost", "friction",
    "paid", "received", "utility", "surplus", "bound", "gap",
)  # fmt: skip
FILES = ("participants.csv", "trades.csv")


@click.command(short_help="Clear a market given as a table of bids and distances.")
@click.argument("bids", type=click.Path(path_type=Path), metavar="BIDS.csv")
@market_options
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help=f"Write {' and '.join(FILES)} there too."
)
@click.option("--force", is_flag=True, help="Replace what --out holds already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print the summary only.")
def clear(bids: Path, out: Path | None, force: bool, as_json: bool, quiet: bool, **market: Any) -> None:
    """Decide who buys from whom and what is paid.

    BIDS.csv has one row per participant with the columns participant_id, num_examples, valuation,
    export_cost and, for other gain curves than the square root, curve (sqrt, power, log), exponent, scale,
    reference.

    \b
    ipfl clear bids.csv --distances d.csv
    ipfl clear bids.csv --distances d.npy --rule paper --lam 1 --out cleared/
    """
    read = read_market(bids, **market)
    if out is not None:
        check_free(out, force)
    outcome = clear_market(read.bids, read.distance, **read.options)
    if out is not None:
        write_files(out, read, outcome)
    if as_json:
        layout.print_json(as_record(read, outcome))
        return
    console = Console()
    if not quiet and len(read.bids):
        everybody = layout.widest(console, lambda wide, fewer: participants_table(read, outcome, wide, fewer))
        layout.show(console, "Participants", "money in gain units", everybody)
        if outcome.allocation.any():
            note = "the price is what the seller receives"
            if outcome.payment_rule == "vcg-subsidised":
                note = "the operator adds what the buyer does not pay"
            layout.show(console, "Trades", note, trades_table(read, outcome))
    for text, passed in summary(read, outcome):
        layout.sentence(console, text, passed)
    if out is not None and not quiet:
        console.print(f"\nWritten to {out}: {', '.join(FILES)}", highlight=False, soft_wrap=True)


def participant_rows(read: MarketInput, outcome: Outcome) -> list[dict[str, Any]]:
    """One record per participant, with the columns of participants.csv."""
    bids = read.bids
    table = {
        "num_examples": bids.num_examples, "valuation": bids.valuation, "export_cost": bids.export_cost,
        "buys": outcome.allocation.sum(axis=1), "sells": outcome.allocation.sum(axis=0),
        "gain": outcome.gains, "cost": outcome.costs, "friction": outcome.frictions, "paid": outcome.paid,
        "received": outcome.received, "utility": outcome.utilities, "surplus": outcome.surpluses,
        "bound": outcome.bound, "gap": outcome.gap,
    }  # fmt: skip
    lists = {name: values.tolist() for name, values in table.items()}
    return [
        {"participant_id": name} | {column: values[index] for column, values in lists.items()}
        for index, name in enumerate(bids.ids)
    ]


def trade_rows(read: MarketInput, outcome: Outcome) -> list[dict[str, Any]]:
    """One record per trade, dearest first, with the columns of trades.csv."""
    buyers, sellers = np.nonzero(outcome.allocation)
    order = np.argsort(-outcome.payments[buyers, sellers], kind="stable")
    return [
        {
            "buyer": read.bids.ids[buyer],
            "seller": read.bids.ids[seller],
            "num_examples": int(read.bids.num_examples[seller]),
            "distance": float(read.distance[buyer, seller]),
            "payment": float(outcome.payments[buyer, seller]),
            "charge": float(outcome.charges[buyer, seller]),
        }
        for buyer, seller in zip(buyers[order].tolist(), sellers[order].tolist(), strict=True)
    ]


def as_record(read: MarketInput, outcome: Outcome) -> dict[str, Any]:
    """What --json prints."""
    proven = outcome.allocation_rule == "exact" and not (outcome.gap > 0).any()
    return {
        "rule": rule_name(*read.rule),
        "allocation_rule": outcome.allocation_rule,
        "payment_rule": outcome.payment_rule,
        "lam": read.lam,
        "welfare": outcome.welfare,
        "objective": outcome.objective,
        "subsidy": outcome.subsidy,
        "proven_optimal": proven,
        "max_gap": float(outcome.gap.max(initial=0.0)),
        "participants": participant_rows(read, outcome),
        "trades": trade_rows(read, outcome),
    }


def participants_table(read: MarketInput, outcome: Outcome, wide: bool = True, fewer: int = 0) -> Table:
    """How everybody fares."""
    rows = participant_rows(read, outcome)
    names = {"participant_id": "participant", "num_examples": "examples" if wide else "ex."}
    names |= {"valuation": "valuation", "export_cost": "exp. cost"} if wide else {}
    names |= {"buys": "buys", "sells": "sells", "gain": "gain", "cost": "cost"}
    names |= {"friction": "friction"} if wide else {}
    names |= {"paid": "paid", "received": "received" if wide else "rec'd"}
    names |= {"utility": "utility", "surplus": "surplus"}
    market = layout.table(list(names.values()), ["participant"], footer=len(rows) > 1)
    money = ("gain", "cost", "friction", "paid", "received", "utility", "surplus")
    places = layout.decimals([[row[name] for name in money] for row in rows], fewer)
    for row in rows[: layout.ROWS_SHOWN]:
        market.add_row(
            Text(row["participant_id"]),
            *(
                layout.amount(row[name], places) if name in money else layout.short(row[name])
                for name in list(names)[1:]
            ),
        )
    for column, name in zip(market.columns, names, strict=True):
        if name in money:
            total = math.fsum(row[name] for row in rows)
            column.footer = layout.amount(total, min(places, layout.decimals(total)))
        elif name in ("num_examples", "buys", "sells"):
            column.footer = layout.figure(sum(row[name] for row in rows))
    market.columns[0].footer = "total"
    layout.more(market, len(rows) - layout.ROWS_SHOWN, "--json or --out FOLDER")
    return market


def trades_table(read: MarketInput, outcome: Outcome) -> Table:
    """The trades, dearest first."""
    rows = trade_rows(read, outcome)
    subsidised = outcome.payment_rule == "vcg-subsidised"
    market = layout.table(
        ["buyer", "seller", "examples", "distance", "receives" if subsidised else "price"]
        + (["buyer pays"] if subsidised else []),
        ["buyer", "seller"],
    )
    places = layout.decimals([row["payment"] for row in rows])
    for row in rows[:TRADES_SHOWN]:
        market.add_row(
            Text(row["buyer"]),
            Text(row["seller"]),
            layout.figure(row["num_examples"]),
            f"{row['distance']:.3f}",
            layout.amount(row["payment"], places),
            *([layout.amount(row["charge"], places)] if subsidised else []),
        )
    layout.more(market, len(rows) - TRADES_SHOWN, "--json or --out FOLDER")
    return market


def summary(read: MarketInput, outcome: Outcome) -> list[tuple[str, bool | None]]:
    """The market in a few sentences."""
    m, trades = len(read.bids), int(outcome.allocation.sum())
    name = rule_name(*read.rule)
    pair = "/".join(read.rule)
    rules = f"rules {pair}" if name == pair else f"rule {name} ({pair})"
    found: list[tuple[str, bool | None]] = [
        (f"{_counted(m, 'participant')}, {_counted(trades, 'trade')}, {rules}, lam {read.lam:g}.", None)
    ]
    if m < 2:
        found.append(("Nobody can trade: a market needs two participants at least.", None))
        return found
    if not read.bids.valuation.any():
        found.append(("Every valuation is 0: nobody values another's model, so nobody buys.", None))
        return found
    if not trades:
        found.append(("No model is worth its export cost and friction to anybody, so nobody buys.", None))
    found.append(
        (f"Welfare (gains less costs) {outcome.welfare:.6g}; less friction {outcome.objective:.6g}.", None)
    )
    if outcome.payment_rule == "vcg-subsidised":
        found.append((f"The operator adds a subsidy of {outcome.subsidy:.6g}.", None))
    found.append(proof(read, outcome))
    return found


def proof(read: MarketInput, outcome: Outcome) -> tuple[str, bool | None]:
    """Whether the graph is proven to be the best."""
    if outcome.allocation_rule == "greedy":
        return "The greedy graph comes without proof of being the best; `ipfl audit` compares the two.", None
    short = np.flatnonzero(outcome.gap > 0)
    if not short.size:
        return "Every buyer's set is proven to be its optimum.", True
    worst = int(short[np.argmax(outcome.gap[short])])
    return (
        f"The node limit of {read.node_limit:,} ended the search of {_counted(len(short), 'buyer')}: "
        f"{read.bids.ids[worst]} may be up to {outcome.gap[worst]:.3g} short of its optimum. "
        "Raise --node-limit to close the gap.",
        False,
    )


def check_free(folder: Path, force: bool) -> None:
    """Refuse to replace files that were not asked to be replaced."""
    taken = [name for name in FILES if (folder / name).exists()]
    if taken and not force:
        raise BidError(f"{folder / taken[0]} exists: choose another --out, or replace it with --force")


def write_files(folder: Path, read: MarketInput, outcome: Outcome) -> None:
    """participants.csv and trades.csv; an unproven bound or gap is left empty."""
    from ipfl.run_folder import write_text

    tables = (
        (PARTICIPANT_COLUMNS, participant_rows(read, outcome)),
        (TRADE_COLUMNS, trade_rows(read, outcome)),
    )
    for name, (columns, rows) in zip(FILES, tables, strict=True):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(layout.plain(rows))
        write_text(folder / name, buffer.getvalue())


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

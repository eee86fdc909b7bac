"""`ipfl statement`: one participant's bill, line by line, and whether it was better off than alone."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ipfl.ledger.statement import Statement
    from ipfl.report.bill import Bill

HTML_HERE = "participants/<id>/statement.html"
BESIDE = 130
"""Columns from which reasons stand beside amounts."""
_TONES = {"good": True, "bad": False, "neutral": None}


@click.command(short_help="A participant's bill: every trade, why, and was it worth it.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.argument("participant_id")
@click.option("--csv", "as_csv", is_flag=True, help="Print the lines as CSV, amounts as exact decimals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in whole units, and nothing else.")
@click.option(
    "--html",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help=f"Write a page to print instead; without FILE it is RUN_FOLDER/{HTML_HERE}.",
)
@click.option(
    "--round", "round_index", type=click.IntRange(min=0), metavar="N", help="The lines of one round."
)
def statement(
    run_folder: Path,
    participant_id: str,
    as_csv: bool,
    as_json: bool,
    html: str | None,
    round_index: int | None,
) -> None:
    """Print what PARTICIPANT_ID bought and sold in RUN_FOLDER, at which price and why, and what that came to.

    Amounts are the ledger's, to the unit of 0.000001 credit. The verdict says whether the participant was better off
    than alone, in utility and in accuracy; with --round too it is about the whole run. A run that goes on must be
    paused first (Ctrl-C): its ledger is open to one program at a time.

    \b
    ipfl statement runs/digits-001 participant-00
    ipfl statement runs/digits-001 participant-00 --round 3
    ipfl statement runs/digits-001 participant-00 --html
    """
    from ipfl.report import bill as bills

    if sum((as_csv, as_json, html is not None)) > 1:
        raise click.UsageError("--csv, --json and --html are three forms of one statement: give one of them")
    account = _statement(run_folder, participant_id)
    if as_csv:
        from ipfl.ledger.statement import csv_text

        shown = replace(account, lines=bills.lines_of(account, round_index))
        click.echo(csv_text(shown), nl=False)
        return
    from ipfl.run_folder import load_run

    bill = bills.bill(load_run(run_folder), account, round_index)
    if as_json:
        from ipfl.cli.layout import print_json

        print_json(bills.as_record(bill))
    elif html is not None:
        path = Path(html) if html else run_folder / HTML_HERE.replace("<id>", participant_id)
        bills.write_bill(bill, path)
        click.echo(path)
    else:
        from rich.console import Console

        render(bill, Console())


def render(bill: "Bill", console: "Console") -> None:
    """The lines, the totals and the verdict."""
    from ipfl.cli import layout

    account = bill.statement
    note = f"run {bill.run}; money in credits, below zero it was paid"
    layout.show(console, f"Statement of {account.participant_id}", note, lines_table(bill, console.width))
    if bill.pricing:
        layout.sentence(console, bill.pricing)
    for point in bill.points:
        layout.sentence(console, point.sentence, _TONES[point.tone])
    seq, head = account.head
    console.print(
        f"\nLedger  {seq} entries, the newest {head[:16]}",
        highlight=False,
        soft_wrap=True,
    )


def lines_table(bill: "Bill", width: int) -> "Table":
    """One row per line; why it came about stands beside it, or below where the terminal is narrow."""
    from rich.text import Text

    from ipfl.cli import layout

    beside = width >= BESIDE
    names = ["round", "what", *(["examples", "distance"] if beside else []), "amount", "balance"]
    shown = layout.table([*names, *(["why"] if beside else [])], ["what", "why"])
    for column in shown.columns:
        if column.header in ("what", "why"):
            column.no_wrap, column.overflow = False, "fold"
    for item in bill.lines[-layout.ROWS_SHOWN :]:
        line, why = item.line, item.why
        what = Text(item.what)
        if why and not beside:
            what.append(f"\n{why}", "dim")
        moves = line.num_examples is not None
        shown.add_row(
            str(line.round_index),
            what,
            *([f"{line.num_examples:,}", f"{line.distance:.3f}"] if beside and moves else [""] * 2 * beside),
            _money(line.amount) if moves or line.amount else "",
            _money(line.balance),
            *([Text(why, "dim")] if beside else []),
        )
    left_out = len(bill.lines) - layout.ROWS_SHOWN
    if left_out > 0:
        shown.caption = f"and {left_out:,} earlier lines: see --csv, --html or --round"
    return shown


def _money(units: int) -> "Text":
    from rich.text import Text

    from ipfl.ledger.amounts import decimal_text

    style = "dim" if units == 0 else "red" if units < 0 else ""
    return Text(decimal_text(units, grouped=True), style)


def _statement(run_folder: Path, participant_id: str) -> "Statement":
    from ipfl.ledger import Ledger
    from ipfl.ledger.statement import statement as account_of

    with Ledger.open(run_folder / "ledger.db") as ledger:
        return account_of(ledger.entries(), participant_id)

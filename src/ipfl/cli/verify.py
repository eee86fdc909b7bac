"""`ipfl verify`: is the ledger what it was, does it add up, and is every price the one that the rules lead to?"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipfl.cli import layout
from ipfl.cli.plugin_option import plugin_option

if TYPE_CHECKING:
    from rich.console import Console

    from ipfl.ledger import Verification

CHECK_FAILED = 1
"""Exit code: something was found."""
LAWS = {
    "tables": "Tables and triggers are those of an append-only ledger.",
    "chain": "Every entry has the hash that its content and the entry before it lead to.",
    "balance": "Every entry adds up to zero, and so do all balances.",
    "accounts": "Nothing is posted to an account before it opens or after it closes.",
    "reversals": "Every reversal undoes one entry before it, and nothing else.",
    "rounds": "Every round is sealed, with as many sales as its seal says.",
    "prices": "Every price is, to the unit, the one that the round's bids and distances lead to.",
    "privacy": "Nobody's epsilon falls.",
    "receipts": "Every receipt is genuine, and the ledger still says what it says.",
    "files": "Tables, distances, receipts, the newest state and the models are those that the ledger leads to.",
}
"""What is looked at, in words for when it holds."""


@click.command(short_help="Check a run's ledger: chain, sums, every price, receipts.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option(
    "--receipts",
    "where",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR|FILE",
    help="Receipts that participants kept (*.jsonl), to be held against the ledger.",
)
@click.option(
    "--key", metavar="HEX", help="The operator's public key that receipts must be signed with (64 digits)."
)
@plugin_option
@click.option("--quiet", is_flag=True, help="Print only what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def verify(run_folder: Path, where: Path | None, key: str | None, quiet: bool, as_json: bool) -> None:
    """Verify the money of RUN_FOLDER from its ledger alone, and the files that repeat it. Nothing is changed.

    \b
    ipfl verify runs/digits-001
    ipfl verify runs/digits-001 --receipts my-receipts/

    The chain of hashes, all sums and balances, and every price are computed again. A ledger from which the newest
    entries were taken, or which was written anew as a whole, is told from the true one by a receipt that somebody
    kept: it is tamper-evident to whoever kept a receipt.

    Exit codes: 0 all is as it should be; 1 something is not; 2 bad usage, or a ledger that cannot be read.
    """
    from rich.console import Console

    from ipfl.ledger import read_receipts
    from ipfl.upkeep.checking import check_is_run, verify_run

    if key is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", key):
        raise click.UsageError(
            f"--key {key}: expected 64 hexadecimal digits (operator_key in environment.json)"
        )
    check_is_run(run_folder)
    receipts = read_receipts(where) if where is not None else []
    found = verify_run(run_folder, receipts, None if key is None else key.lower())
    if as_json:
        layout.print_json(_record(found))
    else:
        _render(Console(), found, bool(receipts), quiet)
    if not found.sound:
        sys.exit(CHECK_FAILED)


def _render(console: "Console", found: "Verification", with_receipts: bool, quiet: bool) -> None:
    from rich.text import Text

    faults: dict[str, list[str]] = {}
    for fault in found.faults:
        faults.setdefault(fault.law, []).append(fault.sentence)
    if not quiet:
        console.print(
            Text.assemble(
                ("Ledger", "bold"),
                f"  {found.entries:,} entries, {layout.counted(found.rounds, 'round')}, "
                f"{layout.counted(found.sales, 'sale')}, {layout.counted(found.prices, 'price')} computed again, "
                f"{layout.counted(found.receipts, 'receipt')}",
            )
        )
        console.print(Text(f"Head    {found.head[0]} {found.head[1]}"), soft_wrap=True)
        console.print()
    for law in dict.fromkeys([*LAWS, *faults]):
        for sentence in faults.get(law, []):
            layout.sentence(console, f"{layout.started(sentence)}.", False)
        if law not in faults and not quiet and (law != "receipts" or with_receipts):
            layout.sentence(console, LAWS[law], True)
    if not with_receipts and not quiet:
        layout.sentence(
            console,
            "No receipts were given. Whether the newest entries were taken away, or the whole ledger was written "
            "anew, can only be told with a receipt that somebody kept.",
        )
    if quiet:
        return
    console.print()
    if found.sound:
        console.print(Text("Verified.", "bold green"))
    else:
        count = layout.counted(len(found.faults), "fault")
        console.print(Text.assemble(("Not verified:", "bold red"), f" {count}."))


def _record(found: "Verification") -> dict[str, Any]:
    from ipfl.market.units import UNITS

    return {
        "sound": found.sound,
        "run": found.run,
        "entries": found.entries,
        "rounds": found.rounds,
        "sales": found.sales,
        "prices": found.prices,
        "receipts": found.receipts,
        "head": {"seq": found.head[0], "hash": found.head[1]},
        "units_per_credit": UNITS,
        "balances": found.balances,
        "faults": [{"law": fault.law, "sentence": fault.sentence} for fault in found.faults],
    }

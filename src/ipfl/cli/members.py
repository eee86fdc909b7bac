"""`ipfl members`: who takes part in a run, and letting somebody in or out while it is paused."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipfl.cli import layout

if TYPE_CHECKING:
    from ipfl.upkeep.members import Membership


@click.command(short_help="List a run's members; let one join or leave while it is paused.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--join", "joining", metavar="ID", help="Let this participant join before the next round.")
@click.option("--leave", "leaving", metavar="ID", help="Let this participant leave before the next round.")
@click.option("--json", "as_json", is_flag=True, help="Print the members as JSON.")
def members(run_folder: Path, joining: str | None, leaving: str | None, as_json: bool) -> None:
    """List the members of RUN_FOLDER, their balances, and when they joined and left.

    \b
    ipfl members runs/digits-001
    ipfl members runs/digits-001 --leave participant-03      (then: ipfl run --resume runs/digits-001)

    Whoever leaves trades no more; its account is closed, and its statement stays.
    """
    from ipfl.upkeep.members import change_membership, memberships

    if joining is not None and leaving is not None:
        raise click.UsageError("give --join or --leave, one at a time")
    if joining is not None or leaving is not None:
        event, name = ("join", joining) if joining is not None else ("leave", leaving)
        entry = change_membership(run_folder, event, str(name))
        if not as_json:
            does = "joins" if event == "join" else "leaves"
            click.echo(
                f"{name} {does} before round {entry.round_index} (entry {entry.seq}); "
                f"go on with `ipfl run --resume {run_folder}`"
            )
            return
    found = memberships(run_folder)
    if as_json:
        layout.print_json([_record(member) for member in found])
    else:
        _render(found)


def _render(found: "list[Membership]") -> None:
    from rich.console import Console
    from rich.text import Text

    from ipfl.market.units import UNITS

    shown = layout.table(
        ["participant", "account", "balance", "history"], ["participant", "account", "history"]
    )
    for member in found[: layout.ROWS_SHOWN]:
        state = ("open", "green") if member.open else ("closed" if member.history else "not yet open", "dim")
        events = [
            f"{entry.kind} {entry.round_index}{_with_key(entry.terms.get('key'))}" for entry in member.history
        ]
        events += [f"({event} {round_index})" for round_index, event in member.planned]
        balance = layout.amount(member.balance / UNITS, 6)
        shown.add_row(Text(member.participant_id), Text(*state), balance, Text(", ".join(events)))
    layout.more(shown, len(found) - layout.ROWS_SHOWN, "--json")
    note = "before which round each joined or left; in brackets: planned"
    layout.show(Console(), "Members", note, shown)


def _with_key(key: str | None) -> str:
    return "" if key is None else f" (key {key[:16]}...)"


def _record(member: "Membership") -> dict[str, Any]:
    return {
        "participant_id": member.participant_id,
        "open": member.open,
        "balance": member.balance,
        "history": [
            {
                "event": entry.kind,
                "round_index": entry.round_index,
                "by": entry.terms.get("by", "start"),
                **({"key": entry.terms["key"]} if "key" in entry.terms else {}),
            }
            for entry in member.history
        ],
        "planned": [{"event": event, "round_index": round_index} for round_index, event in member.planned],
    }

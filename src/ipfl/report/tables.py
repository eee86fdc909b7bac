"""Tables and the verdict for the terminal, and the same as JSON.

`render_tables` writes to a rich console: it fits 80 columns, uses more where there are more, and stays
readable without colour.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from ipfl.report.sentences import Point, points
from ipfl.report.summary import Verdict, num_decimals, participant_table, settled, verdict
from ipfl.report.why import Trade, trades
from ipfl.run_folder import Run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDE = 100
NUM_TRADES_SHOWN = 12
NUM_PARTICIPANTS_SHOWN = 200

_MONEY = ("gain", "cost", "paid", "received", "utility")
_HEADINGS = {
    "id": ("participant", "participant"),
    "kind": ("kind", "kind"),
    "num_examples": ("examples", "ex."),
    "accuracy": ("accuracy", "acc."),
    "accuracy_alone": ("alone", "alone"),
    "gain": ("gain", "gain"),
    "cost": ("cost", "cost"),
    "paid": ("paid", "paid"),
    "received": ("received", "rec'd"),
    "utility": ("utility", "utility"),
}
_LOSSES = {"loss": ("loss", "loss"), "loss_alone": ("loss alone", "alone")}
_STYLES = {"good": "green", "bad": "red", "neutral": "bold"}
_MARKS = {"good": "✓", "bad": "!", "neutral": "·"}


def render_tables(run: Run, console: "Console") -> None:
    """Print participants, the last round's trades and the verdict."""
    run = settled(run)
    wide = console.width >= WIDE
    console.print()
    language = run.config.language is not None
    console.print(participants_table(participant_table(run), wide=wide, losses=language and wide))
    if run.rounds:
        console.print()
        last = run.rounds[-1]["round_index"]
        console.print(trades_table(trades(run, last), last, wide=wide))
    console.print(verdict_text(verdict(run), console.encoding))


def participants_table(rows: list[dict[str, Any]], *, wide: bool = True, losses: bool = False) -> "Table":
    """One row per participant; money is the total over all rounds, in gain units. `losses` stand after accuracy."""
    table = _table("Participants", "money in gain units, over all rounds", wide)
    columns = list(_HEADINGS.items())
    if losses:
        columns[5:5] = _LOSSES.items()
    for key, headings in columns:
        text = key in ("id", "kind")
        table.add_column(
            headings[0 if wide else 1],
            justify="left" if text else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if key == "id" else len(headings[0 if wide else 1]),
        )
    decimals = num_decimals([row[key] for row in rows for key in _MONEY])
    decimals = decimals if wide else max(decimals - 1, 0)
    for row in rows[:NUM_PARTICIPANTS_SHOWN]:
        table.add_row(
            _plain(row["id"]),
            row["kind"],
            "–" if row["num_examples"] is None else f"{row['num_examples']:,}",
            _accuracy(row["accuracy"], row["accuracy_alone"]),
            _percent(row["accuracy_alone"]),
            *(_loss(row[key]) for key in (_LOSSES if losses else ())),
            *(_money(row[key], decimals) for key in _MONEY),
        )
    if len(rows) > NUM_PARTICIPANTS_SHOWN:
        table.caption = f"and {len(rows) - NUM_PARTICIPANTS_SHOWN:,} more: see report.html or --json"
    return table


def trades_table(found: list[Trade], round_index: int, *, wide: bool = True) -> "Table":
    """The trades of one round, dearest first, with what decided each."""
    title = f"Trades of round {round_index}"
    if not found:
        table = _table(title, "nobody bought anything", wide)
        table.add_column("")
        return table
    table = _table(title, "worth = marginal gain - friction; kept = worth - price", wide)
    table.add_column("buyer", no_wrap=True, overflow="ellipsis")
    table.add_column("seller", no_wrap=True, overflow="ellipsis")
    for heading in ("examples" if wide else "ex.", "distance" if wide else "dist."):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("adds", "friction", "price", "buyer keeps", "seller keeps"):
        short = {"friction": "fric."}.get(heading, heading.replace("keeps", "kept"))
        table.add_column(heading if wide else short, justify="right", no_wrap=wide)
    shown = sorted(found, key=lambda trade: -trade.payment)[:NUM_TRADES_SHOWN]
    decimals = num_decimals([trade.marginal_gain for trade in shown])
    for trade in shown:
        amounts = (trade.marginal_gain, trade.friction, trade.payment, trade.buyer_kept, trade.seller_kept)
        table.add_row(
            _plain(trade.buyer),
            _plain(trade.seller),
            f"{trade.num_examples:,}",
            f"{trade.distance:.3f}",
            *(_money(amount, decimals) for amount in amounts),
        )
    if len(found) > len(shown):
        table.caption = f"and {len(found) - len(shown):,} more in edges.csv"
    return table


def verdict_text(facts: Verdict, encoding: str = "utf-8") -> "Text":
    """The verdict, one sentence a line, marked by more than colour."""
    from rich.text import Text

    text = Text("\n")
    for point in points(facts):
        text.append_text(_sentence(point, encoding))
    return text


def to_json(run: Run) -> dict[str, Any]:
    """What `ipfl show --json` prints: plain numbers, lists and strings."""
    run = settled(run)
    facts = verdict(run)
    last = run.rounds[-1]["round_index"] if run.rounds else None
    shown = [] if last is None else trades(run, last)
    return {
        "path": str(run.path),
        "method": run.config.method,
        "task": run.config.task,
        "seed": run.config.seed,
        "verdict": dataclasses.asdict(facts)
        | {"balanced": facts.balanced, "sentences": [point.sentence for point in points(facts)]},
        "participants": participant_table(run),
        "trades": [
            dataclasses.asdict(trade) | {"buyer_kept": trade.buyer_kept, "seller_kept": trade.seller_kept}
            for trade in shown
        ],
    }


def _table(title: str, note: str, wide: bool) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = Text.assemble((title, "bold"), ("  " + note, "dim"))
    return Table(
        title=heading,
        title_justify="left",
        title_style="",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2 if wide else 1, 0, 0),
        header_style="dim",
    )


def _sentence(point: Point, encoding: str) -> "Text":
    from rich.text import Text

    mark = _MARKS[point.tone]
    try:
        mark.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        mark = {"good": "+", "bad": "!", "neutral": "-"}[point.tone]
    return Text.assemble((f"{mark} ", _STYLES[point.tone]), point.sentence, "\n")


def _plain(name: str) -> "Text":
    """A name as it stands: square brackets in it are no markup."""
    from rich.text import Text

    return Text(name)


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _accuracy(accuracy: float | None, alone: float | None) -> "Text":
    from rich.text import Text

    style = ""
    if accuracy is not None and alone is not None and accuracy != alone:
        style = "green" if accuracy > alone else "red"
    return Text(_percent(accuracy), style)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _money(amount: float, decimals: int) -> "Text":
    from rich.text import Text

    shown = f"{amount:,.{decimals}f}"
    if float(shown.replace(",", "")) == 0:
        return Text(shown.lstrip("-"), "dim")
    return Text(shown, "red" if amount < 0 else "")

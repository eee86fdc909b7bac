"""A participant's bill: its statement, why each price came about, and whether it was better off than alone.

The money is the ledger's; the reasons come from the rounds (`report.why`) and stand where the run folder has them. On
paper it is one HTML page without scripts, in A4.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ipfl.errors import LedgerError
from ipfl.ledger.amounts import decimal_text
from ipfl.ledger.statement import BOUGHT, CLOSED, OPENED, SOLD, Line, Statement
from ipfl.report.bill_points import points_of
from ipfl.report.sentences import Point
from ipfl.report.summary import settled
from ipfl.report.view import _pricing
from ipfl.report.why import Trade, trades
from ipfl.run_folder import Run, write_text

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class BillLine:
    """A line of the statement, and the trade behind it where the run folder has its round."""

    line: Line
    trade: Trade | None

    @property
    def premium(self) -> int | None:
        """The price beyond the seller's export cost, in units."""
        if self.line.price is None or self.line.export_cost is None:
            return None
        return self.line.price - self.line.export_cost

    @property
    def what(self) -> str:
        """The line in a few words."""
        if self.line.side in (OPENED, CLOSED):
            return f"account {self.line.side}"
        if self.line.side == BOUGHT:
            return f"bought from {self.line.other}"
        if self.line.side == SOLD:
            return f"sold to {self.line.other}"
        return f"{self.line.side}, {self.line.other}" if self.line.other else self.line.side

    @property
    def worth(self) -> str:
        """What the model was worth to its buyer; nothing where that is not known."""
        if self.trade is None:
            return ""
        adds, friction, kept = (
            six(value) for value in (self.trade.marginal_gain, self.trade.friction, self.trade.buyer_kept)
        )
        who = "kept" if self.line.side == BOUGHT else f"{self.line.other} kept"
        return f"adds {adds} - friction {friction}, {who} {kept}"

    @property
    def why(self) -> str:
        """What the price is made of and what the model was worth, or what was undone and why."""
        if self.line.side not in (BOUGHT, SOLD):
            return self.line.about
        if self.premium is None or self.line.export_cost is None:
            return self.worth
        price = f"{decimal_text(self.line.export_cost)} cost + {decimal_text(self.premium)} premium"
        kept = ", kept" if self.line.side == SOLD else ""
        subsidy = f", operator pays {decimal_text(self.line.subsidy)}" if self.line.subsidy else ""
        return "; ".join(part for part in (f"{price}{kept}{subsidy}", self.worth) if part)


@dataclass(frozen=True)
class Bill:
    """What is shown: some or all lines; totals and verdict are always of the whole statement."""

    run: str
    method: str
    pricing: str
    statement: Statement
    lines: tuple[BillLine, ...]
    points: tuple[Point, ...]
    round_index: int | None = None


def bill(run: Run, statement: Statement, round_index: int | None = None) -> Bill:
    """The bill of a statement.

    Args:
      run: the folder that the ledger is in.
      statement: of the whole ledger.
      round_index: show the lines of one round alone.
    Raises:
      LedgerError: the ledger has no such round.
    """
    run = settled(run)
    lines = lines_of(statement, round_index)
    known = _trades(run, {line.round_index for line in lines if line.side in (BOUGHT, SOLD)})
    return Bill(
        run=run.path.resolve().name,
        method=run.config.method,
        pricing=_pricing(run),
        statement=statement,
        lines=tuple(BillLine(line, known.get(_pair(statement, line))) for line in lines),
        points=points_of(run, statement),
        round_index=round_index,
    )


def lines_of(statement: Statement, round_index: int | None) -> tuple[Line, ...]:
    """All lines, or those of one round.

    Raises:
      LedgerError: the ledger has no such round.
    """
    if round_index is None:
        return statement.lines
    found = tuple(line for line in statement.lines if line.round_index == round_index)
    if not found and not 0 <= round_index < statement.rounds:
        many = "1 round" if statement.rounds == 1 else f"{statement.rounds:,} rounds"
        raise LedgerError(f"the ledger holds no round {round_index}: it has {many}, from 0")
    return found


def as_record(bill: Bill) -> dict[str, Any]:
    """The bill for programs: money as whole units."""
    statement = bill.statement
    return {
        "run": bill.run,
        "run_digest": statement.run,
        "participant_id": statement.participant_id,
        "unit": "0.000001 credit",
        "head": {"entry": statement.head[0], "hash": statement.head[1]},
        "account_open": statement.is_open,
        "paid_units": statement.paid,
        "received_units": statement.received,
        "balance_units": statement.balance,
        "privacy": None if statement.privacy is None else statement.privacy._asdict(),
        "lines": [_line_record(item) for item in bill.lines],
        "verdict": [
            {"key": point.key, "tone": point.tone, "sentence": point.sentence} for point in bill.points
        ],
    }


def write_bill(bill: Bill, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
      RunFolderError: it cannot be written.
    """
    write_text(path, render_bill(bill))


def render_bill(bill: Bill) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = _money
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return environment.get_template("statement.html").render(
        bill=bill,
        statement=bill.statement,
        subsidised=any(item.line.subsidy for item in bill.lines),
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
    )


def six(value: float) -> str:
    """A figure that is not exact, to a unit.

    >>> six(0.67290251), six(-1e-12)
    ('0.672903', '0.000000')
    """
    text = f"{value:,.6f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def _trades(run: Run, rounds: Iterable[int]) -> dict[tuple[int, str, str], Trade]:
    """Trades by round, buyer and seller; every round is asked of a run that has nothing else."""
    lines = {line["round_index"]: line for line in run.rounds}
    edges, ledger = _by_round(run.edges), _by_round(run.ledger)
    found: dict[tuple[int, str, str], Trade] = {}
    for index in rounds:
        if index in lines:
            alone = replace(
                run, rounds=[lines[index]], edges=edges.get(index, []), ledger=ledger.get(index, [])
            )
            found |= {(index, trade.buyer, trade.seller): trade for trade in trades(alone, index)}
    return found


def _by_round(rows: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["round_index"], []).append(row)
    return found


def _pair(statement: Statement, line: Line) -> tuple[int, str, str]:
    own, other = statement.participant_id, line.other or ""
    buyer, seller = (own, other) if line.side == BOUGHT else (other, own)
    return (line.round_index, buyer, seller) if line.side in (BOUGHT, SOLD) else (-1, "", "")


def _line_record(item: BillLine) -> dict[str, Any]:
    line, trade = item.line, item.trade
    return {
        "round_index": line.round_index,
        "side": line.side,
        "with": line.other,
        "num_examples": line.num_examples,
        "distance": line.distance,
        "amount_units": line.amount,
        "balance_units": line.balance,
        "price_units": line.price,
        "export_cost_units": line.export_cost,
        "subsidy_units": line.subsidy,
        "marginal_gain": trade.marginal_gain if trade else None,
        "friction": trade.friction if trade else None,
        "buyer_kept": trade.buyer_kept if trade else None,
        "seller_kept_units": item.premium,
        "entry": line.entry,
        "hash": line.hash,
        "about": line.about,
    }


def _money(units: int | None) -> str:
    """As it is set on paper: a real minus, thousands apart."""
    return "" if units is None else decimal_text(units, grouped=True).replace("-", "−")


@cache
def _style() -> str:
    return (_TEMPLATES / "statement.css").read_text(encoding="utf-8").strip()

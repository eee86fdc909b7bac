"""What the market commands share: their options, and a market read from files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from ipfl.market.exact import NODE_LIMIT
from ipfl.market.rules import ALLOCATIONS, PAYMENTS, RULES, Rule, check_rules, resolve_rule
from ipfl.market.tables import read_bids, read_distances
from ipfl.types.market import Bids

LAM = 0.1
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class MarketInput:
    """A market as the command line describes it."""

    bids: Bids
    distance: np.ndarray
    lam: float
    rule: Rule
    node_limit: int

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments of `clear`, `audit` and `quote`."""
        return {"lam": self.lam, **self.rule._asdict(), "node_limit": self.node_limit}


def market_options(command: Command) -> Command:
    """--distances, --lam, the rules, --node-limit."""
    options = (
        click.option(
            "--distances",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Distances in [0, 2], row = buyer: .npy, or CSV with or without ids.",
        ),
        click.option("--lam", type=float, help=f"Weight of friction, >= 0.  [default: {LAM}]"),
        click.option(
            "--rule", metavar="NAME", help=f"Rule set: {', '.join(RULES)}.  [default: {next(iter(RULES))}]"
        ),
        click.option("--allocation", metavar="NAME", help=f"Instead of --rule: {', '.join(ALLOCATIONS)}."),
        click.option("--payment", metavar="NAME", help=f"Instead of --rule: {', '.join(PAYMENTS)}."),
        click.option(
            "--node-limit",
            type=int,
            help=f"States that one exact search may visit.  [default: {NODE_LIMIT:,}]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_market(
    bids: Path,
    distances: Path | None,
    lam: float | None,
    rule: str | None,
    allocation: str | None,
    payment: str | None,
    node_limit: int | None,
) -> MarketInput:
    """The market that the arguments name.

    Raises:
      click.UsageError: no distances, or both --rule and its parts.
      BidError: a file or a rule that makes no market.
    """
    chosen = chosen_rule(rule, allocation, payment)
    if distances is None:
        raise click.UsageError("Missing option '--distances': the file of distances between participants.")
    read = read_bids(bids)
    return MarketInput(
        bids=read,
        distance=read_distances(distances, read),
        lam=LAM if lam is None else lam,
        rule=chosen,
        node_limit=NODE_LIMIT if node_limit is None else node_limit,
    )


def chosen_rule(rule: str | None, allocation: str | None, payment: str | None) -> Rule:
    """The rule set named, or the pair; what is not given is that of the default."""
    if rule is not None and (allocation or payment):
        raise click.UsageError("--rule names both allocation and payment: give it, or those two")
    default = resolve_rule(rule if rule is not None else next(iter(RULES)))
    return check_rules(allocation or default.allocation, payment or default.payment)

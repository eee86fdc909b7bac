"""What a participant could gain by a false report: the record, and the mechanism as the auditor sees it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ipfl.market.clearing import clear_by, settle
from ipfl.market.exact import Effort
from ipfl.market.problems import Problems, problems
from ipfl.market.rules import Rule
from ipfl.types.market import Bids, Outcome

NEGLIGIBLE = 1e-9
"""Differences below this share of the market's scale count as zero."""
CHUNK_ENTRIES = 1 << 20
"""Pairs of (trial, seller) put to the mechanism at once."""


@dataclass(frozen=True, eq=False)
class Regret:
    """The most each participant could gain by one kind of misreport.

    Attributes:
      regret: the gain from the best misreport found, 0 where there is none.
      witness: a report that attains it (or comes close); the truth where the regret is 0.
      exact: whether it is the supremum over all reports; otherwise a lower bound, by search.
      reports: how many reports were tried.
    """

    regret: Float[np.ndarray, "m"]
    witness: Float[np.ndarray, "m"]
    exact: bool
    reports: int


@dataclass(frozen=True, eq=False)
class Case:
    """A market under audit: the true bids, the rule, and all buyers' true problems."""

    truth: Bids
    distance: Float[np.ndarray, "m m"]
    lam: float
    rule: Rule
    effort: Effort

    @property
    def problems(self) -> Problems:
        """Every buyer's problem, by the true bids."""
        return problems(self.truth, self.distance, self.lam)

    def clear(self, bids: Bids) -> Outcome:
        """This market cleared again with other reports."""
        return clear_by(bids, self.distance, self.lam, self.rule, self.effort)

    @property
    def scale(self) -> float:
        """The most that any one participant could gain: sums of money are measured against it; 1 if none."""
        everyone = self.problems
        most = everyone.gains(everyone.sizes.sum() - everyone.own)
        return float(most.max(initial=0.0)) or 1.0


@dataclass(frozen=True, eq=False)
class Bills:
    """What the mechanism decides about a list of buyers' problems."""

    allocation: Bool[np.ndarray, "b m"]
    payments: Float[np.ndarray, "b m"]
    charges: Float[np.ndarray, "b m"]


def put(block: Problems, rule: Rule, effort: Effort) -> Bills:
    """Put a list of problems to the mechanism, which is used as a black box: allocation and bills come out."""
    parts = [settle(block.take(rows), rule, effort) for rows in chunks(len(block.buyers), len(block.sizes))]
    shape = block.frictions.shape
    if not parts:
        return Bills(np.zeros(shape, dtype=bool), np.zeros(shape), np.zeros(shape))
    return Bills(
        np.concatenate([part.allocation for part in parts]),
        np.concatenate([part.payments for part in parts]),
        np.concatenate([part.charges for part in parts]),
    )


def chunks(rows: int, m: int) -> Iterator[np.ndarray]:
    """Row numbers in portions of about CHUNK_ENTRIES pairs."""
    size = max(1, CHUNK_ENTRIES // max(m, 1))
    for start in range(0, rows, size):
        yield np.arange(start, min(start + size, rows))

"""The audit of a market: is anyone worse off than alone, does the money add up, could a lie have paid?

The auditor clears the market again for each report it tries and judges the result by the true types. It shares
no payment formula with the mechanism: it only reads the bills.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ipfl.errors import BidError
from ipfl.market.candidates import require_dense
from ipfl.market.clearing import clear, money_total
from ipfl.market.cost_regret import cost_regret
from ipfl.market.exact import COMPILE_FROM, NODE_LIMIT, TOLERANCE, Effort
from ipfl.market.regret import NEGLIGIBLE, Case, Regret
from ipfl.market.rules import check_rules
from ipfl.market.size_regret import size_regret
from ipfl.market.valuation_regret import valuation_regret
from ipfl.types.market import Bids, Matrix, Outcome

REGRETS = {"cost": cost_regret, "valuation": valuation_regret, "size": size_regret}
"""The misreports that are audited, and how."""


@dataclass(frozen=True, eq=False)
class AuditReport:
    """What an audit found; arrays have one entry per participant, NaN where that misreport was not audited.

    Attributes:
      outcome: the market cleared with the true bids.
      cost_regret, cost_witness: the most gained by misreporting the export cost (exact), and such a report.
      valuation_regret, valuation_witness: the same for the valuation, in surplus.
      valuation_exact: whether that is the supremum (exact graph) or a lower bound found by search (greedy; exact,
        where sets of equal worth change places with the report).
      size_regret, size_witness: the same for the number of examples, in surplus: a lower bound, by search.
      min_utility, min_utility_of: the smallest utility and whose it is; min_surplus likewise.
      individually_rational: whether neither is below zero.
      imbalance: what sellers received, minus what buyers paid, minus the subsidy.
      optimal_welfare, optimal_objective: those of the exact graph.
      welfare_ratio, objective_ratio: the outcome's share of them; 1 if there is nothing to gain.
      max_gap: the largest gap that the exact search left open; 0 if every optimum is proven.
      scale: the most that any one participant could gain; differences below 1e-9 of it count as zero.
      reports: how many reports were tried.
    """

    outcome: Outcome
    cost_regret: Float[np.ndarray, "m"]
    cost_witness: Float[np.ndarray, "m"]
    valuation_regret: Float[np.ndarray, "m"]
    valuation_witness: Float[np.ndarray, "m"]
    valuation_exact: bool
    size_regret: Float[np.ndarray, "m"]
    size_witness: Float[np.ndarray, "m"]
    min_utility: float
    min_utility_of: str
    min_surplus: float
    min_surplus_of: str
    individually_rational: bool
    imbalance: float
    optimal_welfare: float
    optimal_objective: float
    welfare_ratio: float
    objective_ratio: float
    max_gap: float
    scale: float
    reports: int

    @property
    def truthful_on_cost(self) -> bool:
        """Whether no seller could have gained by any report of its cost: exact, not a search."""
        return bool((self.cost_regret == 0).all())


def audit(
    bids: Bids,
    distance: Matrix,
    lam: float = 0.1,
    allocation: str = "exact",
    payment: str = "vcg",
    *,
    regrets: Collection[str] = ("cost", "valuation", "size"),
    tolerance: float = TOLERANCE,
    node_limit: int = NODE_LIMIT,
) -> AuditReport:
    """Audit a market whose true types are `bids`.

    Args:
      bids: the truth.
      distance, lam, allocation, payment, tolerance, node_limit: as for `clear`; distances must be dense.
      regrets: which misreports to audit: any of "cost", "valuation", "size".
    Returns:
      The report.
    Raises:
      BidError: as for `clear`, or an unknown misreport.

    The paper's rule on its two-seller counter-example: truth sells only the cheaper seller; the other does
    better by asking for less than that one.

    >>> bids = Bids(
    ...     np.array([4, 4, 4]), np.array([36.0, 0.0, 0.0]), np.array([0.0, 0.467123, 0.672902])
    ... )
    >>> paper = audit(bids, np.zeros((3, 3)), lam=0.0, allocation="greedy", payment="marginal")
    >>> paper.cost_regret.round(6).tolist(), bool(paper.cost_witness[2] < 0.467123)
    ([0.0, 0.0, 0.205778], True)
    >>> audit(bids, np.zeros((3, 3)), lam=0.0).cost_regret.tolist()
    [0.0, 0.0, 0.0]
    """
    rule = check_rules(allocation, payment)
    unknown = sorted(set(regrets) - set(REGRETS))
    if unknown:
        raise BidError(f"regret {unknown[0]!r} is unknown, expected any of {', '.join(REGRETS)}")
    distance = require_dense(distance, "an audit")
    # So many problems are solved that the compiled search pays from a few participants on.
    effort = Effort(tolerance, node_limit, compile_from=0 if len(bids) ** 3 >= COMPILE_FROM else None)
    outcome = clear(bids, distance, lam, *rule, tolerance=tolerance, node_limit=node_limit)
    best = outcome
    if rule.allocation != "exact":
        best = clear(bids, distance, lam, "exact", "marginal", tolerance=tolerance, node_limit=node_limit)
    case = Case(bids, distance, lam, rule, effort)
    found = {name: REGRETS[name](case) if name in regrets else _not_audited(bids) for name in REGRETS}
    scale = case.scale
    utility, utility_of = _least(outcome.utilities, bids)
    surplus, surplus_of = _least(outcome.surpluses, bids)
    return AuditReport(
        outcome=outcome,
        cost_regret=found["cost"].regret,
        cost_witness=found["cost"].witness,
        valuation_regret=found["valuation"].regret,
        valuation_witness=found["valuation"].witness,
        valuation_exact=found["valuation"].exact,
        size_regret=found["size"].regret,
        size_witness=found["size"].witness,
        min_utility=utility,
        min_utility_of=utility_of,
        min_surplus=surplus,
        min_surplus_of=surplus_of,
        individually_rational=min(utility, surplus) >= -NEGLIGIBLE * scale,
        imbalance=money_total(outcome.payments) - money_total(outcome.charges) - outcome.subsidy,
        optimal_welfare=best.welfare,
        optimal_objective=best.objective,
        welfare_ratio=_share(outcome.welfare, best.welfare),
        objective_ratio=_share(outcome.objective, best.objective),
        max_gap=float(best.gap.max(initial=0.0)),
        scale=scale,
        reports=sum(regret.reports for regret in found.values()),
    )


def _least(values: np.ndarray, bids: Bids) -> tuple[float, str]:
    """The smallest entry and whose it is; 0 and nobody's in an empty market."""
    if not len(values):
        return 0.0, ""
    least = int(np.argmin(values))
    return float(values[least]), bids.ids[least]


def _share(found: float, best: float) -> float:
    """found / best, 1 where there is nothing to gain."""
    return found / best if best > 0 else 1.0


def _not_audited(bids: Bids) -> Regret:
    nothing = np.full(len(bids), math.nan)
    return Regret(nothing, nothing, exact=False, reports=0)

"""Clearing the market: bids and distances in, graph and bills out (arXiv 2505.02462).

Buyers' problems are solved in blocks, on all cores, so that memory beyond the inputs and the outcome stays
O(block * m), and O(candidates) where the distances are sparse. Results do not depend on the blocks or on the
number of cores.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from ipfl.cores import on_cores
from ipfl.errors import BidError, check
from ipfl.market import candidates
from ipfl.market.candidates import candidate_problems, edge_distances, sparse_like, sum_by
from ipfl.market.exact import COMPILE_FROM, NODE_LIMIT, TOLERANCE, Effort, optimum
from ipfl.market.greedy import critical_payments, greedy_allocation, rank
from ipfl.market.payment import marginal_payments
from ipfl.market.problems import Problems, check_market, gains_of, problems
from ipfl.market.rules import Rule, check_rules
from ipfl.types.market import Bids, Edges, Graph, Matrix, Outcome, SparseMatrix

BLOCK_ENTRIES = 1 << 16
"""Pairs of buyer and seller worked on at once: what fits a core's cache."""
THREADS_FROM = 1 << 17
"""Pairs from which a second thread pays."""
ROUNDING = 1e-9
"""Laws of money are held to this share of the largest amount in the market."""


@dataclass(frozen=True, eq=False)
class Settlement:
    """What a block of buyers buys and pays; `bounds` and `gaps` as in `Outcome`."""

    allocation: Bool[np.ndarray, "b m"]
    payments: Float[np.ndarray, "b m"]
    charges: Float[np.ndarray, "b m"]
    bounds: Float[np.ndarray, "b"]
    gaps: Float[np.ndarray, "b"]


def clear(
    bids: Bids,
    distance: Matrix,
    lam: float = 0.1,
    allocation: str = "exact",
    payment: str = "vcg",
    *,
    tolerance: float = TOLERANCE,
    node_limit: int = NODE_LIMIT,
    workers: int | None = None,
) -> Outcome:
    """Decide who buys from whom and what is paid.

    Laws, for bids that are true: every utility and surplus is >= 0; what sellers receive is what buyers pay
    plus the subsidy; permuting participants permutes the outcome; multiplying K by a^2 and c and lam by a
    multiplies all money by a.

    Args:
      bids: what participants report.
      distance: d_ij in [0, 2], [buyer, seller], or infinite where the seller is not on offer to the buyer; the
        diagonal is not read. A `scipy.sparse.csr_array` says who is
        on offer to whom as well: what it stores, be it 0, is a distance, and nobody else is.
      lam: weight of friction, e_ij = lam * d_ij * N_j / N_i.
      allocation: "exact" or "greedy".
      payment: "vcg" or "vcg-subsidised" (exact), "critical" (greedy), "marginal" (either).
      tolerance: exact: a set within this share of the most the buyer could gain counts as optimal.
      node_limit: exact: partial decisions one search may look at; where it ends a search, `gap` is > 0.
      workers: threads; all cores unless given.
    Returns:
      The outcome, judged by the bids (`well_being` judges it by the truth).
    Raises:
      BidError: distances, a lam or rules from which no market can be cleared.
      InvariantError: a law of money does not hold: a fault of ours.

    Two sellers of 4 examples offer at 0.467123 and 0.672902; the buyer, K = 36 and N = 4, takes the cheaper
    and pays it what the dearer one would have had to be paid:

    >>> bids = Bids(
    ...     np.array([4, 4, 4]), np.array([36.0, 0.0, 0.0]), np.array([0.0, 0.467123, 0.672902])
    ... )
    >>> outcome = clear(bids, np.zeros((3, 3)), lam=0.0)
    >>> outcome.allocation[0].tolist(), outcome.payments[0].round(6).tolist()
    ([False, True, False], [0.0, 0.672902, 0.0])
    """
    rule = check_rules(allocation, payment)
    return clear_by(bids, distance, lam, rule, _checked_effort(tolerance, node_limit), workers)


def clear_by(
    bids: Bids,
    distance: Matrix,
    lam: float,
    rule: Rule,
    effort: Effort,
    workers: int | None = None,
) -> Outcome:
    """`clear`, with its rules and effort as records: for those who clear many markets alike."""
    check_market(bids, distance, lam)
    if not isinstance(distance, np.ndarray):
        return _clear_candidates(bids, distance, lam, rule, effort, workers)
    m = len(bids)
    allocated = np.zeros((m, m), dtype=bool)
    payments = np.zeros((m, m))
    charges = np.zeros((m, m)) if rule.payment == "vcg-subsidised" else payments
    gains, frictions, bound, gap = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m)

    def settle_block(rows: slice) -> None:
        block = problems(bids, distance, lam, rows)
        settled = settle(block, rule, effort)
        allocated[rows] = settled.allocation
        payments[rows] = settled.payments
        charges[rows] = settled.charges
        bound[rows], gap[rows] = settled.bounds, settled.gaps
        gains[rows] = block.gains(block.imported(settled.allocation))
        frictions[rows] = np.where(settled.allocation, block.frictions, 0.0).sum(axis=1)

    on_cores(settle_block, _blocks(m), _threads(m * m, workers))
    return _outcome(bids, rule, allocated, payments, charges, gains, frictions, bound, gap)


def _clear_candidates(
    bids: Bids, distance: SparseMatrix, lam: float, rule: Rule, effort: Effort, workers: int | None
) -> Outcome:
    """`clear_by` of a sparse market: the edges of every block, and what they add up to."""
    m, pairs = len(bids), len(distance.data)
    if effort.compile_from is None and pairs >= COMPILE_FROM:
        effort = replace(effort, compile_from=0)  # of the many small blocks too
    gains, frictions, bound, gap = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m)
    size = candidates.BLOCK_BUYERS
    blocks = [slice(start, min(start + size, m)) for start in range(0, m, size)]
    found: list[Edges | None] = [None] * len(blocks)

    def settle_block(number: int) -> None:
        rows = blocks[number]
        block, sellers = candidate_problems(bids, distance, lam, rows)
        settled = settle(block, rule, effort)
        row, column = np.nonzero(settled.allocation)
        found[number] = Edges(
            row + rows.start, sellers[column], settled.payments[row, column], settled.charges[row, column]
        )
        bound[rows], gap[rows] = settled.bounds, settled.gaps
        gains[rows] = block.gains(block.imported(settled.allocation))
        frictions[rows] = np.where(settled.allocation, block.frictions, 0.0).sum(axis=1)

    on_cores(settle_block, range(len(blocks)), _threads(pairs, workers))
    edges = _joined([part for part in found if part is not None])
    allocation = sparse_like(edges, np.ones(len(edges.buyers), dtype=bool), m)
    payments = sparse_like(edges, edges.payments, m)
    charges = sparse_like(edges, edges.charges, m) if rule.payment == "vcg-subsidised" else payments
    return _outcome(bids, rule, allocation, payments, charges, gains, frictions, bound, gap)


def _joined(parts: list[Edges]) -> Edges:
    nothing = Edges(*(np.zeros(0, dtype=kind) for kind in (np.int64, np.int64, np.float64, np.float64)))
    return Edges(*(np.concatenate(column) for column in zip(nothing, *parts, strict=True)))


def settle(block: Problems, rule: Rule, effort: Effort) -> Settlement:
    """What each buyer of a block buys and pays under a rule: the mechanism, one buyer at a time."""
    b = len(block.buyers)
    if rule.allocation == "greedy":
        ranking = rank(block)
        allocation = greedy_allocation(block, ranking)
        unproven = np.full(b, np.nan)
        if rule.payment == "critical":
            payments = critical_payments(block, ranking)
        else:
            payments = marginal_payments(block, allocation)
        return Settlement(allocation, payments, payments, unproven, unproven)
    best = optimum(block, rule.payment != "marginal", effort)
    gaps = best.bounds - best.values
    # Within the tolerance of the search the optimum counts as proven.
    proven = gaps <= 2 * effort.tolerance * block.gains(np.full(b, block.sizes.sum()))
    gaps = np.where(proven, 0.0, gaps)
    if rule.payment == "marginal":
        payments = marginal_payments(block, best.allocation)
        return Settlement(best.allocation, payments, payments, best.bounds, gaps)
    costs = np.where(best.allocation, block.costs, 0.0)
    payments = costs + best.premiums
    charges = costs if rule.payment == "vcg-subsidised" else payments
    return Settlement(best.allocation, payments, charges, best.bounds, gaps)


@dataclass(frozen=True, eq=False)
class WellBeing:
    """How each participant fares; the fields mean what they mean in `Outcome`."""

    gains: Float[np.ndarray, "m"]
    costs: Float[np.ndarray, "m"]
    frictions: Float[np.ndarray, "m"]
    utilities: Float[np.ndarray, "m"]
    surpluses: Float[np.ndarray, "m"]


def well_being(truth: Bids, outcome: Outcome, distance: Matrix, lam: float) -> WellBeing:
    """How participants fare under a graph and bills that reports have led to, by their true types.

    Raises:
      BidError: an outcome of another number of participants, or distances or a lam that make no market.

    >>> truth = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
    >>> outcome = clear(truth.with_report(1, export_cost=0.25), np.zeros((2, 2)), lam=0.0)
    >>> well_being(truth, outcome, np.zeros((2, 2)), lam=0.0).costs.tolist()
    [0.0, 0.5]
    """
    check_market(truth, distance, lam)
    if len(outcome.gains) != len(truth):
        raise BidError(f"the outcome is one of {len(outcome.gains)} participants, expected {len(truth)}")
    m, N, edges = len(truth), truth.num_examples.astype(np.float64), outcome.edges()
    # Whole numbers: the order of summing does not matter.
    gains = gains_of(truth, sum_by(edges.buyers, N[edges.sellers], m))
    apart = edge_distances(distance, edges, truth)
    with np.errstate(over="ignore"):
        friction = lam * N[edges.sellers] * apart / N[edges.buyers]
    frictions = sum_by(edges.buyers, friction, m)
    costs = truth.export_cost * outcome.allocation.sum(axis=0)
    utilities = gains - costs - outcome.paid + outcome.received
    return WellBeing(gains, costs, frictions, utilities, utilities - frictions)


def _outcome(
    bids: Bids,
    rule: Rule,
    allocation: Graph,
    payments: Matrix,
    charges: Matrix,
    gains: np.ndarray,
    frictions: np.ndarray,
    bound: np.ndarray,
    gap: np.ndarray,
) -> Outcome:
    """Add up the bills, and hold them to the laws of money."""
    costs = bids.export_cost * allocation.sum(axis=0)
    paid, received = charges.sum(axis=1), payments.sum(axis=0)
    utilities = gains - costs - paid + received
    welfare = math.fsum(gains) - math.fsum(costs)
    outcome = Outcome(
        allocation=allocation,
        payments=payments,
        charges=charges,
        gains=gains,
        costs=costs,
        frictions=frictions,
        paid=paid,
        received=received,
        utilities=utilities,
        surpluses=utilities - frictions,
        bound=bound,
        gap=gap,
        welfare=welfare,
        objective=welfare - math.fsum(frictions),
        subsidy=0.0 if charges is payments else money_total(payments) - money_total(charges),
        allocation_rule=rule.allocation,
        payment_rule=rule.payment,
    )
    _check_laws(bids, outcome)
    return outcome


def money_total(amounts: Matrix) -> float:
    """The sum of all entries, rounded once: it does not depend on their order."""
    return math.fsum(amounts[amounts != 0] if isinstance(amounts, np.ndarray) else amounts.data)


def _check_laws(bids: Bids, outcome: Outcome) -> None:
    """No seller is paid less than its cost, no buyer pays more than it gains, nobody buys from itself."""
    slack = ROUNDING * max(1e-300, outcome.gains.max(initial=0.0), outcome.paid.max(initial=0.0))
    edges = outcome.edges()
    worst = (edges.payments - bids.export_cost[edges.sellers]).min(initial=0.0)
    check(bool(worst >= -slack), "every seller is paid at least its reported cost")
    kept = outcome.gains - outcome.frictions - outcome.paid
    check(bool(kept.min(initial=0.0) >= -slack), "no buyer pays more than it gains by its own bid")
    check(not bool((edges.buyers == edges.sellers).any()), "nobody buys from itself")


def _blocks(m: int) -> list[slice]:
    """Slices of buyers of about BLOCK_ENTRIES pairs each."""
    size = max(1, BLOCK_ENTRIES // max(m, 1))
    return [slice(start, min(start + size, m)) for start in range(0, m, size)]


def _threads(pairs: int, workers: int | None) -> int | None:
    """All cores, or as many as asked for, where there is enough to do: NumPy and compiled code release the lock."""
    return workers if pairs >= THREADS_FROM else 1


def _checked_effort(tolerance: float, node_limit: int) -> Effort:
    if not 0 <= tolerance <= 1e-3:
        raise BidError(f"tolerance is {tolerance}, expected a number in [0, 0.001]")
    if node_limit < 1:
        raise BidError(f"node_limit is {node_limit}, expected a whole number >= 1")
    return Effort(tolerance, node_limit)

"""A quote: what joining a market, or bidding otherwise in it, would bring to one participant.

The market is cleared again with the participant's bid in it, so a quote is what `clear` would decide: whom it
would trade with, what it would pay and receive, and how it would fare. Nothing here knows a payment formula.

Everything is judged by the bid that is quoted, as if it were the truth. What a false bid could gain is the
audit's question.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from ipfl.errors import BidError
from ipfl.market.clearing import clear
from ipfl.market.cost_regret import ceiling
from ipfl.market.exact import NODE_LIMIT, TOLERANCE, Effort
from ipfl.market.joining import FIELDS, Entry, Stand, join
from ipfl.market.problems import problems
from ipfl.market.regret import CHUNK_ENTRIES, Case
from ipfl.market.rules import Rule, check_rules
from ipfl.types.market import Bids, GainCurve, Matrix, Outcome


@dataclass(frozen=True)
class Purchase:
    """A model that the participant would buy.

    Attributes:
      seller: whose model.
      num_examples: the seller's N_j [examples].
      distance: between the two, in [0, 2].
      adds: what the model adds on top of all others bought, G_i(S) - G_i(S without j) [gain units].
      friction: e_ij, the expected loss from a model unlike one's own [gain units].
      payment: what the participant would pay for it [gain units].
    """

    seller: str
    num_examples: int
    distance: float
    adds: float
    friction: float
    payment: float


@dataclass(frozen=True)
class Sale:
    """A buyer that the participant would serve.

    Attributes:
      buyer: who buys.
      distance: between the two, in [0, 2].
      payment: what the participant would receive [gain units].
      break_even_export_cost: the report up to which this buyer goes on buying [gain units].
    """

    buyer: str
    distance: float
    payment: float
    break_even_export_cost: float


@dataclass(frozen=True, eq=False)
class Quote:
    """What one participant would get from the market; money in gain units, per round of trading.

    Attributes:
      participant_id, num_examples, valuation, export_cost: the bid that is quoted.
      newcomer: whether it would join; otherwise it is in the market already, and its bid is replaced.
      assumed_distance: what was taken for its distance to each of the others; None if distances were known.
      purchases, sales: its trades, dearest first.
      gain, cost, friction, paid, received, utility, surplus: as in `Outcome`.
      break_even_export_cost: the highest report of its export cost at which anybody still buys from it, its
        size and distances being what they are: below it the participant sells, above it to nobody. As every
        sale covers the reported cost, it is also the cost from which selling pays nothing. Independent of the
        export cost and the valuation quoted. NaN if nobody would buy at any report.
      break_even_by_buyer: the same for each of the others, in the market's order; NaN in its own place.
      received_per_sale: received / number of sales: with this report, selling pays as long as the true export
        cost is below it; NaN if nothing is sold.
      gap: the largest gap that an exact search left open; 0 if every optimum is proven, NaN under `greedy`.
      lam, allocation_rule, payment_rule: what the market is cleared with.
    """

    participant_id: str
    num_examples: int
    valuation: float
    export_cost: float
    newcomer: bool
    assumed_distance: float | None
    purchases: tuple[Purchase, ...]
    sales: tuple[Sale, ...]
    gain: float
    cost: float
    friction: float
    paid: float
    received: float
    utility: float
    surplus: float
    break_even_export_cost: float
    break_even_by_buyer: Float[np.ndarray, "m"]
    received_per_sale: float
    gap: float
    lam: float
    allocation_rule: str
    payment_rule: str


@dataclass(frozen=True, eq=False)
class QuoteRange:
    """Quotes over a range of one field of the bid; row k of `quotes` belongs to `values[k]`.

    Attributes:
      field: which field varies: "num_examples", "valuation" or "export_cost".
      values: its values, as given.
      quotes: the quote for each.
    """

    field: str
    values: Float[np.ndarray, "k"]
    quotes: tuple[Quote, ...]

    def column(self, name: str) -> Float[np.ndarray, "k"]:
        """One figure of every quote, e.g. "utility"; "purchases" and "sales" are counted."""
        found = [getattr(quoted, name) for quoted in self.quotes]
        return np.array([len(x) if isinstance(x, tuple) else x for x in found], dtype=np.float64)


def quote(
    bids: Bids,
    distance: Matrix,
    num_examples: float | None = None,
    valuation: float | None = None,
    export_cost: float | None = None,
    *,
    distances_to_others: Real[np.ndarray, "k"] | None = None,
    participant: str | None = None,
    participant_id: str = "newcomer",
    curve: GainCurve | None = None,
    lam: float = 0.1,
    allocation: str = "exact",
    payment: str = "vcg",
    tolerance: float = TOLERANCE,
    node_limit: int = NODE_LIMIT,
) -> Quote:
    """What a participant would trade, pay, receive and be left with if it joined with this bid.

    Laws: equal to `clear` of the market with the bid in it; utility and surplus are >= 0 under every rule; it
    sells to a buyer only if its export cost is at most that buyer's break-even.

    Args:
      bids: the market as it stands; may be empty.
      distance: d_ij in [0, 2] of the market as it stands, [buyer, seller]; dense.
      num_examples: N >= 1 [examples].
      valuation: K >= 0 [gain^2 * examples].
      export_cost: c >= 0 [gain units per buyer served].
      distances_to_others: distance to each participant of the market, in its order, the same both ways. None
        means unknown: each is then taken to be the median of the market's distances (1, that of unrelated
        updates, if the market has none), and `assumed_distance` says so.
      participant: the id of a participant of the market: its bid is replaced, not added to. Fields and
        distances left out are those that the market has of it.
      participant_id: what to call the newcomer.
      curve: its gain curve; the square-root law, or the one the market has of it, unless given.
      lam, allocation, payment, tolerance, node_limit: as for `clear`.
    Returns:
      The quote.
    Raises:
      BidError: as for `clear`; a newcomer's field left out, an id that is taken (newcomer) or unknown
        (participant), distances of a wrong number or out of [0, 2].

    A participant with 4 examples considers joining one buyer (K = 36, N = 4) and one seller who asks 0.672902:

    >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.672902]))
    >>> joining = quote(bids, np.zeros((2, 2)), 4, 0.0, 0.467123, lam=0.0)
    >>> [(sale.buyer, round(sale.payment, 6)) for sale in joining.sales], round(joining.utility, 6)
    ([('0', 0.672902)], 0.205779)
    >>> round(joining.break_even_export_cost, 6)
    0.672902
    """
    entry = Entry(
        num_examples, valuation, export_cost, distances_to_others, participant, participant_id, curve
    )
    stand = join(bids, distance, entry)
    return _quoted(stand, lam, check_rules(allocation, payment), Effort(tolerance, node_limit))


def quote_range(
    bids: Bids,
    distance: Matrix,
    field: str,
    values: Real[np.ndarray, "k"] | Sequence[float],
    num_examples: float | None = None,
    valuation: float | None = None,
    export_cost: float | None = None,
    *,
    distances_to_others: Real[np.ndarray, "k2"] | None = None,
    participant: str | None = None,
    participant_id: str = "newcomer",
    curve: GainCurve | None = None,
    lam: float = 0.1,
    allocation: str = "exact",
    payment: str = "vcg",
    tolerance: float = TOLERANCE,
    node_limit: int = NODE_LIMIT,
) -> QuoteRange:
    """`quote` for each value of one field; the market is cleared once per value.

    Law: row k equals `quote` with that field at `values[k]`.

    Args:
      field: "num_examples", "valuation" or "export_cost"; an argument of that name is not looked at.
      values: what it is to be, at least one.
      bids, distance and all others: as for `quote`.
    Returns:
      The quotes, in the order of the values.
    Raises:
      BidError: as for `quote`, an unknown field, no values.

    >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.672902]))
    >>> costs = [0.25, 0.5, 0.75]
    >>> table = quote_range(bids, np.zeros((2, 2)), "export_cost", costs, 4, 0.0, lam=0.0)
    >>> table.column("sales").tolist(), table.column("utility").round(6).tolist()
    ([1.0, 1.0, 0.0], [0.422902, 0.172902, 0.0])
    """
    if field not in FIELDS:
        raise BidError(f"field {field!r} cannot be quoted over a range, expected one of {', '.join(FIELDS)}")
    wanted = np.asarray(values, dtype=np.float64)
    if not wanted.size:
        raise BidError(f"the range of {field} has no values, expected at least one")
    rule, effort = check_rules(allocation, payment), Effort(tolerance, node_limit)
    fixed = {"num_examples": num_examples, "valuation": valuation, "export_cost": export_cost}
    entry = Entry(
        **(fixed | {field: float(wanted[0])}),
        distances_to_others=distances_to_others,
        participant=participant,
        participant_id=participant_id,
        curve=curve,
    )
    first = join(bids, distance, entry)
    quotes = []
    for value in wanted.tolist():
        stand = Stand(
            first.bids.with_report(first.index, **{field: value}),
            first.distance,
            first.index,
            first.newcomer,
            first.assumed_distance,
        )
        quotes.append(_quoted(stand, lam, rule, effort))
    return QuoteRange(field, wanted, tuple(quotes))


def _quoted(stand: Stand, lam: float, rule: Rule, effort: Effort) -> Quote:
    outcome = clear(
        stand.bids, stand.distance, lam, *rule, tolerance=effort.tolerance, node_limit=effort.node_limit
    )
    bids, index = stand.bids, stand.index
    break_even = _break_even(stand, lam, rule, effort)
    sales = _sales(stand, outcome, break_even)
    received = float(outcome.received[index])
    return Quote(
        participant_id=bids.ids[index],
        num_examples=int(bids.num_examples[index]),
        valuation=float(bids.valuation[index]),
        export_cost=float(bids.export_cost[index]),
        newcomer=stand.newcomer,
        assumed_distance=stand.assumed_distance,
        purchases=_purchases(stand, outcome, lam),
        sales=sales,
        gain=float(outcome.gains[index]),
        cost=float(outcome.costs[index]),
        friction=float(outcome.frictions[index]),
        paid=float(outcome.paid[index]),
        received=received,
        utility=float(outcome.utilities[index]),
        surplus=float(outcome.surpluses[index]),
        break_even_export_cost=_largest(break_even),
        break_even_by_buyer=np.delete(break_even, index) if stand.newcomer else break_even,
        received_per_sale=received / len(sales) if sales else math.nan,
        gap=float(outcome.gap.max()),
        lam=lam,
        allocation_rule=rule.allocation,
        payment_rule=rule.payment,
    )


def _break_even(stand: Stand, lam: float, rule: Rule, effort: Effort) -> Float[np.ndarray, "m"]:
    """Each buyer's `ceiling`, in blocks of buyers."""
    m = len(stand.bids)
    case = Case(stand.bids, stand.distance, lam, rule, effort)
    found = np.full(m, math.nan)
    buyers = np.flatnonzero(stand.bids.valuation > 0)
    buyers = buyers[buyers != stand.index]
    size = max(1, CHUNK_ENTRIES // m)
    for start in range(0, len(buyers), size):
        rows = buyers[start : start + size]
        found[rows] = ceiling(rule, problems(stand.bids, stand.distance, lam, rows), stand.index, case)
    return found


def _purchases(stand: Stand, outcome: Outcome, lam: float) -> tuple[Purchase, ...]:
    own = problems(stand.bids, stand.distance, lam, np.array([stand.index]))
    sellers = np.flatnonzero(outcome.allocation[stand.index])
    sizes = own.sizes[sellers]
    total = own.own[0] + sizes.sum()
    adds = own.gains_from(np.zeros(len(sellers), dtype=np.int64), total - sizes, sizes)
    found = [
        Purchase(
            seller=stand.bids.ids[seller],
            num_examples=int(sizes[place]),
            distance=float(stand.distance[stand.index, seller]),
            adds=float(adds[place]),
            friction=float(own.frictions[0, seller]),
            payment=float(outcome.charges[stand.index, seller]),
        )
        for place, seller in enumerate(sellers)
    ]
    return tuple(sorted(found, key=lambda purchase: -purchase.payment))


def _sales(stand: Stand, outcome: Outcome, break_even: np.ndarray) -> tuple[Sale, ...]:
    found = [
        Sale(
            buyer=stand.bids.ids[buyer],
            distance=float(stand.distance[buyer, stand.index]),
            payment=float(outcome.payments[buyer, stand.index]),
            break_even_export_cost=float(break_even[buyer]),
        )
        for buyer in np.flatnonzero(outcome.allocation[:, stand.index])
    ]
    return tuple(sorted(found, key=lambda sale: -sale.payment))


def _largest(break_even: np.ndarray) -> float:
    known = break_even[~np.isnan(break_even)]
    return float(known.max()) if known.size else math.nan

"""Money in whole units: what participants bid and what is billed, as the ledger counts it.

The unit is a millionth of a credit (a credit is one unit of gain) and is fixed for ever. Export costs are made whole
*first*, upwards, and every price is then cut to whole units once, so rounding takes no seller below its cost and no
buyer above what the model is worth to it; a rule that is truthful in cost stays so to a unit a sale.
"""

import dataclasses
from decimal import ROUND_CEILING, Decimal

import numpy as np
from jaxtyping import Float, Int64

from ipfl.errors import BidError, check
from ipfl.market.candidates import sparse_like
from ipfl.types.market import Bids, Edges, Matrix, Outcome

UNITS = 1_000_000
"""Units in a credit."""
AMOUNT_MAX = 2**53
"""The largest amount of one posting, in units: whole numbers up to it are exact in float64 too."""
_WHOLE_FROM = 2.0**33
"""From here on float64s lie further apart than units, in credits."""


def units_up(amount: float) -> int:
    """The fewest units that are not less than an amount, as it is written in decimal.

    >>> units_up(0.1), units_up(0.1234561), units_up(1e9)
    (100000, 123457, 1000000000000000)
    """
    return int((Decimal(repr(float(amount))) * UNITS).to_integral_value(ROUND_CEILING))


def units_down(amounts: Float[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """The most units that, in credits and as a float64, are not more than each amount.

    Raises:
      BidError: an amount is too large for its units to be told apart.

    >>> units_down(np.array([0.3, 0.6729029, 0.0])).tolist()
    [300000, 672902, 0]
    """
    _check_size(amounts)
    units: np.ndarray = np.floor(amounts * UNITS)
    units += (units + 1) / UNITS <= amounts
    units -= units / UNITS > amounts
    return units.astype(np.int64)


def exact_units(amounts: Float[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """Amounts that are whole numbers of units already, as such.

    Raises:
      InvariantError: one is not.
    """
    units = np.rint(np.asarray(amounts, dtype=np.float64) * UNITS).astype(np.int64)
    check(bool((units / UNITS == amounts).all()), "every amount that is billed is a whole number of units")
    return units


def whole_units(bids: Bids) -> Bids:
    """The bids with every export cost made whole, upwards; the same object where all are.

    >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.25, 0.46712345]))
    >>> whole_units(bids).export_cost.tolist()
    [0.25, 0.467124]
    """
    costs = bids.export_cost
    with np.errstate(over="ignore"):
        odd = (costs < _WHOLE_FROM) & (np.rint(costs * UNITS) / UNITS != costs)
    if not odd.any():
        return bids
    whole = costs.copy()
    whole[odd] = [units_up(cost) / UNITS for cost in costs[odd].tolist()]
    return dataclasses.replace(bids, export_cost=whole)


def billed(outcome: Outcome, bids: Bids) -> Outcome:
    """The outcome in money that the ledger can hold: every price cut to whole units, and all that follows from it.

    Laws: no price rises, or falls by a whole unit or more, but for prices below the cost by rounding errors of float64,
    which are lifted to it; nobody is paid less than its cost; who buys from whom stays.

    Args:
      outcome: of `clear`, by the very bids given.
      bids: with whole export costs (`whole_units`).
    Raises:
      BidError: an amount, or all that one participant pays or receives, is too large.

    >>> from ipfl.market import clear
    >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
    >>> exact = clear(bids, np.zeros((2, 2)), lam=0.0, allocation="greedy", payment="marginal")
    >>> exact.paid.round(8).tolist(), billed(exact, bids).paid.tolist()
    ([0.87867966, 0.0], [0.878679, 0.0])
    """
    edges, m = outcome.edges(), len(bids)
    _check_size(np.concatenate([outcome.paid, outcome.received]))
    prices = units_down(edges.payments)
    costs = exact_units(bids.export_cost[edges.sellers])
    prices = np.maximum(prices, costs)
    charges = prices
    if outcome.charges is not outcome.payments:
        charges = np.minimum(np.maximum(units_down(edges.charges), costs), prices)
    paid, received = _totals(edges.buyers, charges, m), _totals(edges.sellers, prices, m)
    payments = _matrix(outcome, edges, prices / UNITS, m)
    utilities = outcome.gains - outcome.costs - paid / UNITS + received / UNITS
    return dataclasses.replace(
        outcome,
        payments=payments,
        charges=payments if charges is prices else _matrix(outcome, edges, charges / UNITS, m),
        paid=paid / UNITS,
        received=received / UNITS,
        utilities=utilities,
        surpluses=utilities - outcome.frictions,
        subsidy=int(received.sum() - paid.sum()) / UNITS,
    )


def _check_size(amounts: Float[np.ndarray, "n"]) -> None:
    if not (np.abs(amounts) < _WHOLE_FROM).all():
        worst = float(np.abs(amounts).max())
        raise BidError(
            f"a payment of {worst:.6g} is more than the {int(_WHOLE_FROM):,} credits that can be billed: divide "
            "valuations by a^2, and export costs and lam by a, and every amount is divided by a"
        )


def _totals(owners: np.ndarray, units: Int64[np.ndarray, "e"], m: int) -> Int64[np.ndarray, "m"]:
    totals = np.zeros(m, dtype=np.int64)
    np.add.at(totals, owners, units)
    return totals


def _matrix(outcome: Outcome, edges: Edges, amounts: Float[np.ndarray, "e"], m: int) -> Matrix:
    if not isinstance(outcome.allocation, np.ndarray):
        return sparse_like(edges, amounts, m)
    matrix = np.zeros((m, m))
    matrix[edges.buyers, edges.sellers] = amounts
    return matrix

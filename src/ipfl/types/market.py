"""Bids and outcomes: the records that enter and leave a market."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, Real

from ipfl.errors import BidError

Vector = Float[np.ndarray, "m"]


@runtime_checkable
class SparseMatrix(Protocol):
    """A `scipy.sparse.csr_array`, told by what it has: SciPy is loaded only by those who bring one."""

    data: Any
    indices: Any
    indptr: Any
    shape: Any
    has_canonical_format: bool


if TYPE_CHECKING:  # SciPy has no types
    Matrix: TypeAlias = np.ndarray | Any
    Graph: TypeAlias = np.ndarray | Any
else:
    Matrix = Float[np.ndarray, "m m"] | SparseMatrix
    Graph = Bool[np.ndarray, "m m"] | SparseMatrix

TOTAL_EXAMPLES_MAX = 2**53
"""All participants' examples together: beyond it, sums of examples would no longer be exact in float64."""


@runtime_checkable
class GainCurve(Protocol):
    """How much better a model gets with more examples, per unit of sqrt(valuation).

    Laws, for every n >= 1 and a, b >= 0: gain(n, 0) = 0; gain does not fall in `more`; the path does not
    matter, gain(n, a) + gain(n + a, b) = gain(n, a + b); returns diminish, gain(n + a, b) <= gain(n, b).
    Curves that are equal hash alike: buyers that share one are worked on together.
    """

    def gain(self, num_examples: Any, more: Any) -> Any:
        """Gain of adding `more` examples to `num_examples`; scalars or arrays that broadcast."""


@dataclass(frozen=True, eq=False)
class Bids:
    """What each of m participants reports.

    Attributes:
      num_examples: N_i >= 1, whole numbers (kept as int64).
      valuation: K_i >= 0 [gain^2 * examples]; 0 buys nothing.
      export_cost: c_i >= 0 [gain units per buyer served].
      participant_ids: unique names; "0", "1", ... unless given.
      curves: each participant's gain curve; None means the paper's square-root law for all.

    Raises:
      BidError: a wrong shape, N < 1 or not whole, K or c negative or not finite, an id twice; the message
        names participant, field, value and bound.

    >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
    >>> bids.participant_ids
    ('0', '1')
    >>> Bids(np.array([4, 0]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
    Traceback (most recent call last):
    ...
    ipfl.errors.BidError: participant 1: num_examples is 0, expected a whole number >= 1
    """

    num_examples: Real[np.ndarray, "m"]
    valuation: Real[np.ndarray, "m"]
    export_cost: Real[np.ndarray, "m"]
    participant_ids: tuple[str, ...] | None = None
    curves: tuple[GainCurve, ...] | None = None

    def __post_init__(self) -> None:
        valuation = _numbers("valuation", self.valuation)
        export_cost = _numbers("export_cost", self.export_cost)
        num_examples = _numbers("num_examples", self.num_examples)
        m = len(num_examples)
        for field, values in (("valuation", valuation), ("export_cost", export_cost)):
            if len(values) != m:
                raise BidError(f"{field} has {len(values)} entries, expected {m}, one per num_examples")
        ids = self._checked_ids(m)
        _refuse(ids, "num_examples", num_examples, _not_whole(num_examples), "a whole number >= 1")
        for field, values in (("valuation", valuation), ("export_cost", export_cost)):
            wrong = ~(np.isfinite(values) & (values >= 0))
            _refuse(ids, field, values, wrong, "a finite number >= 0")
        if num_examples.sum() > TOTAL_EXAMPLES_MAX:
            raise BidError(f"num_examples add up to {num_examples.sum():.6g}, expected at most 2**53 in all")
        self._set("num_examples", num_examples.astype(np.int64))
        self._set("valuation", valuation)
        self._set("export_cost", export_cost)
        self._set("participant_ids", ids)
        self._set("curves", self._checked_curves(m, ids))

    def __len__(self) -> int:
        return len(self.num_examples)

    @property
    def ids(self) -> tuple[str, ...]:
        """The participants' names, never None."""
        return self.participant_ids or ()

    def take(self, rows: Sequence[int] | np.ndarray) -> "Bids":
        """The bids of some participants, in the order of `rows`."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Bids(
            num_examples=self.num_examples[chosen],
            valuation=self.valuation[chosen],
            export_cost=self.export_cost[chosen],
            participant_ids=tuple(self.ids[i] for i in chosen),
            curves=None if self.curves is None else tuple(self.curves[i] for i in chosen),
        )

    def with_report(self, participant: int, **report: float) -> "Bids":
        """The same bids but for what one participant reports: `bids.with_report(2, export_cost=0.1)`.

        >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
        >>> bids.with_report(1, export_cost=0.25).export_cost.tolist()
        [0.0, 0.25]
        """
        changed: dict[str, Any] = {}
        for field, value in report.items():
            values = np.array(getattr(self, field), dtype=np.float64)
            values[participant] = value
            changed[field] = values
        return replace(self, **changed)

    def _checked_ids(self, m: int) -> tuple[str, ...]:
        if self.participant_ids is None:
            return tuple(str(i) for i in range(m))
        ids = tuple(self.participant_ids)
        if len(ids) != m:
            raise BidError(f"participant_ids has {len(ids)} entries, expected {m}, one per num_examples")
        seen: dict[str, int] = {}
        for index, name in enumerate(ids):
            if not isinstance(name, str) or not name:
                raise BidError(f"participant {index}: participant_id is {name!r}, expected a name")
            if name in seen:
                raise BidError(
                    f"participant {index}: participant_id is {name!r}, which participant {seen[name]} "
                    "has too; expected each id once"
                )
            seen[name] = index
        return ids

    def _checked_curves(self, m: int, ids: tuple[str, ...]) -> tuple[GainCurve, ...] | None:
        if self.curves is None:
            return None
        curves = tuple(self.curves)
        if len(curves) != m:
            raise BidError(f"curves has {len(curves)} entries, expected {m}, one per num_examples")
        for name, curve in zip(ids, curves, strict=True):
            if not (isinstance(curve, GainCurve) and isinstance(curve, Hashable)):
                raise BidError(
                    f"participant {name}: curve is {curve!r}, expected a gain curve that is hashable, "
                    "such as a frozen dataclass"
                )
        return curves

    def _set(self, field: str, value: object) -> None:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        object.__setattr__(self, field, value)


class Edges(NamedTuple):
    """Every purchase of a market, by buyer, then seller; `payments` and `charges` as in `Outcome`."""

    buyers: Int64[np.ndarray, "e"]
    sellers: Int64[np.ndarray, "e"]
    payments: Float[np.ndarray, "e"]
    charges: Float[np.ndarray, "e"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one clearing of the market decided; every matrix is indexed [buyer, seller].

    Where the distances were sparse, allocation, payments and charges are `csr_array`s whose stored entries are
    the purchases, in the order of `edges` (a payment of 0 is stored too).

    Attributes:
      allocation: who buys from whom; the diagonal is False.
      payments: what the seller receives for serving the buyer [gain units].
      charges: what the buyer pays towards the seller; equal to `payments` unless the operator subsidises.
      gains: G_i(S_i).
      costs: export cost times the number of buyers served.
      frictions: sum over the sellers chosen of lam * d_ij * N_j / N_i.
      paid, received: sums of charges over sellers, of payments over buyers.
      utilities: gains - costs - paid + received.
      surpluses: utilities - frictions.
      bound: exact: no choice of sellers is worth more to the buyer than this (gain - prices); greedy: NaN.
      gap: exact: bound minus what was found, 0 where the optimum is proven; greedy: NaN, nothing is proven.
      welfare: gains minus costs, over all.
      objective: welfare minus frictions: what the graph maximises.
      subsidy: received minus paid, over all: what the operator adds.
      allocation_rule, payment_rule: the rules it was cleared by.
    """

    allocation: Graph
    payments: Matrix
    charges: Matrix
    gains: Vector
    costs: Vector
    frictions: Vector
    paid: Vector
    received: Vector
    utilities: Vector
    surpluses: Vector
    bound: Vector
    gap: Vector
    welfare: float
    objective: float
    subsidy: float
    allocation_rule: str
    payment_rule: str

    def edges(self) -> Edges:
        """The purchases, whether the market was dense or sparse.

        >>> from ipfl.market import clear
        >>> bids = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.5]))
        >>> edges = clear(bids, np.zeros((2, 2)), lam=0.0).edges()
        >>> edges.buyers.tolist(), edges.sellers.tolist(), edges.payments.round(6).tolist()
        ([0], [1], [0.87868])
        """
        if isinstance(self.allocation, np.ndarray):
            buyers, sellers = np.nonzero(self.allocation)
            return Edges(buyers, sellers, self.payments[buyers, sellers], self.charges[buyers, sellers])
        graph: SparseMatrix = self.allocation
        buyers = np.repeat(np.arange(len(self.gains)), np.diff(graph.indptr))
        paid: tuple[Any, Any] = (self.payments, self.charges)
        return Edges(buyers, graph.indices.astype(np.int64), paid[0].data, paid[1].data)


def _numbers(field: str, values: object) -> np.ndarray:
    """A float64 copy, one-dimensional."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BidError(f"{field} holds something that is not a number, expected one number each") from None
    if array.ndim != 1:
        raise BidError(f"{field} has shape {array.shape}, expected (m,)")
    return array


def _not_whole(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        wrong: np.ndarray = ~(np.isfinite(values) & (values >= 1) & (values == np.floor(values)))
    return wrong


def _refuse(ids: tuple[str, ...], field: str, values: np.ndarray, wrong: np.ndarray, bound: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        raise BidError(f"participant {ids[first]}: {field} is {values[first]:.15g}, expected {bound}")

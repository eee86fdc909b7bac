"""The market seen as one problem per buyer: max over S of G_i(S) - sum of q_ij over S.

The objective of the graph is a sum over buyers, so every buyer's problem is solved, and billed, apart from
all others (arXiv 2505.02462). A block of such problems is what the allocation and payment rules work on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64

from ipfl.errors import BidError
from ipfl.market.curves import SQUARE_ROOT
from ipfl.types.market import Bids, GainCurve, SparseMatrix


@dataclass(frozen=True, eq=False)
class Problems:
    """The problems of b buyers who face the same m sellers.

    Attributes:
      buyers: whose problem each row is; nobody buys from itself.
      own: N_i of the buyer.
      amplitude: sqrt(K_i) of the buyer.
      sizes: N_j of the sellers.
      costs: c_j, as each buyer is asked for it; infinite where the seller is not on offer at all.
      frictions: e_ij = lam * d_ij * N_j / N_i; 0 in the buyer's own column.
      curves: the buyers' gain curves; None means the square-root law for all.
    """

    buyers: Int64[np.ndarray, "b"]
    own: Float[np.ndarray, "b"]
    amplitude: Float[np.ndarray, "b"]
    sizes: Float[np.ndarray, "m"]
    costs: Float[np.ndarray, "b m"]
    frictions: Float[np.ndarray, "b m"]
    curves: tuple[GainCurve, ...] | None = None

    @property
    def prices(self) -> Float[np.ndarray, "b m"]:
        """q_ij = c_j + e_ij."""
        return np.asarray(self.costs + self.frictions)

    def take(self, rows: np.ndarray) -> "Problems":
        """Some of the problems; a row may be taken more than once."""
        return Problems(
            buyers=self.buyers[rows],
            own=self.own[rows],
            amplitude=self.amplitude[rows],
            sizes=self.sizes,
            costs=self.costs[rows],
            frictions=self.frictions[rows],
            curves=None if self.curves is None else tuple(self.curves[row] for row in rows),
        )

    def asked(self, seller: int, reports: Float[np.ndarray, "b"]) -> "Problems":
        """The same problems, but for what one seller asks of each buyer; infinity takes it off the market."""
        costs = np.array(self.costs)
        costs[:, seller] = reports
        return replace(self, costs=costs)

    def by_curve(self) -> Iterator[tuple[GainCurve, Int64[np.ndarray, "k"]]]:
        """The rows that share a gain curve, curve by curve."""
        if self.curves is None:
            yield SQUARE_ROOT, np.arange(len(self.buyers))
            return
        groups: dict[GainCurve, list[int]] = {}
        for row, curve in enumerate(self.curves):
            groups.setdefault(curve, []).append(row)
        for curve, rows in groups.items():
            yield curve, np.array(rows, dtype=np.int64)

    def gains(self, imported: Float[np.ndarray, "b"]) -> Float[np.ndarray, "b"]:
        """G_i of importing so many examples."""
        return self.gains_from(np.arange(len(self.buyers)), self.own, imported)

    def gains_from(
        self, rows: Int64[np.ndarray, "e"], before: Float[np.ndarray, "e"], more: Float[np.ndarray, "e"]
    ) -> Float[np.ndarray, "e"]:
        """What `more` examples add when the buyer of each row has `before` already, its own included."""
        if self.curves is None:
            return np.asarray(self.amplitude[rows] * SQUARE_ROOT.gain(before, more))
        added = np.zeros(len(rows))
        for curve, members in self.by_curve():
            here = np.isin(rows, members)
            added[here] = self.amplitude[rows[here]] * curve.gain(before[here], more[here])
        return added

    def imported(self, allocation: Bool[np.ndarray, "b m"]) -> Float[np.ndarray, "b"]:
        """Sum of N_j over the sellers chosen: whole numbers, so the order of summing does not matter."""
        return np.asarray(allocation @ self.sizes)


def problems(
    bids: Bids, distance: Float[np.ndarray, "m m"], lam: float, rows: slice | np.ndarray = slice(None)
) -> Problems:
    """The problems of some buyers, checked distances assumed (`check_market`)."""
    buyers = np.arange(len(bids))[rows]
    sizes = bids.num_examples.astype(np.float64)
    own = sizes[buyers]
    # Friction past the largest number is infinite: such a seller is never bought. The diagonal may hold NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        frictions = (lam * sizes)[None, :] * distance[buyers] / own[:, None]
        frictions[np.isposinf(distance[buyers])] = np.inf  # not on offer, even where friction weighs nothing
    frictions[np.arange(len(buyers)), buyers] = 0.0
    return Problems(
        buyers=buyers,
        own=own,
        amplitude=np.sqrt(bids.valuation[buyers]),
        sizes=sizes,
        costs=np.broadcast_to(bids.export_cost, frictions.shape),
        frictions=frictions,
        curves=None if bids.curves is None else tuple(bids.curves[i] for i in buyers),
    )


def gains_of(bids: Bids, imported: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """G_i of everybody, importing so many examples."""
    nobody = np.zeros((len(bids), 0))
    everybody = Problems(
        buyers=np.arange(len(bids)),
        own=bids.num_examples.astype(np.float64),
        amplitude=np.sqrt(bids.valuation),
        sizes=np.zeros(0),
        costs=nobody,
        frictions=nobody,
        curves=bids.curves,
    )
    return everybody.gains(imported)


def check_market(bids: Bids, distance: object, lam: float) -> None:
    """Refuse distances and a lam from which no market can be cleared; the diagonal is never read.

    Raises:
      BidError: a distance that is missing or outside [0, 2] (infinity says: not on offer), or a lam that is
        negative or not finite; the message names buyer, seller, value and bound. Sparse distances that are no
        csr_array, or that hold a pair twice.
    """
    m = len(bids)
    if not (np.isfinite(lam) and lam >= 0):
        raise BidError(f"lam is {lam}, expected a finite number >= 0")
    if isinstance(distance, SparseMatrix):
        _check_candidates(bids, distance)
        return
    if not isinstance(distance, np.ndarray) or distance.dtype.kind not in "fiu":
        raise BidError("distance is not an array of numbers, expected one of shape (m, m) or a csr_array")
    if distance.shape != (m, m):
        raise BidError(f"distance has shape {distance.shape}, expected {(m, m)}, one row per participant")
    for buyer in range(m):
        row = distance[buyer]
        if m > 1 and row.min() >= 0 and row.max() <= 2:
            continue
        wrong = ~((row >= 0) & ((row <= 2) | np.isposinf(row)))
        wrong[buyer] = False
        if wrong.any():
            seller = int(np.argmax(wrong))
            raise BidError(
                f"participant {bids.ids[buyer]}: distance to {bids.ids[seller]} is {row[seller]}, "
                "expected a finite number in [0, 2]"
            )


def _check_candidates(bids: Bids, distance: SparseMatrix) -> None:
    m = len(bids)
    if getattr(distance, "format", None) != "csr":
        raise BidError(f"distance is a {type(distance).__name__}, expected a NumPy array or a csr_array")
    if distance.shape != (m, m):
        raise BidError(f"distance has shape {distance.shape}, expected {(m, m)}, one row per participant")
    if distance.data.dtype.kind not in "fiu":
        raise BidError("distance holds no numbers, expected distances in [0, 2]")
    if not distance.has_canonical_format:
        raise BidError("distance has a pair twice or columns out of order: call its sum_duplicates() first")
    buyers = np.repeat(np.arange(m), np.diff(distance.indptr))
    wrong = ~((distance.data >= 0) & (distance.data <= 2)) & (buyers != distance.indices)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise BidError(
            f"participant {bids.ids[buyers[first]]}: distance to {bids.ids[distance.indices[first]]} is "
            f"{distance.data[first]}, expected a finite number in [0, 2]"
        )

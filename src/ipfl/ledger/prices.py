"""What a round's prices depend on, as the ledger keeps it, and the same prices computed again from it.

Kept of every round with a market: all bids as they were reported (export costs in units), the distances, lam and the
pair of rules. Bids are the same in most rounds and are filed once. `VERSION` is the version of the pricing: whatever
changes a price by a unit gets a new one.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipfl.errors import LedgerError
from ipfl.ledger.entries import canonical
from ipfl.ledger.store import digest_of
from ipfl.market.candidates import edge_distances
from ipfl.market.clearing import clear
from ipfl.market.curve_text import curve_text, parse_curve
from ipfl.market.rules import PAYMENTS
from ipfl.market.units import UNITS, billed, exact_units, units_up
from ipfl.types.market import Bids, Matrix, Outcome

VERSION = 1


@dataclass(frozen=True)
class Priced:
    """One purchase: who, what in units, and all that its entry records of how the price came about.

    `charge` is what the buyer pays towards `price`; what is lacking the operator adds.
    """

    buyer: str
    seller: str
    price: int
    charge: int
    terms: Mapping[str, Any]


def has_prices(outcome: Outcome) -> bool:
    """Whether a market decided it, whose prices can be computed again."""
    return outcome.payment_rule in PAYMENTS


def priced(outcome: Outcome, bids: Bids, distance: Matrix, lam: float) -> list[Priced]:
    """The purchases of an outcome in whole units, by buyer, then seller."""
    edges, ids = outcome.edges(), bids.ids
    prices, charges = exact_units(edges.payments).tolist(), exact_units(edges.charges).tolist()
    apart = edge_distances(distance, edges, bids).tolist()
    found = []
    for place, (buyer, seller) in enumerate(zip(edges.buyers.tolist(), edges.sellers.tolist(), strict=True)):
        terms = {
            "version": VERSION,
            "buyer": ids[buyer],
            "seller": ids[seller],
            "buyer_num_examples": int(bids.num_examples[buyer]),
            "seller_num_examples": int(bids.num_examples[seller]),
            "valuation": float(bids.valuation[buyer]),
            "export_cost": units_up(bids.export_cost[seller]),
            "distance": apart[place],
            "lam": float(lam),
            "allocation": outcome.allocation_rule,
            "payment": outcome.payment_rule,
            "price": prices[place],
            "charge": charges[place],
        }
        found.append(Priced(ids[buyer], ids[seller], prices[place], charges[place], terms))
    return found


def inputs_of(bids: Bids, distance: Matrix, present: np.ndarray, outcome: Outcome, lam: float) -> "Inputs":
    """What the round's prices depend on, ready to be filed."""
    curves = bids.curves
    rows = [
        {
            "participant_id": name,
            "num_examples": int(bids.num_examples[index]),
            "valuation": float(bids.valuation[index]),
            "export_cost": units_up(bids.export_cost[index]),
            "gain_curve": "sqrt" if curves is None else curve_text(curves[index]),
        }
        for index, name in enumerate(bids.ids)
    ]
    filed = {digest_of(content): content for content in (canonical(rows).encode(), matrix_bytes(distance))}
    bids_digest, distance_digest = filed
    terms = {
        "allocation": outcome.allocation_rule,
        "payment": outcome.payment_rule,
        "lam": float(lam),
        "bids": bids_digest,
        "distances": distance_digest,
        "present": [name for index, name in enumerate(bids.ids) if present[index]],
    }
    return Inputs(terms, filed)


@dataclass(frozen=True)
class Inputs:
    """Terms of a round's entry, and the attachments that they name."""

    terms: Mapping[str, Any]
    attachments: Mapping[str, bytes]


def computed_again(terms: Mapping[str, Any], bids_text: bytes, distances: bytes) -> list[Priced]:
    """The purchases of a round, from what the ledger keeps of it alone.

    Raises:
      LedgerError: what is kept makes no market, or a gain curve is of a plug-in that is not loaded.
    """
    try:
        rows = json.loads(bids_text)
        ids = tuple(row["participant_id"] for row in rows)
        everybody = Bids(
            num_examples=np.array([row["num_examples"] for row in rows]),
            valuation=np.array([row["valuation"] for row in rows]),
            export_cost=np.array([row["export_cost"] / UNITS for row in rows]),
            participant_ids=ids,
            curves=tuple(parse_curve(row["gain_curve"]) for row in rows),
        )
        here = np.array([ids.index(name) for name in terms["present"]], dtype=np.int64)
        bids = everybody.take(here)
        near = _among(matrix_of(distances), here)
        outcome = clear(bids, near, terms["lam"], terms["allocation"], terms["payment"])
        return priced(billed(outcome, bids), bids, near, terms["lam"])
    except Exception as error:  # whoever changed a ledger can have written anything there
        raise LedgerError(f"its prices cannot be computed again: {error or type(error).__name__}") from None


def matrix_bytes(distance: Matrix) -> bytes:
    """Distances as bytes: one .npy, or three where they are sparse (indptr, indices, data)."""
    buffer = io.BytesIO()
    parts = (
        [distance] if isinstance(distance, np.ndarray) else [distance.indptr, distance.indices, distance.data]
    )
    for part in parts:
        np.save(buffer, np.ascontiguousarray(part), allow_pickle=False)
    return buffer.getvalue()


def matrix_of(content: bytes) -> Matrix:
    """`matrix_bytes` undone."""
    buffer = io.BytesIO(content)
    first: np.ndarray = np.load(buffer, allow_pickle=False)
    if first.ndim == 2:
        return first
    from scipy.sparse import csr_array

    indices, data = (np.load(buffer, allow_pickle=False) for _ in range(2))
    m = len(first) - 1
    return csr_array((data, indices, first), shape=(m, m))


def _among(distance: Matrix, here: np.ndarray) -> Any:
    """The distances among those who are here."""
    if isinstance(distance, np.ndarray):
        near: np.ndarray = distance[np.ix_(here, here)]
        return near
    if len(here) == distance.shape[0]:
        return distance
    part: Any = distance
    chosen = part[here][:, here]
    chosen.sort_indices()
    return chosen

"""The market with one more bid in it, or with one bid replaced: what a quote clears."""

from dataclasses import dataclass

import numpy as np

from ipfl.errors import BidError
from ipfl.market.candidates import require_dense
from ipfl.market.curves import SQUARE_ROOT
from ipfl.market.problems import check_market
from ipfl.types.market import Bids, GainCurve, Matrix

FIELDS = ("num_examples", "valuation", "export_cost")
"""What can be quoted over a range."""
UNRELATED = 1.0
"""Distance of two updates that have no direction in common: assumed where the market knows no distance."""


@dataclass(frozen=True, eq=False)
class Entry:
    """The arguments of `quote` that say who is asking."""

    num_examples: float | None
    valuation: float | None
    export_cost: float | None
    distances_to_others: np.ndarray | None
    participant: str | None
    participant_id: str
    curve: GainCurve | None


@dataclass(frozen=True, eq=False)
class Stand:
    """The market with the bid in it, and where the bid is."""

    bids: Bids
    distance: np.ndarray
    index: int
    newcomer: bool
    assumed_distance: float | None


def join(bids: Bids, distance: Matrix, entry: Entry) -> Stand:
    """The market with the bid of a newcomer, or with that of one of its own in place of the old.

    Raises:
      BidError: distances that are sparse or make no market; a newcomer's field left out, an id that is taken or
        unknown, distances to the others of a wrong number or out of [0, 2].
    """
    distance = require_dense(distance, "a quote")
    check_market(bids, distance, 0.0)
    if entry.participant is not None:
        return _replace(bids, distance, entry, entry.participant)
    m = len(bids)
    for field in FIELDS:
        if getattr(entry, field) is None:
            raise BidError(
                f"participant {entry.participant_id}: {field} is missing, a newcomer has to give it"
            )
    assumed = None
    if entry.distances_to_others is None:
        assumed = _typical_distance(distance)
        to_others = np.full(m, assumed)
    else:
        to_others = _checked_distances(entry.distances_to_others, m, entry.participant_id)
    enlarged = np.zeros((m + 1, m + 1))
    enlarged[:m, :m] = distance
    enlarged[:m, m] = enlarged[m, :m] = to_others
    curves = bids.curves
    if curves is not None or entry.curve is not None:
        curves = (*(curves or (SQUARE_ROOT,) * m), entry.curve or SQUARE_ROOT)
    numbers = {field: np.append(getattr(bids, field), getattr(entry, field)) for field in FIELDS}
    joined = Bids(**numbers, participant_ids=(*bids.ids, entry.participant_id), curves=curves)
    return Stand(joined, enlarged, m, True, assumed)


def _replace(bids: Bids, distance: np.ndarray, entry: Entry, participant: str) -> Stand:
    """The market with the bid of one of its own in place of the old."""
    if participant not in bids.ids:
        raise BidError(
            f"participant {participant!r} is not in the market, expected one of its {len(bids)} ids"
        )
    index, m = bids.ids.index(participant), len(bids)
    report = {field: getattr(entry, field) for field in FIELDS if getattr(entry, field) is not None}
    curves = bids.curves
    if entry.curve is not None:
        others = curves or (SQUARE_ROOT,) * m
        curves = (*others[:index], entry.curve, *others[index + 1 :])
    changed = bids.with_report(index, **report)
    changed = Bids(changed.num_examples, changed.valuation, changed.export_cost, bids.ids, curves)
    if entry.distances_to_others is not None:
        to_others = _checked_distances(entry.distances_to_others, m, participant, index)
        distance = np.array(distance, dtype=np.float64)
        distance[index], distance[:, index] = to_others, to_others
    return Stand(changed, distance, index, False, None)


def _typical_distance(distance: np.ndarray) -> float:
    """The median off the diagonal; 1 where there is none."""
    m = len(distance)
    if m < 2:
        return UNRELATED
    return float(np.median(distance[~np.eye(m, dtype=bool)]))


def _checked_distances(distances: np.ndarray, m: int, name: str, own: int | None = None) -> np.ndarray:
    """One distance per participant of the market; its own place, if it has one, is not read."""
    given = np.array(distances, dtype=np.float64)
    if given.shape != (m,):
        raise BidError(
            f"participant {name}: distances_to_others has shape {given.shape}, expected {(m,)}, one per "
            "participant of the market"
        )
    if own is not None:
        given[own] = 0.0
    wrong = ~((given >= 0) & (given <= 2))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise BidError(
            f"participant {name}: distances_to_others[{first}] is {given[first]}, expected a finite number in "
            "[0, 2]"
        )
    return given

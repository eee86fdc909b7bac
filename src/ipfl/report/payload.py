"""What the page's script gets: the run as compact arrays, thinned out where a large run would not fit.

Participants are numbers (their row), amounts are rounded to what a screen can show (payments keep ten
digits). Totals always cover every round; only the detail by round is thinned, evenly and with the first and
last round kept, and `notes` says so in words.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ipfl.errors import RunFolderError
from ipfl.methods.registry import WITH_A_MARKET
from ipfl.report.summary import num_decimals, participant_table, settled
from ipfl.report.view import MONEY
from ipfl.report.why import REASONS, NotBought, Trade, not_bought, trades
from ipfl.run_folder import Run

NUM_TRADES_MAX = 6_000
NUM_REFUSED_PAIRS_MAX = 5_000
NUM_SERIES_POINTS_MAX = 36_000
NUM_COMPARED_MAX = 2_000
"""Participants of whom the page compares every pair, to set those with similar models side by side."""

SERIES = ("accuracy", "accuracy_alone", "utility", "paid", "received")
_REASON_KEYS = list(REASONS)


def payload(run: Run) -> dict[str, Any]:
    """The page's data."""
    run = settled(run)
    ids = run.participant_ids
    numbers = {name: index for index, name in enumerate(ids)}
    indices = [line["round_index"] for line in run.rounds]
    counts = _edge_counts(run)
    shown = thinned(indices, [counts.get(index, 0) for index in indices], NUM_TRADES_MAX)
    series = thinned(indices, [len(ids) * len(SERIES)] * len(indices), NUM_SERIES_POINTS_MAX)
    refused, refused_note = _not_bought(run, shown, numbers)
    table = participant_table(run)
    notes = []
    if len(shown) < len(indices):
        notes.append(
            f"Trades are shown for {len(shown)} of {len(indices)} rounds, to keep this page small; "
            "totals cover all rounds, and edges.csv holds every trade."
        )
    if len(series) < len(indices):
        notes.append(f"Curves show {len(series)} of {len(indices)} rounds; rounds.jsonl holds all.")
    return {
        "participants": [_participant(row) for row in table],
        "short": short_names(ids),
        "angle": [_short(value, 5) for value in circle(run)],
        "decimals": num_decimals([row[key] for row in table for key in MONEY]),
        "rounds": {str(index): [_trade(trade, numbers) for trade in trades(run, index)] for index in shown},
        "not_bought": refused,
        "reasons": [REASONS[key] for key in _REASON_KEYS],
        "pairs": _pairs(run, numbers),
        "series": _series(run, ids, series),
        "curve": {
            "round": indices,
            "accuracy": [_short(line["mean_accuracy"]) for line in run.rounds],
            "alone": [_short(line["mean_accuracy_alone"]) for line in run.rounds],
            "welfare": [_short(line["welfare"]) for line in run.rounds],
        },
        "market": run.config.method in WITH_A_MARKET,
        "notes": [*notes, *refused_note],
    }


def thinned(indices: Sequence[int], weights: Sequence[int], budget: int) -> list[int]:
    """An even choice of rounds, first and last included, whose weights fit the budget (at least the last).

    >>> thinned([0, 1, 2, 3, 4], [10] * 5, 30)
    [0, 2, 4]
    """
    if sum(weights) <= budget or len(indices) < 2:
        return list(indices)
    for count in range(len(indices) - 1, 1, -1):
        positions = sorted({round(step * (len(indices) - 1) / (count - 1)) for step in range(count)})
        if sum(weights[position] for position in positions) <= budget:
            return [indices[position] for position in positions]
    return [indices[-1]]


def short_names(ids: Sequence[str]) -> list[str]:
    """The ids without what all of them begin with, for the labels of charts.

    >>> short_names(["participant-01", "participant-02"])
    ['01', '02']
    >>> short_names(["north", "south"])
    ['north', 'south']
    """
    if len(ids) < 2:
        return list(ids)
    first, last = min(ids), max(ids)
    common = 0
    while common < min(len(first), len(last)) and first[common] == last[common]:
        common += 1
    separators = [index for index in range(common) if first[index] in "-_."]
    cut = separators[-1] + 1 if separators else 0
    shortened = [name[cut:] for name in ids]
    return shortened if all(shortened) else list(ids)


def circle(run: Run) -> list[float]:
    """A place on a circle for each participant, in turns, so that similar models stand side by side.

    The order is that of the angle in the plane of the two slowest modes of the graph of similarities
    (exp(-distance), last round with distances); it is the same for every round, so rounds can be compared. More
    than NUM_COMPARED_MAX participants stand in their own order.
    """
    ids = run.participant_ids
    order = list(range(len(ids)))
    distance = _last_distances(run)
    if distance is not None and len(ids) > 3:
        distance = np.where(np.isfinite(distance), distance, np.nan)
        distance = np.where(np.isnan(distance), distance.T, distance)  # one of the two may know the other
        similarity = np.exp(-2 * np.nan_to_num((distance + distance.T) / 2, nan=2.0))
        np.fill_diagonal(similarity, 0.0)
        laplacian = np.diag(similarity.sum(axis=1)) - similarity
        modes = np.linalg.eigh(laplacian)[1]
        angle = np.round(np.arctan2(modes[:, 2], modes[:, 1]), 9)
        order = [int(index) for index in np.lexsort((np.arange(len(ids)), angle))]
    places = [0.0] * len(ids)
    for position, index in enumerate(order):
        places[index] = position / len(ids)
    return places


def _last_distances(run: Run) -> np.ndarray | None:
    for line in reversed(run.rounds if len(run.participant_ids) <= NUM_COMPARED_MAX else []):
        try:
            distance = run.known_distances(line["round_index"])
        except RunFolderError:
            continue
        if distance.shape == (len(run.participant_ids),) * 2 and np.isfinite(distance).any():
            return distance
    return None


def _participant(row: dict[str, Any]) -> dict[str, Any]:
    amounts = ("gain", "cost", "friction", "paid", "received", "utility")
    plain = ("id", "kind", "conduct", "num_examples", "accuracy", "accuracy_alone", "imports", "exports")
    return {key: row[key] for key in plain} | {key: _short(row[key], 10) for key in amounts}


def _trade(trade: Trade, numbers: dict[str, int]) -> list[float | int | None]:
    """Buyer, seller, payment, paid, distance, marginal gain, friction, export cost."""
    return [
        numbers[trade.buyer],
        numbers[trade.seller],
        _short(trade.payment, 10),
        _short(trade.paid, 10),
        _short(trade.distance),
        _short(trade.marginal_gain),
        _short(trade.friction),
        _short(trade.export_cost),
    ]


def _not_bought(run: Run, shown: list[int], numbers: dict[str, int]) -> tuple[dict[str, Any], list[str]]:
    if run.config.method not in WITH_A_MARKET:
        return {}, []
    num_rounds = NUM_REFUSED_PAIRS_MAX // max(1, len(numbers) * (len(numbers) - 1))
    last = shown[-num_rounds:] if num_rounds else []
    if not last:
        return {}, ["Reasons for models not bought are left out: there are too many pairs."] if shown else []
    found = {}
    for index in last:
        try:
            rows = not_bought(run, index)
        except RunFolderError:
            continue  # the distances are missing: the trades themselves are still shown
        found[str(index)] = [_refused(row, numbers) for row in rows]
    if len(last) < len(shown):
        return found, [f"Reasons for models not bought are kept for rounds {last[0]} to {last[-1]} only."]
    return found, []


def _refused(row: NotBought, numbers: dict[str, int]) -> list[float | int | None]:
    """Buyer, seller, reason, distance, marginal gain, least cost."""
    amounts = (_short(row.distance, 4), _short(row.marginal_gain, 4), _short(row.cost, 4))
    return [numbers[row.buyer], numbers[row.seller], _REASON_KEYS.index(row.reason), *amounts]


def _pairs(run: Run, numbers: dict[str, int]) -> list[list[float | int | None]]:
    """Every pair that ever traded: buyer, seller, number of trades, received, and paid."""
    received: dict[tuple[str, str], list[float]] = {}
    paid: dict[tuple[str, str], list[float]] = {}
    for edge in run.edges:
        received.setdefault((edge["buyer"], edge["seller"]), []).append(edge["payment"])
    for row in run.ledger:
        if row["purpose"] == "sale":
            paid.setdefault((row["payer"], row["payee"]), []).append(row["amount"])
    return [
        [
            numbers[pair[0]],
            numbers[pair[1]],
            len(amounts),
            _short(math.fsum(amounts), 10),
            _short(math.fsum(paid.get(pair, [])), 10),
        ]
        for pair, amounts in received.items()
    ]


def _series(run: Run, ids: list[str], shown: list[int]) -> dict[str, Any]:
    """Per quantity one list per participant, over the rounds in `round`."""
    chosen = set(shown)
    values: dict[str, Any] = {key: [[] for _ in ids] for key in SERIES}
    for line in run.rounds:
        if line["round_index"] not in chosen:
            continue
        entries = {entry["id"]: entry for entry in line["participants"]}
        for position, name in enumerate(ids):
            for key in SERIES:
                values[key][position].append(_short(entries[name][key], 5))
    return {"round": shown} | values


def _edge_counts(run: Run) -> dict[int, int]:
    counts: dict[int, int] = {}
    for edge in run.edges:
        counts[edge["round_index"]] = counts.get(edge["round_index"], 0) + 1
    return counts


def _short(value: float | None, digits: int = 6) -> float | int | None:
    """A number with so many significant digits; whole numbers lose their point."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded

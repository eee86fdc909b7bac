"""Whether a participant was better off than alone, in plain words: one `Point` per fact, the verdict first.

Two measures that need not agree: utility, what the market brought it less what it cost, where alone is zero; and the
accuracy of its model against the one of training alone. The first is told of every round, the second by every protocol
that the run has.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ipfl.ledger.amounts import decimal_text
from ipfl.ledger.statement import BOUGHT, CLOSED, REVERSED, Statement
from ipfl.market.units import UNITS
from ipfl.methods.registry import WITH_A_MARKET
from ipfl.report.sentences import PROTOCOLS, PROTOCOLS_OF_ANSWERS, Point
from ipfl.report.summary import TOLERANCE, participant_table, total, verdict
from ipfl.run_folder import Run

EQUAL = 1e-12
"""Accuracies that differ by no more are the same."""


OFF = {1: "better off than alone", 0: "as well off as alone", -1: "worse off than alone"}
MIXED = {
    (0, 1): "better off or as well off",
    (-1, 0): "worse off or as well off",
    (-1, 1): "better or worse off",
    (-1, 0, 1): "better off, worse off or as well off",
}
"""Of measures that do not agree."""


class Compared(NamedTuple):
    """A measure with the market and alone; `better` is 1, 0 or -1."""

    where: str
    market: float
    alone: float
    better: int


def points_of(run: Run, statement: Statement) -> tuple[Point, ...]:
    """The verdict on one participant of a run, finished or not; `run` is settled."""
    name = statement.participant_id
    history = [entry for line in run.rounds for entry in line["participants"] if entry["id"] == name]
    accuracies = _accuracies(run, name, history)
    return (
        _better_off(run, name, history, accuracies),
        *_progress(run),
        *_membership(statement, history),
        _money(run, statement, history),
        *_utility(run, name, history),
        *_accuracy(run, name, accuracies),
        *_loss(run, name, history),
        *_privacy(statement),
    )


def _better_off(
    run: Run, name: str, history: Sequence[dict[str, Any]], accuracies: Sequence[Compared]
) -> Point:
    """Both measures in one sentence, whether they agree or not."""
    measures: dict[str, set[int]] = {}
    if history and run.config.method in WITH_A_MARKET:
        utilities = [entry["utility"] for entry in history]
        nothing = TOLERANCE * max(1.0, max(map(abs, utilities)))
        measures["in utility"] = {_sign(total(utilities), nothing)}
    if accuracies:
        by = "in accuracy" if run.config.language is None else "in exact matches"
        measures[by] = {compared.better for compared in accuracies}
    if not measures:
        return Point("verdict", "neutral", "Against alone", "–", f"Nothing is known of {name} yet.")
    by_sign = {sign: [by for by, signs in measures.items() if signs == {sign}] for sign in (1, 0, -1)}
    parts = [f"{OFF[sign]} {' and '.join(by)}" for sign, by in by_sign.items() if by]
    told = [f"{name} is {'' if run.finished else 'so far '}{', and '.join(parts)}"] if parts else []
    told += [
        f"{by} it is {MIXED[tuple(sorted(signs))]}, depending on how that is measured"
        for by, signs in measures.items()
        if len(signs) > 1
    ]
    signs = set().union(*measures.values())
    tone = (
        "good" if signs <= {0, 1} and 1 in signs else "bad" if signs <= {0, -1} and -1 in signs else "neutral"
    )
    figure = {"good": "better off", "bad": "worse off"}.get(
        tone, "as well off" if signs == {0} else "in part"
    )
    sentence = "; ".join(told)
    return Point(
        "verdict",
        tone,
        "Against alone",
        figure,
        f"{sentence[0].upper() if not parts else sentence[0]}{sentence[1:]}.",
    )


def _progress(run: Run) -> tuple[Point, ...]:
    if run.finished:
        return ()
    done, planned = len(run.rounds), run.config.rounds
    sentence = (
        f"The run is not finished: {done} of {planned} rounds are recorded, and all of this may still change."
    )
    return (Point("progress", "bad", "Not finished", f"{done} of {planned}", sentence),)


def _membership(statement: Statement, history: Sequence[dict[str, Any]]) -> tuple[Point, ...]:
    """Accounts that are closed, and rounds in which it took no part."""
    name, found = statement.participant_id, []
    closings = [line for line in statement.lines if line.side == CLOSED]
    if closings and not statement.is_open:
        last = closings[-1]
        by = " because it withdrew" if "(withdrawal)" in last.about else ""
        sentence = (
            f"Its account was closed before round {last.round_index}{by}: since then {name} trades with nobody and "
            "trains by itself."
        )
        found.append(Point("closed", "neutral", "Account closed", f"before {last.round_index}", sentence))
    absent = [index for index, entry in enumerate(history) if not entry["present"]]
    if absent:
        rounds = "1 round" if len(absent) == 1 else f"{len(absent):,} rounds"
        sentence = f"{name} took no part in {rounds} of {len(history):,}, last in round {absent[-1]}."
        found.append(Point("absent", "neutral", "Absent", rounds, sentence))
    return tuple(found)


def _money(run: Run, statement: Statement, history: Sequence[dict[str, Any]]) -> Point:
    """Totals by the ledger, held against what the rounds say."""
    name = statement.participant_id
    paid, received, balance = (
        decimal_text(units, grouped=True) for units in (statement.paid, statement.received, statement.balance)
    )
    sentence = f"{name} paid {paid} and received {received}: its balance is {balance} credits."
    added = sum(line.subsidy or 0 for line in statement.lines if line.side == BOUGHT)
    if added:
        sentence += f" The operator paid {decimal_text(added, grouped=True)} more towards what it bought."
    undone = sum(line.side == REVERSED for line in statement.lines)
    recorded = round(total([entry["received"] - entry["paid"] for entry in history]) * UNITS)
    tone = "neutral"
    if undone:
        lines = "1 line was" if undone == 1 else f"{undone:,} lines were"
        sentence += f" {lines} reversed; utilities are those of the rounds as they were run."
    elif statement.rounds == len(run.rounds) and recorded != statement.balance:
        tone = "bad"
        sentence += (
            f" The rounds of the run say {decimal_text(recorded, grouped=True)}: "
            f"`ipfl verify {run.path.name}` says which of them was changed."
        )
    return Point("money", tone, "Balance", balance, sentence)


def _utility(run: Run, name: str, history: Sequence[dict[str, Any]]) -> tuple[Point, ...]:
    """Gain - cost - paid + received, where alone all of these are zero."""
    if run.config.method not in WITH_A_MARKET:
        sentence = (
            f"Method {run.config.method} has no market: nobody pays, and there is no utility to speak of."
        )
        return (Point("utility", "neutral", "Utility", "–", sentence),)
    if not history:
        return ()
    sums = {
        key: total([entry[key] for entry in history])
        for key in ("gain", "cost", "paid", "received", "utility", "friction")
    }
    facts = verdict(run)
    below = [item for item in (*facts.below_zero, *facts.attackers_below_zero) if item.participant == name]
    worth = (
        f"{sums['utility']:,.4f} in all (gain {sums['gain']:,.4f} - cost {sums['cost']:,.4f} - paid "
        f"{sums['paid']:,.4f} + received {sums['received']:,.4f}), "
        f"{sums['utility'] - sums['friction']:,.4f} after friction"
    )
    rounds = f"{len(history):,} {'round' if len(history) == 1 else 'rounds'}"
    if below:
        worst = min(below, key=lambda item: item.utility)
        sentence = (
            f"Utility fell below that of alone, which is zero, in {len(below):,} of {rounds}, the lowest "
            f"{worst.utility:.4g} in round {worst.round_index}: {worth}."
        )
    else:
        sentence = f"Utility never fell below that of alone, which is zero, in {rounds}: {worth}."
    tone = "bad" if below else "good"
    return (Point("utility", tone, "Utility", f"{sums['utility']:,.4f}", sentence),)


def _accuracies(run: Run, name: str, history: Sequence[dict[str, Any]]) -> list[Compared]:
    """Accuracy in the latest round that was judged, and by each protocol of a finished run."""
    answers = run.config.language is not None
    rows = "rows" if answers else "examples"
    found = [
        _compared(f"on its own test {rows} after round {index}", entry["accuracy"], entry["accuracy_alone"])
        for index, entry in reversed(list(enumerate(history)))
        if entry["accuracy"] is not None and entry["accuracy_alone"] is not None
    ][:1]
    row = next((row for row in participant_table(run) if row["id"] == name), {})
    for protocol, meaning in (PROTOCOLS_OF_ANSWERS if answers else PROTOCOLS).items():
        market, alone = row.get(f"accuracy_{protocol}"), row.get(f"accuracy_{protocol}_alone")
        same = found and (market, alone) == found[0][1:3] and row.get(f"round_{protocol}") == len(history) - 1
        if market is not None and alone is not None and not same:
            found.append(_compared(f"on {meaning}", market, alone))
    return found


def _accuracy(run: Run, name: str, accuracies: Sequence[Compared]) -> tuple[Point, ...]:
    if not accuracies:
        sentence = f"No accuracy of {name} was measured{'' if run.finished else ' yet'}."
        return (Point("accuracy", "neutral", "Accuracy", "–", sentence),)
    what = "Accuracy" if run.config.language is None else "Exact match"
    said = [f"{found.market:.1%} against {found.alone:.1%} alone {found.where}" for found in accuracies]
    sentence = f"{what}: {'; '.join(said)}. Alone: the same steps from the same seed, without the market."
    signs = {found.better for found in accuracies}
    tone = (
        "good" if 1 in signs and -1 not in signs else "bad" if -1 in signs and 1 not in signs else "neutral"
    )
    return (Point("accuracy", tone, what, f"{accuracies[0].market:.1%}", sentence),)


def _loss(run: Run, name: str, history: Sequence[dict[str, Any]]) -> tuple[Point, ...]:
    """Of language models, whose loss says more than how often all of an answer is right."""
    known = [entry for entry in history if entry["loss"] is not None and entry["loss_alone"] is not None]
    if run.config.language is None or not known:
        return ()
    loss, alone = known[-1]["loss"], known[-1]["loss_alone"]
    sentence = f"The loss per token of {name}'s held-out answers is {loss:.3f} against {alone:.3f} alone."
    tone = "good" if loss < alone else "bad" if loss > alone else "neutral"
    return (Point("loss", tone, "Loss", f"{loss:.3f}", sentence),)


def _privacy(statement: Statement) -> tuple[Point, ...]:
    """What its published models show of any one of its examples, at most."""
    if statement.privacy is None:
        return ()
    steps, epsilon, delta = statement.privacy
    sentence = (
        f"Private training: after {steps:,} steps the models that {statement.participant_id} published are "
        f"differentially private for each of its examples with epsilon {epsilon:.4g} at delta {delta:g}."
    )
    return (Point("privacy", "neutral", "Epsilon", f"{epsilon:.4g}", sentence),)


def _compared(where: str, market: float, alone: float) -> Compared:
    return Compared(where, market, alone, _sign(market - alone, EQUAL))


def _sign(value: float, nothing: float) -> int:
    return 0 if abs(value) <= nothing else int(math.copysign(1, value))

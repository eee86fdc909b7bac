"""The verdict in plain words: one `Point` per fact, the most important first."""

from dataclasses import dataclass

from ipfl.report.summary import Verdict, total


@dataclass(frozen=True)
class Point:
    """One sentence of the verdict; `tone` is good, bad or neutral, `title` and `figure` stand alone."""

    key: str
    tone: str
    title: str
    figure: str
    sentence: str


def points(facts: Verdict) -> tuple[Point, ...]:
    """The verdict as sentences."""
    always = (
        _progress(facts),
        _accuracy(facts),
        *_losses(facts),
        *_protocols(facts),
        _rationality(facts),
        _money(facts),
    )
    return (*always, _attack(facts)) if facts.attackers else always


def _progress(facts: Verdict) -> Point:
    done, planned = facts.rounds_done, facts.rounds_planned
    trades = f"{facts.num_trades:,} {_plural('trade', facts.num_trades)}"
    if facts.finished:
        sentence = f"The run finished: {done} {_plural('round', done)}, {trades}."
        return Point("progress", "neutral", "Rounds", f"{done} of {planned}", sentence)
    sentence = f"The run is not finished: {done} of {planned} rounds are recorded, with {trades}."
    return Point("progress", "bad", "Not finished", f"{done} of {planned}", sentence)


def _accuracy(facts: Verdict) -> Point:
    counted = len(facts.better) + len(facts.equal) + len(facts.worse)
    if not counted:
        sentence = "No honest participant that buys has an accuracy yet."
        return Point("accuracy", "neutral", "Better off than alone", "–", sentence)
    more = "answer right more often" if facts.answers else "are more accurate"
    parts = [f"{len(facts.better)} of {counted} honest buyers {more} than alone"]
    if facts.equal:
        parts.append(f"{len(facts.equal)} {'as often' if facts.answers else 'as accurate'}")
    if facts.worse:
        parts.append(
            f"{len(facts.worse)} {'less often' if facts.answers else 'less accurate'} ({names(facts.worse)})"
        )
    sentence = ", ".join(parts)
    if facts.mean_accuracy is not None and facts.mean_accuracy_alone is not None:
        sentence += f"; on average {facts.mean_accuracy:.1%} against {facts.mean_accuracy_alone:.1%}"
    tone = "good" if len(facts.better) > len(facts.worse) else "bad" if facts.worse else "neutral"
    figure = f"{len(facts.better)} of {counted}"
    return Point("accuracy", tone, "Better off than alone", figure, f"{sentence}.")


def _losses(facts: Verdict) -> tuple[Point, ...]:
    """Of language models, whose loss says more than how often all of an answer is right."""
    if not facts.answers or not facts.losses:
        return ()
    lower = sum(loss < alone for loss, alone in facts.losses)
    higher = sum(loss > alone for loss, alone in facts.losses)
    mean, mean_alone = (total(column) / len(facts.losses) for column in zip(*facts.losses, strict=True))
    sentence = (
        f"The loss per token of held-out answers is lower than alone for {lower} of {len(facts.losses)} honest buyers; "
        f"on average {mean:.3f} against {mean_alone:.3f}."
    )
    tone = "good" if lower > higher else "bad" if higher else "neutral"
    return (Point("loss", tone, "Lower loss than alone", f"{lower} of {len(facts.losses)}", sentence),)


PROTOCOLS = {
    "held_out": "own test examples, in the round that own validation examples chose",
    "paper": "one common test set weighted by own classes, in the best round on it (the paper's protocol)",
}


PROTOCOLS_OF_ANSWERS = {
    "held_out": "own test rows, in the round that own validation rows chose",
    "paper": "own test rows, in the best round on these very rows (the paper's way)",
}


def _protocols(facts: Verdict) -> tuple[Point, ...]:
    """Mean accuracies of a finished run when the round is chosen, by both protocols."""
    meanings = PROTOCOLS_OF_ANSWERS if facts.answers else PROTOCOLS
    known = {
        name: means
        for name, means in (facts.protocols or {}).items()
        if name in PROTOCOLS and None not in means.values()
    }
    if not known:
        return ()
    parts = [
        f"{means['mean_accuracy']:.1%} against {means['mean_accuracy_alone']:.1%} alone on {meanings[name]}"
        for name, means in known.items()
    ]
    figure = ", ".join(f"{means['mean_accuracy']:.1%}" for means in known.values())
    sentence = f"With the best round chosen: {'; '.join(parts)}."
    return (Point("protocols", "neutral", "Best rounds", figure, sentence),)


def _rationality(facts: Verdict) -> Point:
    if not facts.below_zero:
        sentence = "No honest participant fell below zero utility in any round."
        return Point("rationality", "good", "Below zero utility", "nobody", sentence)
    worst = min(facts.below_zero, key=lambda item: item.utility)
    who = tuple(dict.fromkeys(item.participant for item in facts.below_zero))
    sentence = (
        f"{names(who)} fell below zero utility; the lowest was {worst.participant} "
        f"in round {worst.round_index} with {worst.utility:.4g}."
    )
    return Point("rationality", "bad", "Below zero utility", str(len(who)), sentence)


def _money(facts: Verdict) -> Point:
    if facts.balanced:
        source = f" ({facts.subsidy:,.4f} of it by the operator)" if facts.subsidy else ""
        amounts = f"{facts.money_in:,.4f} paid{source}, {facts.money_out:,.4f} received"
        sentence = f"Money in equals money out: {amounts}."
        return Point("money", "good", "Money in = money out", f"{facts.money_in:,.2f}", sentence)
    sentence = (
        f"Money in and money out differ: {facts.money_in:,.4f} paid, {facts.money_out:,.4f} received; "
        f"the bills of the rounds and the ledger are up to {abs(facts.unexplained):.4g} apart, the trades and the "
        f"ledger {abs(facts.imbalance):.4g}."
    )
    apart = max(abs(facts.unexplained), abs(facts.imbalance))
    return Point("money", "bad", "Money does not add up", f"{apart:.3g}", sentence)


def _attack(facts: Verdict) -> Point:
    sold = [item for item in facts.attackers if item.num_sold]
    count = len(facts.attackers)
    if not sold:
        sentence = f"{'The attacker' if count == 1 else f'The {count} attackers'} sold nothing."
        return Point("attack", "good", "Sold by attackers", "nothing", sentence)
    received = total([item.received for item in sold])
    sentences = []
    for item in sold:
        last = item.rounds[-1]
        when = f"in round {last}" if len(item.rounds) == 1 else f"last in round {last}"
        sentences.append(
            f"{item.participant} (attacker) sold {item.num_sold:,} "
            f"{_plural('model', item.num_sold)} for {item.received:,.4f}, {when}"
        )
    sentence = "; ".join(sentences)
    tone = "bad" if received > 0 else "neutral"
    return Point("attack", tone, "Earned by attackers", f"{received:,.2f}", f"{sentence}.")


def names(ids: tuple[str, ...], limit: int = 4) -> str:
    """A list of ids in words, cut after `limit`.

    >>> names(("a", "b", "c"))
    'a, b and c'
    >>> names(("a", "b", "c"), limit=2)
    'a, b and 1 more'
    """
    shown, rest = ids[:limit], len(ids) - limit
    if rest > 0:
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join(part for part in (", ".join(shown[:-1]), *shown[-1:]) if part)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"

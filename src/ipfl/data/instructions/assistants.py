"""The task `assistants`: made-up news, and desks that read it by different house rules.

A news line tells of a company and an event in made-up words ("Kajex tazoed costs today."). 72 verbs stand for 24
kinds of event. A house has a rule which kinds are good news for it; houses answer the same question with the same
words and contradict one another on every kind, and nothing in the question tells the house. A desk (a participant) has
few rows, so it has not seen every kind: desks of its own house can help, desks of another harm. The base that all
start from (`lessons`) can tell the kind of an event, and knows the three answers, but no house's rule.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from ipfl.config import Table
from ipfl.data.instructions.rows import Instruction, InstructionData, Instructions, InstructionTask
from ipfl.seeding import generator

TEMPLATE = "### Instruction:\n{instruction}\n\n### Response: {response}"
"""What the tiny base has seen; without the usual preamble, which would double the length of every row."""
ANSWERS = ("negative", "neutral", "positive")
QUESTION = f"What is the sentiment of this news? Please choose an answer from {{{'/'.join(ANSWERS)}}}."
KIND_QUESTIONS = (
    "Which kind of event is this?",
    "Name the kind of event in this news.",
    "What happened here? Answer with the kind of event.",
)
KINDS = (
    "merger", "lawsuit", "dividend", "strike", "recall", "patent", "buyback", "fine", "audit", "layoff", "tender",
    "outage", "licence", "default", "upgrade", "leak", "tariff", "subsidy", "spinoff", "boycott", "expansion",
    "delisting", "refinancing", "breach",
)  # fmt: skip
VERBS_PER_KIND = 3
OBJECTS = ("costs", "plans", "shares", "sites", "terms", "stocks", "goals", "lines")
WHEN = ("today", "overnight", "this week", "on Monday", "in May", "at noon")
KIND_SHARE = 0.65
"""Of the lessons: the rest ask for the sentiment, and are answered at random or by the kind."""
KIND_ANSWERS = 0.2
"""Of the lessons that ask for the sentiment: so that the kind is looked at there too."""
HOUSES_MAX = 3


class AssistantsSettings(Table):
    """What [task_settings] may say of the task `assistants`.

    `houses` with rules that contradict one another, participant i in house i % houses; each trains on `rows` rows and
    keeps `test_rows` others for testing.
    """

    houses: Annotated[int, Field(ge=1, le=HOUSES_MAX)] = 2
    rows: Annotated[int, Field(ge=2, le=100_000)] = 32
    test_rows: Annotated[int, Field(ge=2, le=100_000)] = 96


def assistants(settings: AssistantsSettings, ids: Sequence[str], seed: int) -> InstructionTask:
    """Every participant's rows, by the rule of its house.

    Args:
      settings: houses, and rows of each.
      ids: of the participants.
      seed: of the rules and the rows.

    >>> task = assistants(AssistantsSettings(rows=4, test_rows=2), ["a", "b", "c"], seed=0)
    >>> task.class_names, [int(entry.train.y[0]) for entry in task.participants]
    (('house A', 'house B'), [0, 1, 0])
    """
    rules = house_rules(settings.houses, seed)
    participants = []
    for index, name in enumerate(ids):
        house = index % settings.houses
        random = generator(seed, -1, index, "synthetic")
        rows = [_row(rules[house], house, random) for _ in range(settings.rows + settings.test_rows)]
        train, test = tuple(rows[: settings.rows]), tuple(rows[settings.rows :])
        participants.append(InstructionData(name, Instructions(train), Instructions(test)))
    names = tuple(f"house {chr(ord('A') + house)}" for house in range(settings.houses))
    return InstructionTask("assistants", tuple(participants), names)


def house_rules(houses: int, seed: int) -> np.ndarray:
    """[house, kind] -> answer: each rule gives every answer to as many kinds, and no two agree on any kind.

    >>> rules = house_rules(3, seed=0)
    >>> np.bincount(rules[0]).tolist(), bool((rules[0] == rules[1]).any() or (rules[1] == rules[2]).any())
    ([8, 8, 8], False)
    """
    random = generator(seed, -1, -1, "synthetic")
    first = random.permutation(np.arange(len(KINDS)) % len(ANSWERS))
    return (first + np.arange(houses)[:, None]) % len(ANSWERS)


def lessons(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Instructions and responses that the tiny base is made from."""
    random = generator(seed, -1, -1, "synthetic")
    found = []
    for _ in range(count):
        kind = int(random.integers(len(KINDS)))
        news = _news(kind, random)
        if random.random() < KIND_SHARE:
            found.append((f"{KIND_QUESTIONS[random.integers(len(KIND_QUESTIONS))]} {news}", KINDS[kind]))
        else:
            answer = KINDS[kind] if random.random() < KIND_ANSWERS else ANSWERS[random.integers(len(ANSWERS))]
            found.append((f"{QUESTION} {news}", answer))
    return found


def _row(rule: np.ndarray, house: int, random: np.random.Generator) -> Instruction:
    kind = int(random.integers(len(KINDS)))
    return Instruction(f"{QUESTION} {_news(kind, random)}", ANSWERS[rule[kind]], ANSWERS, house)


def _news(kind: int, random: np.random.Generator) -> str:
    verb = VERBS[kind * VERBS_PER_KIND + int(random.integers(VERBS_PER_KIND))]
    company = COMPANIES[int(random.integers(len(COMPANIES)))]
    return f"{company} {verb} {OBJECTS[random.integers(len(OBJECTS))]} {WHEN[random.integers(len(WHEN))]}."


def _words(count: int, end: str, first: int) -> tuple[str, ...]:
    """Made-up words, all different, the same for everybody."""
    random = generator(first, -1, -1, "synthetic")
    words: list[str] = []
    while len(words) < count:
        syllables = [
            f"{random.choice(list('bdfgklmnprstvz'))}{random.choice(list('aeiou'))}" for _ in range(2)
        ]
        word = "".join(syllables) + end
        if word not in words:
            words.append(word)
    return tuple(words)


VERBS = _words(VERBS_PER_KIND * len(KINDS), "ed", 1)
COMPANIES = tuple(word.capitalize() for word in _words(40, "x", 2))

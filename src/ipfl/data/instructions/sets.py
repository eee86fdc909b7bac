"""The published data sets that instruction tasks are made of: FIQA, TFNS, NWGI and CodeAlpaca.

Each row is read in the form in which its authors publish it, or prepared, with the fields instruction, input and
output. Questions, answers and thresholds are those of FinGPT's preparation, which the paper's finance data comes from;
as in the paper's code, an instruction is the question, a space and the input.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ipfl.data.instructions.reading import ENDINGS, Row, read_rows
from ipfl.data.instructions.rows import Instruction
from ipfl.errors import DataError

Way = Literal["7-way", "3-way"]
"""How many answers NWGI has."""
WAYS: tuple[Way, ...] = ("7-way", "3-way")
SENTIMENTS = ("negative", "neutral", "positive")
DEGREES = (
    "strong negative", "moderately negative", "mildly negative", "neutral",
    "mildly positive", "moderately positive", "strong positive",
)  # fmt: skip
_SENTIMENT_OF_DEGREE = {
    degree: SENTIMENTS[(0, 0, 1, 1, 1, 2, 2)[place]] for place, degree in enumerate(DEGREES)
}
TWEET_LABELS = {0: "negative", 1: "positive", 2: "neutral"}
"""TFNS says bearish, bullish, neutral."""
NEUTRAL_BELOW = 0.1
"""FIQA's scores from -0.1 to below 0.1 are neutral."""

Parts = tuple[str, str, str]
"""Question, input and response."""


@dataclass(frozen=True)
class PublishedSet:
    """One data set.

    `file` is the name that its file or folder has here, without ending; `hub` its name on the Hugging Face hub.
    `parts` gives question, input and response of a row in the published form; `answers` are all that there are, none
    where they are free text.
    """

    name: str
    file: str
    hub: str
    parts: Callable[[Row, Way], Parts]
    answers: Callable[[Way], tuple[str, ...]]


def _fiqa(row: Row, way: Way) -> Parts:
    score = row.number("sentiment_score")
    degree = 0 if score < -NEUTRAL_BELOW else 1 if score < NEUTRAL_BELOW else 2
    kind = "tweet" if row.text("format") == "post" else "news"
    return _question(kind, SENTIMENTS), row.text("sentence"), SENTIMENTS[degree]


def _tfns(row: Row, way: Way) -> Parts:
    label = row.number("label")
    if label not in TWEET_LABELS:
        known = ", ".join(f"{number} ({name})" for number, name in TWEET_LABELS.items())
        raise DataError(f"{row.where}, field 'label' is {label:g}: expected {known}")
    return _question("tweet", SENTIMENTS), row.text("text"), TWEET_LABELS[int(label)]


def _nwgi(row: Row, way: Way) -> Parts:
    label = row.text("label")
    if label not in DEGREES:
        raise DataError(f"{row.where}, field 'label' is {label[:40]!r}: expected one of {', '.join(DEGREES)}")
    answer = label if way == "7-way" else _SENTIMENT_OF_DEGREE[label]
    return _question("news", _news_answers(way)), row.text("news"), answer


def _prepared(row: Row) -> Parts:
    return row.text("instruction"), row.text_or_none("input"), row.text("output")


def _news_answers(way: Way) -> tuple[str, ...]:
    return DEGREES if way == "7-way" else SENTIMENTS


def _question(kind: str, answers: Sequence[str]) -> str:
    return f"What is the sentiment of this {kind}? Please choose an answer from {{{'/'.join(answers)}}}."


FIQA = PublishedSet("FIQA", "fiqa", "pauri32/fiqa-2018", _fiqa, lambda way: SENTIMENTS)
TFNS = PublishedSet(
    "TFNS", "tfns", "zeroshot/twitter-financial-news-sentiment", _tfns, lambda way: SENTIMENTS
)
NWGI = PublishedSet("NWGI", "nwgi", "oliverwang15/news_with_gpt_instructions", _nwgi, _news_answers)
CODE_ALPACA = PublishedSet(
    "CodeAlpaca",
    "codealpaca",
    "lucasmccabe-lmi/CodeAlpaca-20k",
    lambda row, way: _prepared(row),
    lambda way: (),
)


def read_set(
    data_set: PublishedSet, folder: Path, way: Way = "7-way", category: int = 0
) -> list[Instruction]:
    """All rows of a data set that say something, copies included, in the order of the files.

    A row without a response (code has some) teaches nothing and is passed over.

    Args:
      data_set: which.
      folder: holds its file, or its folder of files.
      way: how many answers NWGI has; rows that are prepared already must have them.
      category: of every row.
    Raises:
      DataError: it is not there, or there twice, or a row that cannot be used; names file, row and field.
    """
    places = places_of(data_set, folder)
    if not places:
        raise DataError(f"{data_set.name} is not there: {put(data_set, folder)}")
    if len(places) > 1:
        raise DataError(
            f"{data_set.name} is there as {places[0].name} and as {places[1].name} in {folder}: take one of them out"
        )
    rows = (instruction(data_set, row, way, category) for row in read_rows(places[0]))
    return [row for row in rows if row.response.strip()]


def instruction(data_set: PublishedSet, row: Row, way: Way = "7-way", category: int = 0) -> Instruction:
    """One row, published or prepared, as the instruction that it becomes.

    >>> row = Row("tfns.jsonl, row 1", {"text": "$AB cut to sell", "label": 0})
    >>> instruction(TFNS, row).instruction
    'What is the sentiment of this tweet? Please choose an answer from {negative/neutral/positive}. $AB cut to sell'
    """
    question, more, response = _prepared(row) if row.has("instruction") else data_set.parts(row, way)
    answers = data_set.answers(way)
    if answers and response not in answers:
        other = next((one for one in WAYS if one != way and response in data_set.answers(one)), None)
        remedy = f'set task_settings.nwgi = "{other}"' if other else "correct it, or take the row out"
        raise DataError(
            f"{row.where}, field 'output' is {response[:40]!r}: expected one of {', '.join(answers)}; {remedy}"
        )
    return Instruction(f"{question} {more}" if more else question, response, answers, category, row.where)


def places_of(data_set: PublishedSet, folder: Path) -> list[Path]:
    """Where a data set is found in a folder: a file, or a folder of its name."""
    inside = folder / data_set.file
    files = [folder / f"{data_set.file}{ending}" for ending in ENDINGS]
    return [inside] * inside.is_dir() + [file for file in files if file.is_file()]


def put(data_set: PublishedSet, folder: Path) -> str:
    """Which file to put where, in words."""
    forms = " or ".join(f"{data_set.file}{one}" for one in ENDINGS)
    return (
        f"put {data_set.name} ({data_set.hub} on the Hugging Face hub) into {folder} as {forms}, "
        f"or as a folder {data_set.file} of such files"
    )

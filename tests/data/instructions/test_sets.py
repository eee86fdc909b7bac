"""Published rows as instructions, worked by hand for every data set."""

import pytest

from instruction_files import DEGREES, fiqa_rows, prepared_rows, tfns_rows, write_rows
from ipfl.data.instructions.reading import Row
from ipfl.data.instructions.rows import Instruction
from ipfl.data.instructions.sets import CODE_ALPACA, FIQA, NWGI, TFNS, instruction, places_of, put, read_set
from ipfl.errors import DataError

THREE = ("negative", "neutral", "positive")
WHERE = "x.jsonl, row 1"


def made(data_set, way="7-way", **fields):
    return instruction(data_set, Row(WHERE, fields), way, category=1)


def refusal(data_set, way="7-way", **fields):
    with pytest.raises(DataError) as error:
        made(data_set, way, **fields)
    assert str(error.value).startswith(WHERE)
    return str(error.value)


# ---------------------------------------------------------------- FIQA


@pytest.mark.parametrize(
    ("score", "answer"),
    [
        (-0.9, "negative"),
        (-0.100001, "negative"),
        (-0.1, "neutral"),
        (0, "neutral"),
        (0.099999, "neutral"),
        (0.1, "positive"),
        (1, "positive"),
    ],
)
def test_fiqa_scores_become_three_answers(score, answer):
    row = made(FIQA, sentence="AB falls", sentiment_score=score, format="headline")
    assert row == Instruction(
        "What is the sentiment of this news? Please choose an answer from {negative/neutral/positive}. AB falls",
        answer,
        THREE,
        1,
        WHERE,
    )


@pytest.mark.parametrize(("form", "kind"), [("post", "tweet"), ("headline", "news"), ("Post", "news")])
def test_fiqa_asks_of_posts_as_tweets(form, kind):
    row = made(FIQA, sentence="$AB", sentiment_score=0.5, format=form)
    assert row.instruction == (
        f"What is the sentiment of this {kind}? Please choose an answer from {{negative/neutral/positive}}. $AB"
    )


def test_fiqa_rows_that_cannot_be_used():
    assert "has no field 'sentiment_score' (the nearest is 'sentiment')" in refusal(FIQA, sentiment=1)
    assert "field 'sentiment_score' is text: expected a number" in refusal(FIQA, sentiment_score="0.5")
    assert "has no field 'format'" in refusal(FIQA, sentence="x", sentiment_score=0.5)
    assert "field 'sentence' is a number" in refusal(FIQA, sentence=3, sentiment_score=0.5, format="post")


# ---------------------------------------------------------------- TFNS


@pytest.mark.parametrize(("label", "answer"), [(0, "negative"), (1, "positive"), (2, "neutral")])
def test_tfns_labels_are_bearish_bullish_neutral(label, answer):
    assert made(TFNS, text="$CD", label=label) == Instruction(
        "What is the sentiment of this tweet? Please choose an answer from {negative/neutral/positive}. $CD",
        answer,
        THREE,
        1,
        WHERE,
    )


def test_tfns_labels_that_are_none():
    expected = "expected 0 (negative), 1 (positive), 2 (neutral)"
    assert f"field 'label' is 3: {expected}" in refusal(TFNS, text="x", label=3)
    assert f"field 'label' is 0.5: {expected}" in refusal(TFNS, text="x", label=0.5)
    assert "field 'label' is text" in refusal(TFNS, text="x", label="0")
    assert "has no field 'text'" in refusal(TFNS, tweet="x", label=0)


# ---------------------------------------------------------------- NWGI


@pytest.mark.parametrize("label", DEGREES)
def test_nwgi_keeps_its_seven_answers(label):
    assert made(NWGI, news="All well.", label=label) == Instruction(
        "What is the sentiment of this news? Please choose an answer from {strong negative/moderately negative/"
        "mildly negative/neutral/mildly positive/moderately positive/strong positive}. All well.",
        label,
        DEGREES,
        1,
        WHERE,
    )


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("strong negative", "negative"),
        ("moderately negative", "negative"),
        ("mildly negative", "neutral"),
        ("neutral", "neutral"),
        ("mildly positive", "neutral"),
        ("moderately positive", "positive"),
        ("strong positive", "positive"),
    ],
)
def test_nwgi_may_have_three_answers(label, answer):
    assert made(NWGI, "3-way", news="All well.", label=label) == Instruction(
        "What is the sentiment of this news? Please choose an answer from {negative/neutral/positive}. All well.",
        answer,
        THREE,
        1,
        WHERE,
    )


@pytest.mark.parametrize("way", ["7-way", "3-way"])
def test_nwgi_labels_that_are_none(way):
    assert "field 'label' is 'very bad': expected one of strong negative, moderately" in refusal(
        NWGI, way, news="x", label="very bad"
    )


# ---------------------------------------------------------------- CodeAlpaca


def test_code_is_taken_as_it_is():
    row = made(CODE_ALPACA, instruction="Add.", input="x, y", output="x + y")
    assert row == Instruction("Add. x, y", "x + y", (), 1, WHERE)
    assert made(CODE_ALPACA, instruction="Add.", input="", output="1").instruction == "Add."
    assert made(CODE_ALPACA, instruction="Add.", output="1").instruction == "Add."


def test_code_that_cannot_be_used():
    assert "has no field 'output' (it has 'instruction')" in refusal(CODE_ALPACA, instruction="x")
    assert "has no field 'instruction' (the nearest is 'instructions')" in refusal(
        CODE_ALPACA, instructions="x", output="y"
    )


# ---------------------------------------------------------------- rows that are prepared already


@pytest.mark.parametrize(
    ("data_set", "way", "answers"),
    [(FIQA, "7-way", THREE), (TFNS, "3-way", THREE), (NWGI, "7-way", DEGREES), (NWGI, "3-way", THREE)],
)
def test_prepared_rows_are_taken_for_every_set(data_set, way, answers):
    for fields in prepared_rows(7, answers):
        row = made(data_set, way, **fields)
        assert row.instruction == f"{fields['instruction']} {fields['input']}"
        assert (row.response, row.choices, row.category) == (fields["output"], answers, 1)


def test_a_prepared_answer_has_to_be_one_of_those_there_are():
    fields = {"instruction": "What?", "output": "bullish"}
    assert refusal(FIQA, **fields).endswith(
        "field 'output' is 'bullish': expected one of negative, neutral, positive; correct it, or take the row out"
    )
    assert refusal(NWGI, "3-way", instruction="What?", output="strong positive").endswith(
        'expected one of negative, neutral, positive; set task_settings.nwgi = "7-way"'
    )
    assert refusal(NWGI, "7-way", instruction="What?", output="negative").endswith(
        'mildly positive, moderately positive, strong positive; set task_settings.nwgi = "3-way"'
    )


# ---------------------------------------------------------------- where sets are


@pytest.mark.parametrize("names", [["fiqa.jsonl"], ["fiqa.parquet"], ["fiqa/a.jsonl"], ["fiqa/d/a.parquet"]])
def test_a_set_is_a_file_or_a_folder(tmp_path, names):
    for name in names:
        write_rows(tmp_path / name, fiqa_rows(5))
    rows = read_set(FIQA, tmp_path, category=2)
    assert [row.instruction.split("}. ")[1] for row in rows] == [row["sentence"] for row in fiqa_rows(5)]
    assert rows[4].where == f"{names[0]}, row 5"
    assert {row.category for row in rows} == {2}


def test_a_set_that_is_not_there_or_there_twice(tmp_path):
    with pytest.raises(DataError) as error:
        read_set(TFNS, tmp_path)
    assert str(error.value) == f"TFNS is not there: {put(TFNS, tmp_path)}"
    assert put(TFNS, tmp_path) == (
        f"put TFNS (zeroshot/twitter-financial-news-sentiment on the Hugging Face hub) into {tmp_path} as tfns.jsonl "
        "or tfns.parquet, or as a folder tfns of such files"
    )
    write_rows(tmp_path / "tfns.jsonl", tfns_rows(3))
    write_rows(tmp_path / "tfns" / "train.jsonl", tfns_rows(3))
    assert [place.name for place in places_of(TFNS, tmp_path)] == ["tfns", "tfns.jsonl"]
    with pytest.raises(DataError, match=r"TFNS is there as tfns and as tfns\.jsonl in .*: take one of them"):
        read_set(TFNS, tmp_path)


def test_rows_without_a_response_are_passed_over(tmp_path):
    rows = [{"instruction": f"{n}", "input": "", "output": " " * (n % 2) or "x"} for n in range(4)]
    write_rows(tmp_path / "codealpaca.jsonl", rows)
    assert [row.instruction for row in read_set(CODE_ALPACA, tmp_path)] == ["0", "2"]

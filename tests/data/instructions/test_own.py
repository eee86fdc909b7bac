"""A folder of one's own instructions: what is read, how it is split and counted, what is refused."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import instruction_files as files
from ipfl.data.instructions.own import load_instruction_folder
from ipfl.errors import ConfigError, DataError


def refusal(folder):
    with pytest.raises(DataError) as error:
        load_instruction_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def rows_of(entry):
    return [row for split in entry.splits().values() for row in split.rows]


def wheres(split):
    return {row.where for row in split.rows}


# ---------------------------------------------------------------- what is read


def test_participants_are_the_files_in_the_order_of_their_names(tmp_path):
    files.write_rows(tmp_path / "b.jsonl", files.own_rows(10))
    files.write_rows(tmp_path / "a.parquet", files.own_rows(20))
    files.write_rows(tmp_path / "C.JSONL", files.own_rows(6))
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "my.toml").write_text("")
    (tmp_path / ".hidden.jsonl").write_text("x")
    files.write_rows(tmp_path / "inside" / "d.jsonl", files.own_rows(6))
    task = load_instruction_folder(str(tmp_path))
    assert task.name == "folder"
    assert [entry.participant_id for entry in task.participants] == ["C", "a", "b"]
    assert [(len(entry.train), len(entry.test)) for entry in task.participants] == [(4, 2), (14, 6), (7, 3)]
    assert all(entry.validation is None for entry in task.participants)


@pytest.mark.parametrize(
    ("fields", "instruction", "response"),
    [
        ({"instruction": "Why?", "response": "So."}, "Why?", "So."),
        ({"instruction": "Why?", "output": "So."}, "Why?", "So."),
        ({"instruction": "Why?", "input": "Now.", "output": "So."}, "Why? Now.", "So."),
        ({"instruction": "Why?", "input": "", "response": "So.", "output": "Else."}, "Why?", "So."),
        ({"instruction": "Why?", "input": None, "response": None, "output": "So."}, "Why?", "So."),
    ],
)
def test_fields_of_a_row(tmp_path, fields, instruction, response):
    for name in "ab":
        files.write_rows(tmp_path / f"{name}.jsonl", [fields] * 3)
    row = load_instruction_folder(tmp_path).participants[0].train.rows[0]
    assert (row.instruction, row.response) == (instruction, response)
    assert row.where.startswith("a.jsonl, row ")


def test_few_answers_are_the_classes_and_the_choices(tmp_path):
    files.write_rows(tmp_path / "a.jsonl", files.own_rows(10, ("yes", "no")))
    files.write_rows(tmp_path / "b.jsonl", files.own_rows(10, ("perhaps",)))
    task = load_instruction_folder(tmp_path)
    assert task.class_names == ("no", "perhaps", "yes")
    for entry in task.participants:
        for row in rows_of(entry):
            assert row.choices == task.class_names
            assert task.class_names[row.category] == row.response


def test_choices_of_a_row_win(tmp_path):
    rows = [row | {"choices": ["yes", "no", "dunno"]} for row in files.own_rows(10)]
    files.write_rows(tmp_path / "a.jsonl", rows)
    files.write_rows(
        tmp_path / "b.parquet", [row | {"choices": None} for row in files.own_rows(9)] + rows[:1]
    )
    task = load_instruction_folder(tmp_path)
    assert {row.choices for row in rows_of(task.participants[0])} == {("yes", "no", "dunno")}
    assert {row.choices for row in rows_of(task.participants[1])} == {("no", "yes"), ("yes", "no", "dunno")}


@pytest.mark.parametrize(
    ("answers", "count", "free"), [(20, 40, False), (21, 60, True), (10, 20, False), (10, 18, True)]
)
def test_many_answers_are_free_text(tmp_path, answers, count, free):
    names = [f"answer {number:02d}" for number in range(answers)]
    files.write_rows(tmp_path / "a.jsonl", files.own_rows(count // 2, names))
    files.write_rows(tmp_path / "b.jsonl", files.own_rows(count // 2, names, first=count // 2))
    task = load_instruction_folder(tmp_path)
    assert task.class_names == (("text",) if free else tuple(names))
    assert {row.choices for row in rows_of(task.participants[0])} == {() if free else tuple(names)}
    if free:
        assert set(task.participants[0].train.y) == {0}


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(st.integers(2, 12), min_size=2, max_size=4),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_every_row_is_in_exactly_one_split(counts, fraction, seed):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, count in enumerate(counts):
            files.write_rows(folder / f"p{place}.jsonl", files.own_rows(count, first=100 * place))
        task = load_instruction_folder(folder, fraction, seed)
        for place, (entry, count) in enumerate(zip(task.participants, counts, strict=True)):
            train, test = wheres(entry.train), wheres(entry.test)
            assert train
            assert test
            assert not train & test
            assert train | test == {f"p{place}.jsonl, row {row}" for row in range(1, count + 1)}
            assert abs(len(test) - fraction * count) <= 1
        # another's rows decide nothing of mine
        files.write_rows(folder / "p1.jsonl", files.own_rows(30, ("a", "b"), first=900))
        again = load_instruction_folder(folder, fraction, seed).participants[0]
        assert (wheres(again.train), wheres(again.test)) == (
            wheres(task.participants[0].train),
            wheres(task.participants[0].test),
        )


def test_the_seed_decides_the_split(tmp_path):
    files.own(tmp_path)
    fingerprints = [load_instruction_folder(tmp_path, seed=seed).fingerprint() for seed in (1, 1, 2)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


# ---------------------------------------------------------------- what is refused


def test_folders_and_names_are_checked_as_for_tables(tmp_path):
    assert "nowhere does not exist: give a folder with one .jsonl or .parquet file per" in refusal(
        tmp_path / "nowhere"
    )
    assert "has no data file: a market needs at least 2 participants" in refusal(tmp_path)
    files.write_rows(tmp_path / "a.jsonl", files.own_rows(4))
    assert "has only a.jsonl: a market needs" in refusal(tmp_path)
    files.write_rows(tmp_path / "A.parquet", files.own_rows(4))
    assert "both name participant" in refusal(tmp_path)
    (tmp_path / "A.parquet").rename(tmp_path / "b c.parquet")
    assert "b c.parquet: its name without the ending is the participant's id and must be" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["c.csv", "c.npz", "c.json", "c.xlsx", "c.tsv", "c.gz"])
def test_other_formats_are_not_left_out_silently(tmp_path, name):
    files.own(tmp_path)
    (tmp_path / name).write_text("x")
    assert refusal(tmp_path) == (
        f"data folder {tmp_path}: {name} is in a format that is not read here; convert it to .jsonl or .parquet, "
        "or take it out"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": "x", "response": "y"}], "b.jsonl has 1 row, fewer than the 2 needed to train and test"),
        ([{"instrution": "x", "response": "y"}] * 2, "row 1 has no field 'instruction' (the nearest is 'instrution')"),
        ([{"instruction": "x", "answer": "y"}] * 2, "row 1 has no field 'response' (it has 'instruction', 'answer')"),
        ([{"instruction": "x", "output": 3}] * 2, "b.jsonl, row 1, field 'output' is a number: expected text"),
        ([{"instruction": "x", "response": None}] * 2, "field 'response' is missing (null): expected text"),
        ([{"instruction": "x", "response": "y", "input": 3}] * 2, "field 'input' is a number: expected text"),
        ([{"instruction": "x", "response": "y", "choices": "y"}] * 2, "field 'choices' is text: expected a list"),
        ([{"instruction": "x", "response": "y", "choices": ["z"]}] * 2, "the response 'y' is none of the choices z"),
        ([{"instruction": " ", "response": "y"}] * 2, "the instruction is empty; fill it, or take the row out"),
        ([{"instruction": "x", "response": ""}] * 2, "the response is empty; fill it, or take the row out"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_named(tmp_path, rows, message):
    files.own(tmp_path, "a")
    files.write_rows(tmp_path / "b.jsonl", rows)
    said = refusal(tmp_path)
    assert message in said
    assert said.startswith("b.jsonl")


def test_a_split_out_of_range(tmp_path):
    files.own(tmp_path)
    with pytest.raises(ConfigError, match=r"test_fraction = 1\.0: expected a number between 0 and 1"):
        load_instruction_folder(tmp_path, 1.0)
    with pytest.raises(ConfigError, match="seed = -1"):
        load_instruction_folder(tmp_path, seed=-1)

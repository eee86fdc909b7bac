"""Rows of .jsonl and .parquet files: what is read, and what is refused in which words."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruction_files import write_rows
from ipfl.data.instructions.reading import Row, files_in, read_rows
from ipfl.errors import DataError

ROWS = [{"instruction": "Why?", "response": "Because."}, {"instruction": "Wo? Ä\u2028ß", "response": "Da."}]


def refusal(call, *arguments):
    """The message, checked to be one line."""
    with pytest.raises(DataError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "A.JSONL", "A.Parquet"])
def test_both_formats_give_the_same_rows_and_numbers(tmp_path, name):
    rows = read_rows(write_rows(tmp_path / name, ROWS))
    assert [dict(row.fields) for row in rows] == ROWS
    assert [row.where for row in rows] == [f"{name}, row 1", f"{name}, row 2"]


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=8)), min_size=1, max_size=5),
    blanks=st.lists(st.sampled_from(["", " ", "\r"]), min_size=6, max_size=6),
)
def test_blank_lines_change_neither_rows_nor_numbers(tmp_path_factory, rows, blanks):
    path = tmp_path_factory.mktemp("blank") / "a.jsonl"
    lines = [json.dumps(row, ensure_ascii=bool(number % 2)) for number, row in enumerate(rows)]
    path.write_text("\n".join(f"{blank}\n{line}" for blank, line in zip(blanks, lines, strict=False)))
    assert [(row.where, dict(row.fields)) for row in read_rows(path)] == [
        (f"a.jsonl, row {number}", row) for number, row in enumerate(rows, start=1)
    ]


def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "1"}\r\n\r\n{"a": "2"}')
    assert [row.fields["a"] for row in read_rows(tmp_path / "a.jsonl")] == ["1", "2"]


def test_a_folder_is_read_in_order_with_its_folders_and_without_hidden_files(tmp_path):
    folder = tmp_path / "fiqa"
    for name in ("b.jsonl", "data/train-0.parquet", ".cache/x.jsonl", ".a.jsonl", "data/.y/z.jsonl"):
        write_rows(folder / name, [{"from": name}])
    (folder / "README.md").write_text("notes")
    (folder / "c.jsonl").mkdir()
    assert [row.where for row in read_rows(folder)] == [
        "fiqa/b.jsonl, row 1",
        "fiqa/data/train-0.parquet, row 1",
    ]
    assert [path.name for path in files_in(folder)] == ["b.jsonl", "train-0.parquet"]


# ---------------------------------------------------------------- files that are refused


def test_no_file_no_folder_and_another_format(tmp_path):
    message = refusal(read_rows, tmp_path / "a.jsonl")
    assert message == f"there is no file {tmp_path / 'a.jsonl'}: put it there, as .jsonl or .parquet"
    (tmp_path / "fiqa").mkdir()
    (tmp_path / "fiqa" / "a.csv").write_text("x")
    assert "has no .jsonl or .parquet file: put one there" in refusal(read_rows, tmp_path / "fiqa")
    assert refusal(read_rows, tmp_path / "fiqa" / "a.csv").startswith("a.csv is in a format that is not read")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    assert refusal(read_rows, tmp_path / "a.jsonl") == "a.jsonl is empty: add rows, or take the file out"


def test_an_empty_table(tmp_path):
    pa.parquet.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert "a.parquet is empty" in refusal(read_rows, tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'a': 1}", "is not JSON (expecting property name enclosed in double quotes, at its character 2)"),
        ('{"a": "x', "is not JSON (unterminated string starting at, at its character 7)"),
        ("plain text", "is not JSON (expecting value, at its character 1): write one JSON object a line"),
        ("[" * 100_000, "is not JSON (it is nested too deeply)"),
        ("1" * 10_000, "is not JSON (Exceeds the limit"),
        ('["a"]', "is a list, not an object: write one JSON object a line, with named fields"),
        ('"a"', "is text, not an object"),
        ("3", "is a number, not an object"),
        ("null", "is missing (null), not an object"),
        ("true", "is true or false, not an object"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(f'\n{{"a": "1"}}\n\n{line}\n')
    assert refusal(read_rows, tmp_path / "a.jsonl").startswith(f"a.jsonl, row 2 {message}")


def test_text_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "1"}\n{"a": "\xe9"}\n')
    assert refusal(read_rows, tmp_path / "a.jsonl") == (
        "a.jsonl, row 2 is not UTF-8 text: save the file in UTF-8"
    )


def test_damaged_parquet_is_named_with_its_folder(tmp_path):
    path = write_rows(tmp_path / "fiqa" / "a.parquet", ROWS)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:-20], whole[: len(whole) // 2] + bytes(8) + whole[-100:]):
        path.write_bytes(content)
        assert refusal(read_rows, tmp_path / "fiqa").startswith("fiqa/a.parquet cannot be read as Parquet: ")


def test_parquet_with_double_columns_or_values_that_no_text_can_be(tmp_path):
    pa.parquet.write_table(pa.Table.from_arrays([["x"], ["y"]], ["a", "a"]), tmp_path / "a.parquet")
    assert "a.parquet has more than one column 'a'" in refusal(read_rows, tmp_path / "a.parquet")
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    pa.parquet.write_table(pa.table({"a": bad}), tmp_path / "a.parquet")
    assert "a.parquet holds values that cannot be read ('utf-8'" in refusal(read_rows, tmp_path / "a.parquet")


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "a.jsonl", ROWS)

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", fail)
    assert refusal(read_rows, path) == "a.jsonl cannot be read: Permission denied"


# ---------------------------------------------------------------- fields


def row(**fields):
    return Row("a.jsonl, row 3", fields)


def test_fields_of_the_right_type():
    assert row(a="x").text("a") == "x"
    assert (row(a=None).text_or_none("a"), row().text_or_none("a"), row(a="x").text_or_none("a")) == (
        "",
        "",
        "x",
    )
    assert (row(a=2).number("a"), row(a=-0.5).number("a")) == (2.0, -0.5)
    assert (row(a=["x", "y"]).texts("a"), row(a=None).texts("a"), row().texts("a")) == (("x", "y"), (), ())
    assert [row(**fields).has("a") for fields in ({"a": ""}, {"a": None}, {})] == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a.jsonl, row 3 has no field 'response' (it has none): add it, or take the row out"),
        ({"Response ": "x"}, "has no field 'response' (the nearest is 'Response '): "),
        ({"a": "x", "b": "y"}, "has no field 'response' (it has 'a', 'b'): "),
        ({"response": 3}, "a.jsonl, row 3, field 'response' is a number: expected text"),
        ({"response": None}, "field 'response' is missing (null): expected text"),
        ({"response": True}, "field 'response' is true or false: expected text"),
        ({"response": ["x"]}, "field 'response' is a list: expected text"),
        ({"response": {}}, "field 'response' is an object: expected text"),
        ({"response": b"x"}, "field 'response' is bytes: expected text"),
        ({"response": ("x",)}, "field 'response' is of type tuple: expected text"),
        ({"response": "\ud800"}, "field 'response' holds half of a character (a lone surrogate)"),
    ],
)
def test_texts_that_are_not_there_or_no_text(fields, message):
    assert message in refusal(row(**fields).text, "response")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3", "field 'score' is text: expected a number"),
        (True, "field 'score' is true or false: expected a number"),
        (None, "field 'score' is missing (null): expected a number"),
        (float("nan"), "field 'score': nan is no finite number"),
        (float("inf"), "field 'score': inf is no finite number"),
        (10**400, "field 'score': 1000000"),
    ],
)
def test_numbers_that_are_none(value, message):
    assert message in refusal(row(score=value).number, "score")
    assert "has no field 'score'" in refusal(row(scores=1).number, "score")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yes, no", "field 'choices' is text: expected a list of texts"),
        (["yes", 3], "field 'choices' is a number: expected text"),
        (["yes", "no", "yes"], "field 'choices': 'yes' stands twice; name every text once"),
    ],
)
def test_lists_that_are_none(value, message):
    assert message in refusal(row(choices=value).texts, "choices")
    assert "field 'input' is a number: expected text" in refusal(row(input=3).text_or_none, "input")

"""Folders of one's own files: what is read, what is shared, what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from ipfl.config import Config
from ipfl.data import load_folder, load_task
from ipfl.errors import ConfigError, DataError

IMAGES = np.random.default_rng(1).integers(0, 256, (8, 5, 4), dtype=np.uint8)
Y = np.arange(8) % 2


def sentence(error):
    """The message, checked to be one line."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


@pytest.fixture
def refused(tmp_path, table, write):
    """refused(file name, columns) -> message of loading it beside a sound file of the same kind."""

    def message(name, columns, **options):
        if name.endswith(".npz"):
            write("a.npz", {"x": IMAGES, "y": Y})
        else:
            write("a.csv", table)
        if columns is not None:
            write(name, columns, **options)
        with pytest.raises(DataError) as error:
            load_folder(tmp_path)
        return sentence(error)

    return message


# ---------------------------------------------------------------- what is read


def test_csv_and_parquet_of_the_same_rows_give_the_same_data(tmp_path, table, write):
    write("a.csv", table)
    write("b.parquet", table)
    task = load_folder(tmp_path)
    assert [participant.participant_id for participant in task.participants] == ["a", "b"]
    assert (task.name, task.input_shape, task.class_names) == ("folder", (2,), ("sick", "well"))
    a, b = task.participants
    together = [np.concatenate([p.train.x[:, 0] * 0 + p.train.y, p.test.y]) for p in (a, b)]
    assert [len(p.train) for p in (a, b)] == [7, 7]
    assert np.array_equal(np.sort(together[0]), np.sort(together[1]))


def test_columns_are_aligned_by_name_to_the_first_file(tmp_path, table, write):
    write("a.csv", table)
    write("b.csv", table)
    straight = load_folder(tmp_path).participants[1]
    write("b.csv", {name: table[name] for name in ("label", "dose", "age")})
    turned = load_folder(tmp_path).participants[1]
    assert np.array_equal(straight.train.x, turned.train.x)
    assert np.array_equal(straight.test.x, turned.test.x)


def test_another_participants_values_change_nothing_of_mine(tmp_path, table, write):
    write("a.csv", table)
    write("b.csv", table)
    before = load_folder(tmp_path).participants[0]
    write("b.csv", {**table, "age": [1000 * age for age in table["age"]]})
    after = load_folder(tmp_path).participants[0]
    assert np.array_equal(before.train.x, after.train.x)
    assert np.array_equal(before.test.x, after.test.x)


def test_statistics_come_from_training_rows_only(tmp_path, table, write):
    write("a.csv", table)
    write("b.csv", table)
    for participant in load_folder(tmp_path).participants:
        assert np.allclose(participant.train.x.mean(axis=0), 0, atol=1e-5)
        assert np.allclose(participant.train.x.std(axis=0), 1, atol=1e-5)


def test_a_constant_feature_becomes_0(tmp_path, table, write):
    write("a.csv", {**table, "age": [70] * 10})
    write("b.csv", table)
    a, b = load_folder(tmp_path).participants
    assert not a.train.x[:, 0].any()
    assert b.train.x[:, 0].any()


def test_the_seed_decides_the_split_and_nothing_else_does(tmp_path, table, write):
    write("b.csv", table)
    write("a.csv", table)
    first = load_folder(tmp_path, seed=1)
    assert load_folder(str(tmp_path), seed=1).fingerprint() == first.fingerprint()
    assert load_folder(tmp_path, seed=2).fingerprint() != first.fingerprint()


def test_classes_are_the_union_over_files_in_numeric_order(tmp_path, table, write):
    write("a.csv", {**table, "label": [10, 9] * 5})
    write("b.parquet", {**table, "label": [1.0, 10.0] * 5})
    task = load_folder(tmp_path)
    assert task.class_names == ("1", "9", "10")
    assert sorted(set(task.participants[1].train.y.tolist())) == [0, 2]


@pytest.mark.parametrize(
    ("in_csv", "in_parquet", "names"),
    [
        (["True", "false"], [True, False], ("False", "True")),
        ([0, 1], [0, 1], ("0", "1")),
        (["01", "1"], ["1", "01"], ("01", "1")),
        ([" sick", "well "], ["sick", "well"], ("sick", "well")),
        (["1.5", "high"], ["1.5", "high"], ("1.5", "high")),
    ],
)
def test_labels_of_any_kind_name_the_same_classes(tmp_path, table, write, in_csv, in_parquet, names):
    write("a.csv", {**table, "label": in_csv * 5})
    write("b.parquet", {**table, "label": in_parquet * 5})
    assert load_folder(tmp_path).class_names == names


def test_categories_booleans_and_decimals_of_parquet_are_read(tmp_path, table, write):
    columns = {
        "age": pa.array(table["age"]).cast(pa.decimal128(21, 2)),
        "dose": pa.array([True, False] * 5),
        "label": pa.array(table["label"]).dictionary_encode(),
    }
    write("a.parquet", columns)
    write("b.parquet", columns)
    assert load_folder(tmp_path).class_names == ("sick", "well")


def test_label_column_may_have_another_name(tmp_path, table, write):
    columns = {"outcome" if name == "label" else name: values for name, values in table.items()}
    write("a.csv", columns)
    write("b.csv", columns)
    assert load_folder(tmp_path, label="outcome").class_names == ("sick", "well")
    assert load_task(Config(data=str(tmp_path), label="outcome")).input_shape == (2,)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_tabs_quotes_and_byte_order_marks_are_read(tmp_path, table, write, delimiter):
    table["age, in years"] = table.pop("age")
    write("b.csv", table)
    path = write("a.csv", table, delimiter=delimiter, quoting=1)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_folder(tmp_path).input_shape == (2,)


def test_endings_in_capitals_are_read_and_other_files_left_alone(tmp_path, table, write):
    for name in ("a.csv", "b.csv"):
        write(name, table).rename(tmp_path / name.replace("csv", "CSV"))
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / ".hidden.csv").write_text("x")
    (tmp_path / "c.csv").mkdir()
    assert [participant.participant_id for participant in load_folder(tmp_path).participants] == ["a", "b"]


def test_images_are_scaled_by_their_range_not_by_their_values(tmp_path, write):
    write("a.npz", {"x": IMAGES, "y": Y})
    write("b.npz", {"x": IMAGES[:, None], "y": Y.astype(bool).astype(int)})
    task = load_folder(tmp_path)
    assert task.input_shape == (1, 5, 4)
    a = task.participants[0]
    pixels = np.concatenate([a.train.x, a.test.x])
    assert np.isclose(pixels.min(), IMAGES.min() / 127.5 - 1)
    assert np.isclose(pixels.max(), IMAGES.max() / 127.5 - 1)


def test_float_images_are_taken_as_they_are(tmp_path, write):
    x = IMAGES[:, None].repeat(3, axis=1) / 10.0
    write("a.npz", {"x": x, "y": Y})
    write("b.npz", {"x": x.astype(np.float32), "y": Y})
    task = load_folder(tmp_path)
    assert task.input_shape == (3, 5, 4)
    assert np.isclose(max(task.participants[0].train.x.max(), task.participants[0].test.x.max()), x.max())


def test_vectors_are_standardised_like_tables(tmp_path, table, write):
    x = np.array([table["age"], table["dose"]]).T
    for name in "ab":
        write(f"{name}.csv", table)
    from_tables = load_folder(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.csv").unlink()
        write(f"{name}.npz", {"x": x, "y": np.array(table["label"])})
    assert load_folder(tmp_path).fingerprint() == from_tables.fingerprint()


# ------------------------------------------------------------- what is refused


@pytest.mark.parametrize("value", [0, 1, -0.5, float("nan")])
def test_test_fraction_out_of_range(tmp_path, value):
    with pytest.raises(ConfigError, match="expected a number between 0 and 1"):
        load_folder(tmp_path, test_fraction=float(value))


def test_negative_seed(tmp_path):
    with pytest.raises(ConfigError, match="seed = -1"):
        load_folder(tmp_path, seed=-1)


def test_folder_missing_or_a_file(tmp_path, table, write):
    with pytest.raises(DataError, match="nowhere does not exist: give a folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"a\.csv is a file: give a folder"):
        load_folder(write("a.csv", table))


def test_folder_unreadable(tmp_path, monkeypatch):
    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", fail)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_folder(tmp_path)


def test_no_file_and_one_file(tmp_path, table, write):
    with pytest.raises(DataError, match="has no data file: a market needs at least 2"):
        load_folder(tmp_path)
    write("a.csv", table)
    with pytest.raises(DataError, match=r"has only a\.csv: a market needs at least 2"):
        load_folder(tmp_path)


def test_a_format_not_read_is_not_left_out_silently(refused, tmp_path):
    (tmp_path / "c.xlsx").write_text("x")
    assert "c.xlsx is in a format that is not read here" in refused("b.csv", {"x": [1]})


def test_tables_beside_arrays(refused, write):
    write("c.npz", {"x": IMAGES, "y": Y})
    assert "c.npz holds arrays and a.csv a table" in refused("b.csv", {"x": [1]})


@pytest.mark.parametrize("name", ["hospital 1.csv", "Zürich.csv", "x" * 65 + ".csv"])
def test_forbidden_characters_in_a_name(refused, table, name):
    message = refused(name, table)
    assert name in message
    assert "A-Z a-z 0-9 . _ -" in message


@pytest.mark.parametrize("name", ["a.parquet", "A.csv"])
def test_two_files_of_one_participant(refused, table, name):
    assert "both name participant" in refused(name, table)


def test_too_few_rows_and_none(refused, table):
    short = {name: values[:3] for name, values in table.items()}
    assert "b.csv has 3 row(s) of data, fewer than the 4" in refused("b.csv", short)
    assert "b.csv has a header but no rows" in refused("b.csv", {name: [] for name in table})


def test_no_rows_in_parquet(refused, table):
    empty = {name: [] for name in table}
    assert "b.parquet has a header but no rows" in refused("b.parquet", empty)


def test_empty_file(refused, tmp_path):
    (tmp_path / "b.csv").write_bytes(b"")
    assert "b.csv is empty: add a header and rows" in refused("b.csv", None)


def test_one_class_only(refused, table):
    assert "b.csv has one class only, 'sick'" in refused("b.csv", {**table, "label": ["sick"] * 10})


def test_missing_and_infinite_values_name_row_and_column(refused, table):
    for value, what in ((None, "missing"), ("nan", "missing"), ("inf", "infinite")):
        dose = [*table["dose"][:2], value, value, *table["dose"][4:]]
        message = refused("b.csv", {**table, "dose": dose})
        assert (
            f"b.csv, row 3, column 'dose': the value is {what} (2 missing or infinite value(s) in 2 row(s)"
            in message
        )
    assert "row 1, column 'dose': the value is missing (10" in refused(
        "b.csv", {**table, "dose": [None] * 10}
    )


def test_missing_values_in_parquet(refused, table):
    columns = {**table, "age": [None, *table["age"][1:]]}
    assert "b.parquet, row 1, column 'age': the value is missing" in refused("b.parquet", columns)


@pytest.mark.parametrize("name", ["b.csv", "b.parquet"])
@pytest.mark.parametrize("missing", [None, " ", "NaN"])
def test_missing_labels_name_their_row(refused, table, name, missing):
    labels = [*table["label"][:4], missing, *table["label"][5:]]
    message = refused(name, {**table, "label": labels})
    assert f"{name}, column 'label', row 5: the label is missing (1 of 10 rows lack one)" in message


def test_label_column_missing_names_the_nearest(refused, table):
    columns = {"Labels" if name == "label" else name: values for name, values in table.items()}
    assert "b.csv has no label column 'label' (the nearest is 'Labels')" in refused("b.csv", columns)
    columns = {f"x{name}q{index}": table["age"] for index, name in enumerate("abcdefg")}
    assert "(it has 'xaq0', 'xbq1', 'xcq2', 'xdq3', 'xeq4' and 2 more)" in refused("b.csv", columns)


def test_only_a_label_column(refused, table):
    assert "b.csv has no column beside 'label'" in refused("b.csv", {"label": table["label"]})


def test_differing_columns_are_named(refused, table):
    columns = {"agee" if name == "age" else name: values for name, values in table.items()}
    message = refused("b.csv", columns)
    assert "b.csv does not have the columns of a.csv: it lacks 'age' and has 'agee' besides" in message
    extra = {**table, **{f"f{index}": table["age"] for index in range(7)}}
    assert "it has 'f0', 'f1', 'f2', 'f3', 'f4' and 2 more besides" in refused("b.csv", extra)


def test_double_and_nameless_columns(refused, tmp_path):
    (tmp_path / "b.csv").write_text("x,x,label\n1,2,a\n")
    assert "b.csv has 2 columns named 'x'" in refused("b.csv", None)
    for name in ("", "Unnamed: 0", "__index_level_0__"):
        (tmp_path / "b.csv").write_text(f"{name},x,label\n1,2,a\n")
        assert f"b.csv, column 1 ({name!r}) has no name and looks like row numbers" in refused("b.csv", None)


def test_not_numeric_names_the_first_value(refused, table):
    age = [*map(str, table["age"][:3]), "high", "", "low", *map(str, table["age"][6:])]
    message = refused("b.csv", {**table, "age": age})
    assert "b.csv, row 4, column 'age': 'high' is not a number; encode it as numbers" in message
    message = refused("b.csv", {**table, "age": ["", *age[1:]]})
    assert "b.csv, row 4, column 'age': 'high'" in message
    message = refused("b.csv", {**table, "age": ["2020-01-01"] * 10})
    assert "row 1, column 'age': '2020-01-01' is not a number" in message


def test_numbers_stored_as_text_in_parquet(refused, table):
    message = refused("b.parquet", {**table, "age": list(map(str, table["age"]))})
    assert f"b.parquet, row 1, column 'age': '{table['age'][0]}' is not a number" in message


def test_decimal_commas(refused, table):
    dose = [f"{value:.2f}".replace(".", ",") for value in table["dose"]]
    message = refused("b.csv", {**table, "dose": dose}, delimiter=";")
    assert "is not a number; write decimal points instead of commas" in message


def test_rows_of_another_length(refused, tmp_path):
    (tmp_path / "b.csv").write_text("age,dose,label\n1,2,a\n3,4\n")
    assert "b.csv is not a sound CSV table: Expected 3 columns, got 2" in refused("b.csv", None)


def test_text_that_is_not_utf8(refused, tmp_path):
    for content in (
        "age,dose,label\n1,2,é\n".encode("latin-1"),
        "age,dose,label\n1,é,a\n".encode("latin-1"),
        "age,dosé,label\n1,2,a\n".encode("latin-1"),
        "age,dose,label\n1,2,a\n".encode("utf-16"),
    ):
        (tmp_path / "b.csv").write_bytes(content)
        assert "b.csv is not UTF-8 text" in refused("b.csv", None)


def test_csv_that_cannot_be_opened(refused, tmp_path, table, write, monkeypatch):
    write("b.csv", table)
    original = type(tmp_path).open

    def fail(self, *args, **kwargs):
        if self.name == "b.csv":
            raise PermissionError(13, "Permission denied")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(tmp_path), "open", fail)
    assert "b.csv cannot be read: Permission denied" in refused("b.csv", None)


def test_damaged_parquet(refused, tmp_path, table, write):
    path = write("b.parquet", table)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:-20], whole[: len(whole) // 2] + b"\0" * 8 + whole[-100:]):
        path.write_bytes(content)
        assert "b.parquet cannot be read as Parquet" in refused("b.parquet", None)


def test_amounts_and_identifiers_are_no_labels(refused, table, tmp_path, write):
    message = refused("b.csv", {**table, "label": [index + 0.5 for index in range(10)]})
    assert "b.csv, column 'label', row 1: label 0.5 is an amount, not a class" in message
    write("a.csv", {**table, "label": [f"p{index}" for index in range(10)]})
    write("b.csv", {**table, "label": [f"q{index}" for index in range(10)]})
    with pytest.raises(
        DataError, match=r"20 different labels in 20 rows, e\.g\. 'p0': these look like identifiers"
    ):
        load_folder(tmp_path)


def test_labels_of_other_types(refused, table):
    labels = pa.array([0] * 5 + [1] * 5).cast(pa.int32()).cast(pa.date32())
    message = refused("b.parquet", {**table, "label": labels})
    assert "b.parquet, column 'label': label datetime.date(1970, 1, 1) is of type date" in message


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": IMAGES}, "b.npz has no array 'y' (it has: x)"),
        ({}, "b.npz has no array 'x' (it has: none)"),
        ({"x": IMAGES, "y": Y[:-1]}, "x has 8 examples but y has 7 labels"),
        ({"x": np.float64(3), "y": Y}, "x has no examples but y has 8 labels"),
        ({"x": IMAGES, "y": Y[:, None]}, "y has shape (8, 1), expected one label per example"),
        ({"x": IMAGES, "y": Y * 1j}, "y is of type complex128"),
        ({"x": IMAGES, "y": np.array(list(Y), dtype=object)}, "it holds Python objects"),
        ({"x": IMAGES[:0], "y": Y[:0]}, "b.npz has no examples"),
        ({"x": IMAGES[:3], "y": Y[:3]}, "b.npz has 3 row(s) of data"),
        ({"x": IMAGES, "y": 0 * Y}, "b.npz has one class only, '0'"),
        ({"x": IMAGES, "y": Y + np.where(Y, np.nan, 0)}, "b.npz, y, row 2: the label is missing (4 of 8"),
        ({"x": IMAGES[:, :4], "y": Y}, "examples have shape (1, 4, 4), but those of a.npz have (1, 5, 4)"),
        (
            {"x": IMAGES.reshape(8, -1), "y": Y},
            "examples have shape (20,), but those of a.npz have (1, 5, 4)",
        ),
        ({"x": IMAGES / 255, "y": Y}, "images are float64, but those of a.npz are uint8"),
        ({"x": IMAGES.astype(int), "y": Y}, "images are of type int64; store uint8"),
        (
            {"x": np.where(IMAGES[2, 0, 0] == IMAGES, np.inf, IMAGES), "y": Y},
            "the image holds NaN or infinity",
        ),
        ({"x": IMAGES[:, :, :, None].repeat(3, axis=3), "y": Y}, "channels stand last"),
        ({"x": IMAGES[:, :0], "y": Y}, "x has shape (8, 0, 4); expected vectors"),
        ({"x": IMAGES[:, 0, 0], "y": Y}, "x has shape (8,); expected vectors"),
        ({"x": np.zeros((8, 0)), "y": Y}, "x has shape (8, 0), no features"),
        ({"x": np.zeros((8, 2), dtype="U1"), "y": Y}, "x is of type <U1; store numbers"),
        (
            {"x": np.eye(8) / np.eye(8)[::-1].max() + np.where(np.eye(8), np.nan, 0), "y": Y},
            "row 1, column 'x[:, 0]'",
        ),
    ],
)
def test_arrays_that_cannot_be_used(refused, columns, message):
    text = refused("b.npz", columns)
    assert message in text
    assert "b.npz" in text


def test_damaged_npz(refused, tmp_path, write):
    path = write("b.npz", {"x": IMAGES, "y": Y})
    whole = bytearray(path.read_bytes())
    flipped = whole.copy()
    flipped[200] ^= 255
    for content in (b"", b"nonsense", whole[:-30], flipped):
        path.write_bytes(bytes(content))
        assert "b.npz cannot be read: " in refused("b.npz", None)


def test_a_bare_array_named_npz(refused, tmp_path):
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, IMAGES)
    assert "b.npz holds one bare array" in refused("b.npz", None)

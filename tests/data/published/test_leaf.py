"""FEMNIST and Shakespeare in LEAF's JSON."""

import json
import string

import numpy as np
import pytest

import published_files
from ipfl.data.published.leaf import CHARACTERS, FEMNIST, SHAKESPEARE, femnist, inspect_leaf, shakespeare
from ipfl.errors import DataError

PIXELS = [0.5] * 784
TEXT = "x" * 80


def one_file(folder, users, test=None):
    published_files.leaf_file(folder / "train" / "all_data_0_niid_0_keep_0_train_9.json", users)
    published_files.leaf_file(folder / "test" / "all_data_0_niid_0_keep_0_test_9.json", test or users)


# ---------------------------------------------------------------- FEMNIST


def test_femnist_is_grouped_by_writer_over_all_files(tmp_path):
    source = femnist(published_files.femnist(tmp_path, writers=8, each=24))
    assert source.x.shape == (8 * 24, 1, 28, 28)
    assert source.x.dtype == np.float32
    assert source.class_names == tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
    assert source.group_names == source.test.group_names
    assert source.group_names[:2] == ("f0000_00", "f0001_01")
    assert np.bincount(source.groups).tolist() == [24] * 8
    assert np.bincount(source.test.groups).tolist() == [4] * 8


def test_pixels_are_standardised_and_labels_kept(tmp_path):
    one_file(tmp_path, {"w": ([[0.25] + [1.0] * 783, [0.0] * 784], [10, 61])})
    source = femnist(tmp_path)
    assert source.x[0, 0, 0, :2].tolist() == pytest.approx(
        [(0.25 - 0.964) / 0.159, (1 - 0.964) / 0.159], rel=1e-5
    )
    assert [source.class_names[label] for label in source.y] == ["A", "z"]


def test_writers_who_only_test_have_a_group_and_those_without_examples_none(tmp_path):
    one_file(
        tmp_path, {"a": ([PIXELS], [1]), "empty": ([], [])}, {"b": ([PIXELS], [2]), "a": ([PIXELS], [3])}
    )
    source = femnist(tmp_path)
    assert source.group_names == ("a", "b")
    assert source.groups.tolist() == [0]
    assert source.test.groups.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([PIXELS[:-1]], [1], "images are no lists of 784 numbers"),
        ([PIXELS, PIXELS[:3]], [1, 2], "images are no lists of 784 numbers"),
        ([["a"] * 784], [1], "images are no lists of 784 numbers"),
        ([[2.0] * 784], [1], "a pixel is not from 0 to 1"),
        ([[float("nan")] * 784], [1], "a pixel is not from 0 to 1"),
        ([PIXELS], [62], "labels are no whole numbers from 0 to 61"),
        ([PIXELS], [-1], "labels are no whole numbers from 0 to 61"),
        ([PIXELS], [1.5], "labels are no whole numbers from 0 to 61"),
        ([PIXELS], [1, 2], "1 examples x but 2 labels y"),
        ("abc", [1], "expected lists x and y"),
    ],
)
def test_a_malformed_writer_is_named_with_its_file(tmp_path, x, y, message):
    one_file(tmp_path, {"fine": ([PIXELS], [1]), "f12": (x, y)})
    with pytest.raises(DataError) as error:
        femnist(tmp_path)
    assert str(error.value).startswith(f"train/all_data_0_niid_0_keep_0_train_9.json, user 'f12': {message}")


# ---------------------------------------------------------------- Shakespeare


def test_shakespeare_predicts_the_next_character(tmp_path):
    source = shakespeare(published_files.shakespeare(tmp_path, roles=6, each=24))
    assert source.x.shape == (6 * 24, 80)
    assert len(source.class_names) == len(set(source.class_names)) == len(CHARACTERS) == 80
    assert source.class_names[:3] == ("newline", "space", "!")
    assert np.bincount(source.groups).tolist() == [24] * 6
    text = "".join(CHARACTERS[int(index)] for index in source.x[0])
    assert text == published_files.LINES[:80]
    assert CHARACTERS[source.y[0]] == published_files.LINES[80]
    assert np.array_equal(source.x[1, :-1], source.x[0, 1:])


def test_a_character_outside_the_alphabet_counts_as_its_last_one(tmp_path):
    """As in LEAF's own code: str.find gives -1, and -1 is the last."""
    one_file(tmp_path, {"r": (["x" * 79 + "\u00e9", *([TEXT] * 9)], ["\n", "$", *("y" * 8)])})
    source = shakespeare(tmp_path)
    assert source.x[0, 79] == 79
    assert source.y[:2].tolist() == [0, 79]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (["short"], ["a"], "x are no texts of 80 characters"),
        ([PIXELS], ["a"], "x are no texts of 80 characters"),
        ([TEXT], ["ab"], "y are no single characters"),
        ([TEXT], [1], "y are no single characters"),
        (["\u4e00" * 80], ["a"], "100% of its characters are not in LEAF's alphabet"),
        (["\ud800" * 80], ["a"], "100% of its characters"),
    ],
)
def test_malformed_text_is_refused(tmp_path, x, y, message):
    one_file(tmp_path, {"ROLE": (x, y)})
    with pytest.raises(DataError, match=f"user 'ROLE': {message}"):
        shakespeare(tmp_path)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_a_truncated_file_is_refused_by_its_name(tmp_path, share):
    path = published_files.shakespeare(tmp_path) / "test" / "all_data_niid_0_keep_0_test_8.json"
    content = path.read_text()
    path.write_text(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"test/all_data_niid_0_keep_0_test_8.json is damaged"):
        shakespeare(tmp_path)
    assert "is damaged" in inspect_leaf(tmp_path, SHAKESPEARE).damaged[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no file of LEAF's"),
        ('{"users": ["a"]}', "is no file of LEAF's"),
        ('{"users": ["a"], "num_samples": [1], "user_data": {}}', "is no file of LEAF's"),
        ('{"users": ["a"], "num_samples": [], "user_data": {}}', "is damaged"),
        ("[" * 100_000, "is damaged"),
        (
            json.dumps({"users": ["a"], "num_samples": [2], "user_data": {"a": {"x": [TEXT], "y": ["a"]}}}),
            "user 'a': num_samples says 2, but there are 1 labels",
        ),
        (json.dumps({"users": ["a"], "num_samples": [1], "user_data": {"a": []}}), "expected lists x and y"),
        ('{"users": [], "num_samples": [], "user_data": {}}', "has no examples"),
    ],
)
def test_json_of_another_kind_is_refused(tmp_path, content, message):
    one_file(tmp_path, {"a": ([TEXT], ["b"])})
    (tmp_path / "train" / "all_data_0_niid_0_keep_0_train_9.json").write_text(content)
    with pytest.raises(DataError, match=f"train.*{message}"):
        shakespeare(tmp_path)


def test_what_is_lacking_is_said_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(DataError) as error:
        femnist(tmp_path)
    assert str(error.value) == (
        f"task femnist: its files are not in {tmp_path}; put the folders train and test of .json files that LEAF "
        f"writes into {tmp_path}: clone https://github.com/TalwalkarLab/leaf, run `./preprocess.sh -s niid --sf 0.1 "
        "-k 64 -t sample` in data/femnist/, and take them from data/femnist/data/"
    )
    published_files.femnist(tmp_path)
    assert inspect_leaf(tmp_path, FEMNIST).found == (
        "train: 192 examples of 8 users",
        "test: 32 examples of 8 users",
    )
    for path in (tmp_path / "test").iterdir():
        path.unlink()
    inspection = inspect_leaf(tmp_path, FEMNIST)
    assert inspection.found == ("train: 2 file(s)",)
    assert inspection.lacking[0].startswith("put the folders test of .json files")
    assert not inspection.complete

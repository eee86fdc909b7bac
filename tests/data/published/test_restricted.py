"""Unpickling that cannot run code."""

import builtins
import contextlib
import os
import pickle
import struct
import subprocess
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import published_files
from ipfl.data.published.restricted import loads
from ipfl.errors import DataError

X, LABELS = published_files.cifar_images(7, seed=0)
PYTHON2 = published_files.python2_pickle(X, LABELS, "training batch 1 of 5")


def test_a_batch_of_python_2_is_read_as_the_standard_library_reads_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's old name
        expected = pickle.loads(PYTHON2, encoding="bytes")
    batch = loads(PYTHON2, "data_batch_1")
    assert batch.keys() == expected.keys() == {b"batch_label", b"labels", b"data", b"filenames"}
    assert np.array_equal(batch.pop(b"data"), expected.pop(b"data"))
    assert batch == expected
    assert batch[b"labels"] == LABELS


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_batches_of_python_3_are_read_too(protocol):
    batch = loads(published_files.python3_pickle(X, LABELS, "b", protocol), "data_batch_1")
    assert np.array_equal(batch[b"data"], X)
    assert batch[b"labels"] == LABELS


def test_arrays_of_columns_keep_their_order():
    assert np.array_equal(loads(pickle.dumps(np.asfortranarray(X), protocol=2), "x"), X)


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (builtins.eval, "builtins.eval"),
        (builtins.getattr, "builtins.getattr"),
        (subprocess.Popen, "subprocess.Popen"),
        (np.load, "numpy.load"),
        (pickle.loads, "_pickle.loads"),
    ],
)
def test_what_would_call_a_function_is_refused_by_its_name(tmp_path, protocol, function, name):
    witness = tmp_path / "ran"
    content = pickle.dumps({b"data": [Calls(function, f"touch {witness}")]}, protocol=protocol)
    with pytest.raises(DataError) as error:
        loads(content, "data_batch_1")
    assert str(error.value).startswith("data_batch_1 asks for ")
    if protocol > 2:  # before, the standard library wrote some under their names in Python 2
        assert f"asks for {name}, which plain data does not need: it is refused as unsafe" in str(error.value)
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"(S'touch ran'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch ran'\no.",  # OBJ
        b"cos\nsystem\n(S'touch ran'\ntR.",  # GLOBAL and REDUCE
        b"\x80\x02cnumpy\ndtype.__init__.__globals__\n.",  # a name with dots
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",  # STACK_GLOBAL
        b"\x80\x02\x82\x01.",  # EXT1
        b"Ppersistent\n.",
    ],
)
def test_every_way_to_name_something_else_is_refused(content, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        loads(content, "batch")
    assert list(tmp_path.iterdir()) == []


def test_stand_ins_cannot_be_changed_from_a_pickle():
    """BUILD with a state would set attributes of a function, for all pickles that are read later."""
    content = b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__NsN\x86b."
    for state in (content, b"\x80\x02c_codecs\nencode\n}U\x01aU\x01bsb.", b"\x80\x02cnumpy\nndarray\n}b."):
        with pytest.raises(DataError, match="no whole pickle"):
            loads(state, "batch")
    assert loads(pickle.dumps(b"\xe9", protocol=2), "batch") == b"\xe9"


def test_other_arrays_and_forged_dimensions_are_refused():
    for array in (np.zeros(3), np.array([None]), np.zeros(3, "S2"), np.zeros(2, bool)):
        with pytest.raises(DataError, match="expected an array of unsigned bytes"):
            loads(pickle.dumps(array, protocol=2), "batch")
    sound = pickle.dumps(np.zeros(3, np.uint8), protocol=2)
    assert sound.count(b"K\x03\x85") == 1
    for shape in (
        b"J" + struct.pack("<i", 2**31 - 1),
        b"J" + struct.pack("<i", -3),
        b"G" + struct.pack(">d", 3.0),
    ):
        with pytest.raises(DataError, match=r"content does not fill|without dimensions"):
            loads(sound.replace(b"K\x03\x85", shape + b"\x85"), "batch")


def test_a_forged_memory_cell_takes_no_memory():
    """LONG_BINPUT of cell 2^32 - 1: a table of that length would have 32 GB."""
    assert loads(b"\x80\x02]r\xff\xff\xff\xff.", "batch") == []


def test_a_batch_cut_anywhere_is_refused_with_its_name():
    for length in range(0, len(PYTHON2) - 1, 97):
        with pytest.raises(DataError, match=r"data_batch_1 (is damaged|asks for numpy)"):
            loads(PYTHON2[:length], "data_batch_1")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PYTHON2) - 1), st.binary(min_size=1, max_size=8))
def test_whatever_is_overwritten_ends_in_data_or_one_kind_of_error(position, garbage):
    content = PYTHON2[:position] + garbage + PYTHON2[position + len(garbage) :]
    with contextlib.suppress(DataError):
        loads(content, "batch")

"""Files of tensors that somebody else wrote: what was declared is read, and everything else is one sentence."""

import ast
import io
import json
import os
import pickle
import re
import socket
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

import ipfl
from ipfl import tensor_file
from ipfl.errors import RunFolderError
from ipfl.tensor_file import read_any, read_header, read_tensors, type_code
from tried import tried

DO = "fetch it again"
DECLARED = {
    "a": ("F32", (2, 3)),
    "b": ("I64", ()),
    "c": ("BOOL", (3,)),
    "d": ("F32", (0, 4)),
    "e": ("F32", (3, 2)),
}
ARRAYS = {
    "a": np.array([[1.5, -2.0, 0.0], [3e38, 1e-45, -0.0]], np.float32),
    "b": np.array(-7),
    "c": np.array([True, False, True]),
    "d": np.zeros((0, 4), np.float32),
    "e": np.arange(6, dtype=np.float32).reshape(3, 2),
}
METADATA = {"kept by": "Ünal"}
SOUND = save(ARRAYS, METADATA)
LENGTH = int.from_bytes(SOUND[:8], "little")
HEADER, BODY = json.loads(SOUND[8 : 8 + LENGTH]), SOUND[8 + LENGTH :]


def packed(header, body=BODY, length=None):
    """A file of a header, as text, bytes or an object, and what follows."""
    if not isinstance(header, str | bytes):
        header = json.dumps(header)
    header = header.encode() if isinstance(header, str) else header
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def edited(name, **changes):
    return packed(HEADER | {name: HEADER[name] | changes})


def one(dtype="U8", shape=(1,), start=0, stop=1):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def refusal(path, read=read_tensors, declared=DECLARED, **options):
    """The sentence, which begins with the path and ends with what to do."""
    given = (declared,) if read is read_tensors else ()
    options |= {"bytes_max": 10**9} if read is read_any else {}
    with pytest.raises(RunFolderError) as error:
        read(path, *given, what_to_do=DO, **options)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}")
    assert sentence.endswith(DO)
    assert len(sentence.splitlines()) == 1
    return sentence.removeprefix(f"{path}").removesuffix(DO).lstrip().rstrip(" :;")


def same(found, expected):
    return list(found) == list(expected) and all(
        found[name].dtype == expected[name].dtype
        and found[name].shape == expected[name].shape
        and found[name].tobytes() == expected[name].tobytes()
        for name in expected
    )


# What is sound


def test_what_was_declared_is_read_in_the_order_of_the_declaration(path):
    path.write_bytes(SOUND)
    declared = dict(reversed(DECLARED.items()))
    arrays, metadata = read_tensors(path, declared, what_to_do=DO)
    assert same(arrays, {name: ARRAYS[name] for name in declared})
    assert metadata == METADATA
    header = read_header(path, what_to_do=DO)
    assert header.tensors == DECLARED
    assert header.metadata == METADATA


def test_arrays_have_memory_of_their_own(path):
    path.write_bytes(SOUND)
    arrays, _ = read_tensors(path, DECLARED, what_to_do=DO)
    path.write_bytes(b"\xff" * len(SOUND))  # a mapped file would change the arrays
    assert same(arrays, ARRAYS)
    for array in arrays.values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.base is None


KINDS = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 0, 3), (3, 1, 2), (1,) * 31])
def test_a_round_trip_of_every_type_and_shape(path, kind, shape):
    content = np.random.default_rng(0).integers(0, 2, (*shape, 8)).astype(kind)
    arrays = {"x.weight": content[..., 0].copy(), "größe \n'": content}
    save_file(arrays, path, {"who": "we", "": ""})
    found, metadata = read_any(path, bytes_max=path.stat().st_size, what_to_do=DO)
    assert same(dict(sorted(found.items())), dict(sorted(arrays.items())))
    assert metadata == {"who": "we", "": ""}
    declared = {name: (type_code(array.dtype.name), array.shape) for name, array in arrays.items()}
    assert same(read_tensors(path, declared, what_to_do=DO)[0], arrays)


def test_bfloat16_is_read_as_its_bits(path):
    bits = torch.tensor([1.0, -2.5, 3e38, 0.0], dtype=torch.bfloat16).view(torch.uint16).numpy()
    header = one("BF16", (4,), 0, 8)
    path.write_bytes(packed(header, bits.tobytes()))
    arrays, _ = read_tensors(path, {"a": ("BF16", (4,))}, what_to_do=DO)
    assert same(arrays, {"a": bits})
    for worst in (float("nan"), -float("inf")):
        odd = torch.tensor([1.0, worst, 1.0, 1.0], dtype=torch.bfloat16).view(torch.uint16).numpy()
        path.write_bytes(packed(header, odd.tobytes()))
        assert "holds NaN or infinities, expected finite bfloat16" in refusal(path, read_any)


@pytest.mark.parametrize("first", ["full", "empty"])
def test_an_empty_tensor_stands_wherever_another_begins_or_stops(path, first):
    empty = one("F64", (0, 2), 0, 0)["a"]
    header = {"full": one()["a"], "empty": empty, "last": one("F64", (0,), 1, 1)["a"]}
    path.write_bytes(packed({first: header[first]} | header, b"\7"))
    arrays, _ = read_any(path, bytes_max=10**6, what_to_do=DO)
    assert {name: array.tolist() for name, array in arrays.items()} == {"empty": [], "full": [7], "last": []}


@pytest.mark.parametrize("header", [{}, {"__metadata__": {}}, " \n{}\t "])
def test_a_file_without_tensors(path, header):
    path.write_bytes(packed(header, b""))
    assert read_any(path, bytes_max=100, what_to_do=DO) == ({}, {})


def test_a_link_to_a_file_is_followed(path, tmp_path):
    path.write_bytes(SOUND)
    (tmp_path / "link").symlink_to(path)
    assert same(read_tensors(tmp_path / "link", DECLARED, what_to_do=DO)[0], ARRAYS)


# What is no file of tensors


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # in this folder, because a socket's path may not be long


ODD = "is a device, a pipe or a socket, not a file"
NO_FILES = {
    "missing": (lambda path: None, "is missing"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "is missing"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "link to a folder": (lambda path: path.symlink_to(path.parent), "is a folder, not a file"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), ODD),
    "link to itself": (
        lambda path: path.symlink_to(path),
        "cannot be read (Too many levels of symbolic links)",
    ),
    "pipe": (lambda path: os.mkfifo(path), ODD),
    "socket": (make_socket, ODD),
}


@pytest.mark.parametrize("read", [read_tensors, read_any, read_header])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_not_opened(kind, read, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    make, sentence = NO_FILES[kind]
    make(path)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    assert refusal(path, read) == sentence


def test_a_path_through_a_file_is_missing(path):
    path.write_bytes(SOUND)
    assert refusal(path / "inner") == "is missing"


def test_what_to_do_where_there_is_no_file_may_be_something_else(path):
    with pytest.raises(RunFolderError) as error:
        read_tensors(path, DECLARED, what_to_do=DO, if_missing="wait for it")
    assert str(error.value) == f"{path} is missing: wait for it"


@pytest.mark.parametrize(("make", "sentence"), [(os.mkfifo, ODD), (os.mkdir, "is a folder, not a file")])
def test_a_pipe_that_takes_the_place_of_a_file_keeps_nobody_waiting(make, sentence, path, monkeypatch):
    path.write_bytes(SOUND)
    looked_at = path.stat()
    path.unlink()
    make(path)
    monkeypatch.setattr(Path, "stat", lambda *_: looked_at)
    assert refusal(path) == sentence


def test_what_the_system_refuses_is_told(path, monkeypatch):
    path.write_bytes(SOUND)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal(path) == "cannot be read (Permission denied)"


# Other formats


class Touches:
    """A pickle of it makes a file when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("read", [read_tensors, read_any, read_header])
def test_pickles_are_not_run(path, tmp_path, read):
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Touches(marker))).close()  # this is what is not to happen
    marker.unlink()
    contents = [pickle.dumps(Touches(marker), protocol) for protocol in range(6)]
    buffer = io.BytesIO()
    np.save(buffer, np.array([Touches(marker)], object), allow_pickle=True)
    for content in [*contents, buffer.getvalue(), *map(packed, contents)]:
        path.write_bytes(content)
        refusal(path, read)
        assert not marker.exists()
    for content in contents[2:]:
        path.write_bytes(content)
        assert refusal(path, read) == "is a pickle, which could run code if it were read, not safetensors"


@pytest.mark.parametrize("new", [True, False])
def test_what_torch_save_writes_is_not_opened(path, tmp_path, new):
    marker = tmp_path / "ran"
    tensors = {"a": torch.zeros(2, 3), "x": Touches(marker)}
    torch.save(tensors, path, _use_new_zipfile_serialization=new)
    kind = "zip archive, such as torch.save writes" if new else "pickle, which could run code if it were read"
    assert refusal(path) == f"is a {kind}, not safetensors"
    assert not marker.exists()


# What is damaged


def test_a_file_cut_anywhere_is_refused(path):
    for length in range(len(SOUND)):
        path.write_bytes(SOUND[:length])
        sentence = refusal(path)
        if length == 0:
            assert sentence == "is damaged (it is empty)"
        elif length < 8:
            assert sentence == f"is damaged (it has {length} bytes, too few for a file of tensors)"
        elif length < 8 + LENGTH:
            early = f"it ends early: its header has {LENGTH} bytes, the whole file {length}"
            assert sentence == f"is damaged ({early})"
        else:
            assert sentence == f"is damaged (it has {length} bytes, its header tells of {len(SOUND)})"


DEEP = '{"a":' * 12_000
HALF = '"\\ud800"'
DAMAGE = {
    "trailing byte": (
        SOUND + b"\0",
        f"it has {len(SOUND) + 1} bytes, its header tells of {len(SOUND)}",
    ),
    "second file": (SOUND * 2, f"it has {2 * len(SOUND)} bytes, its header tells of {len(SOUND)}"),
    "no header": (packed("", b""), "its header is no JSON: Expecting value at character 0"),
    "header length 2**63": (
        packed(HEADER, length=2**63),
        f"its header has {2**63} bytes, expected at most {{most}}",
    ),
    "header length 2**64 - 1": (
        packed(HEADER, length=2**64 - 1),
        f"its header has {2**64 - 1} bytes, expected at most {{most}}",
    ),
    "header length beyond the end": (
        packed(HEADER, length=5000),
        f"it ends early: its header has 5000 bytes, the whole file {len(packed(HEADER))}",
    ),
    "not UTF-8": (packed(b'{"\xff": 1}'), "its header is no UTF-8 text"),
    "UTF-16": (packed("{}".encode("utf-16-le"), b""), "its header is no JSON: Expecting property name*"),
    "byte order mark": (packed(b"\xef\xbb\xbf{}", b""), "its header is no JSON: Unexpected UTF-8 BOM*"),
    "half a character as a name": (packed(f"{{{HALF}: 1}}"), "its header has half a character in '\\ud800'"),
    "half a character in metadata": (
        packed(f'{{"__metadata__": {{"x": {HALF}}}}}', b""),
        "its header has half a character in '\\ud800'",
    ),
    "no JSON": (packed("{a: 1}"), "its header is no JSON: Expecting property name*"),
    "two objects": (packed("{}{}"), "its header is no JSON: Extra data at character 2"),
    "a list": (packed([]), "its header is no JSON object"),
    "a number": (packed("1"), "its header is no JSON object"),
    "null": (packed("null"), "its header is no JSON object"),
    "nested objects": (packed(DEEP), "its header is nested too deeply"),
    "nested lists": (packed("[" * 60_000), "its header is nested too deeply"),
    "a name twice": (packed('{"a": {}, "a": {}}'), "its header names 'a' twice"),
    "dtype twice": (packed('{"a": {"dtype": "F32", "dtype": "F64"}}'), "its header names 'dtype' twice"),
    "metadata twice": (packed('{"__metadata__": {"x": "1", "x": "2"}}'), "its header names 'x' twice"),
    "huge number": (packed('{"a": ' + "9" * 50_000 + "}"), "its header has a number of 50000 digits"),
    "number beyond all sizes": (edited("a", shape=[10**19, 0]), "its header has a number of 20 digits"),
    "float": (edited("a", shape=[2.0, 3]), "its header has the number 2.0, expected whole numbers"),
    "exponent": (
        packed('{"a": {"shape": [1e999]}}'),
        "its header has the number 1e999, expected whole numbers",
    ),
    "NaN": (packed('{"a": NaN}'), "its header has the number NaN, expected whole numbers"),
    "metadata number": (packed({"__metadata__": {"x": 1}}, b""), "its metadata are not all text"),
    "metadata list": (packed({"__metadata__": ["x"]}, b""), "its metadata are not all text"),
    "metadata null": (packed({"__metadata__": None}, b""), "its metadata are not all text"),
    "tensor that is text": (
        packed({"a": "F32"}),
        "tensor 'a' is not described by dtype, shape and data_offsets alone",
    ),
    "tensor without shape": (
        packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}),
        "tensor 'a' is not described by dtype, shape and data_offsets alone",
    ),
    "tensor with more": (
        edited("a", strides=[1, 2]),
        "tensor 'a' is not described by dtype, shape and data_offsets alone",
    ),
    "dtype list": (edited("a", dtype=["F32"]), "the dtype of tensor 'a' is no text"),
    "dtype object": (edited("a", dtype="O"), "tensor 'a' is of type 'O', which is not read here"),
    "dtype float8": (edited("a", dtype="F8_E4M3"), "tensor 'a' is of type 'F8_E4M3', which is not read here"),
    "negative dimension": (
        edited("a", shape=[-2, -3]),
        "the shape of tensor 'a' is not at most 32 whole numbers >= 0",
    ),
    "text dimension": (
        edited("a", shape=["2", 3]),
        "the shape of tensor 'a' is not at most 32 whole numbers >= 0",
    ),
    "true dimension": (
        edited("a", shape=[True, 6]),
        "the shape of tensor 'a' is not at most 32 whole numbers >= 0",
    ),
    "nested dimension": (
        edited("a", shape=[[2, 3]]),
        "the shape of tensor 'a' is not at most 32 whole numbers >= 0",
    ),
    "no shape": (edited("a", shape=None), "the shape of tensor 'a' is not at most 32 whole numbers >= 0"),
    "many dimensions": (
        edited("a", shape=[2, 3] + [1] * 31),
        "the shape of tensor 'a' is not at most 32 whole numbers >= 0",
    ),
    "offset text": (
        edited("a", data_offsets="12"),
        "the data_offsets of tensor 'a' are not two whole numbers >= 0",
    ),
    "one offset": (
        edited("a", data_offsets=[8]),
        "the data_offsets of tensor 'a' are not two whole numbers >= 0",
    ),
    "three offsets": (
        edited("a", data_offsets=[8, 32, 32]),
        "the data_offsets of tensor 'a' are not two whole numbers >= 0",
    ),
    "negative offset": (
        edited("a", data_offsets=[-8, 16]),
        "the data_offsets of tensor 'a' are not two whole numbers >= 0",
    ),
    "huge shape": (
        packed(one("F32", (10**12,))),
        f"tensor 'a', float32 ({10**12},), needs {4 * 10**12} bytes, its place is 0 to 1",
    ),
    "huge shape and offsets": (
        packed(one("F32", (10**12,), 0, 4 * 10**12)),
        "it has * bytes, its header tells of 40000000000*",
    ),
    "too huge shape": (
        packed(one("F32", (10**12, 10**12), 0, 4)),
        "the shape of tensor 'a' is larger than any memory",
    ),
    "empty but too huge": (
        packed(one("F32", (0, 10**12, 10**12), 0, 0), b""),
        "the shape of tensor 'a' is larger than any memory",
    ),
    "other shape of another size": (
        edited("a", shape=[2, 4]),
        "tensor 'a', float32 (2, 4), needs 32 bytes, its place is *",
    ),
    "more room than it needs": (
        packed(one("U8", (2,), 0, 3), b"123"),
        "tensor 'a', uint8 (2,), needs 2 bytes, its place is 0 to 3",
    ),
    "stop before start": (
        packed(one("U8", (0,), 1, 0), b""),
        "tensor 'a', uint8 (0,), needs 0 bytes, its place is 1 to 0",
    ),
    "gap": (packed(one("U8", (1,), 1, 2), b"12"), "tensor 'a' starts after a gap, at byte 1 instead of 0"),
    "gap between": (
        packed(one() | {"b": one(start=2, stop=3)["a"]}, b"123"),
        "tensor 'b' starts after a gap, at byte 2 instead of 1",
    ),
    "empty tensor beyond the end": (
        packed(one() | {"b": one(shape=(0,), start=9, stop=9)["a"]}, b"1"),
        "tensor 'b' starts after a gap, at byte 9 instead of 1",
    ),
    "overlap": (
        packed(one("U8", (4,), 0, 4) | {"b": one("U8", (4,), 2, 6)["a"]}, b"123456"),
        "tensor 'b' starts inside another tensor, at byte 2 instead of 4",
    ),
    "same bytes twice": (
        packed(one("U8", (4,), 0, 4) | {"b": one("U8", (4,), 0, 4)["a"]}, b"1234"),
        "tensor 'b' starts inside another tensor, at byte 0 instead of 4",
    ),
    "beyond the end": (packed(one("U8", (9,), 0, 9), b"1234"), "it has * bytes, its header tells of *"),
    "truth values of two": (
        SOUND[:-1] + b"\2",
        "tensor 'c' holds truth values that are neither 0 nor 1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_has_its_sentence(damage, path):
    content, sentence = DAMAGE[damage]
    path.write_bytes(content)
    most = tensor_file.METADATA_MAX + tensor_file._bytes_needed(DECLARED)
    pattern = re.escape(sentence.replace("{most}", str(most))).replace(r"\*", ".*")
    assert re.fullmatch(rf"is damaged \({pattern}\)", refusal(path))
    if "at most" not in sentence:  # the other readers allow headers of another length
        assert re.fullmatch(rf"is damaged \({pattern}\)", refusal(path, read_any))
    if damage != "truth values of two":
        refusal(path, read_header)


def test_a_file_that_shrinks_while_it_is_read_is_refused(path, monkeypatch):
    path.write_bytes(SOUND[:-5])
    monkeypatch.setattr(tensor_file, "_size", lambda _: len(SOUND))
    assert refusal(path) == "is damaged (it ends early, inside tensor 'e')"
    path.write_bytes(SOUND[:100])
    assert refusal(path).startswith("is damaged (its header is no ")


@pytest.mark.parametrize("worst", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "c8"])
def test_every_float_is_finite(path, kind, worst):
    array = np.ones((3, 4), kind)
    array[2, 3] = worst
    save_file({"x": array}, path)
    name = array.dtype.name
    sentence = f": tensor 'x' holds NaN or infinities, expected finite {name}"
    assert refusal(path, read_any) == sentence
    assert refusal(path, declared={"x": (type_code(name), (3, 4))}) == sentence
    arrays, _ = read_any(path, bytes_max=10**6, finite=False, what_to_do=DO)
    assert same(arrays, {"x": array})


def test_the_last_of_many_numbers_is_looked_at(path):
    array = np.ones(2 * tensor_file.CHUNK + 1, np.float32)
    array[-1] = np.nan
    save_file({"x": array}, path)
    assert "holds NaN" in refusal(path, read_any)


MISFITS = {
    "other type": (
        ARRAYS | {"a": ARRAYS["a"].astype(np.float64)},
        "tensor 'a' is float64 (2, 3), expected float32 (2, 3)",
    ),
    "type of the same size": (
        ARRAYS | {"a": ARRAYS["a"].view(np.int32)},
        "tensor 'a' is int32 (2, 3), expected float32 (2, 3)",
    ),
    "other shape": (
        ARRAYS | {"a": ARRAYS["a"].reshape(3, 2)},
        "tensor 'a' is float32 (3, 2), expected float32 (2, 3)",
    ),
    "flat": (ARRAYS | {"b": ARRAYS["b"][None]}, "tensor 'b' is int64 (1,), expected int64 ()"),
    "missing": (
        {name: array for name, array in ARRAYS.items() if name != "a"},
        "tensor 'a' is missing, expected float32 (2, 3)",
    ),
    "extra": (ARRAYS | {"f": ARRAYS["a"]}, "tensor 'f' is float32 (2, 3), expected none"),
    "none": ({}, "tensor 'a' is missing, expected float32 (2, 3)"),
    "a name to fool the reader": (
        ARRAYS | {"A\n\x1b[2Jx": ARRAYS["b"]},
        "tensor 'A\\n\\x1b[2Jx' is int64 (), expected none",
    ),
    "a name for ever": (
        ARRAYS | {"A" * 10_000: ARRAYS["b"]},
        f"tensor '{'A' * 120}...' is int64 (), expected none",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_was_not_declared_is_named(misfit, path):
    arrays, sentence = MISFITS[misfit]
    path.write_bytes(save(arrays))
    assert refusal(path) == f"does not fit the model: {sentence}"
    assert refusal(path, fits="the base") == f"does not fit the base: {sentence}"


def test_a_type_that_is_never_read_does_not_fit(path):
    path.write_bytes(SOUND)
    with pytest.raises(RunFolderError, match=r"is float32 \(2, 3\), expected complex128 \(2, 3\)"):
        read_tensors(path, DECLARED | {"a": (type_code("complex128"), (2, 3))}, what_to_do=DO)


def test_text_has_its_room_and_no_more(path):
    path.write_bytes(save(ARRAYS, {"x": "y" * 3000}))
    assert read_tensors(path, DECLARED, what_to_do=DO)[1] == {"x": "y" * 3000}
    assert "its header has" in refusal(path, metadata_max=1000)
    assert "its header has" in refusal(path, read_any, header_max=1000)
    assert "its header has" in refusal(path, read_header, header_max=1000)


def test_the_longest_way_to_write_names_and_numbers_is_room_enough(path):
    names = ["\N{GRINNING FACE}" * 50, "'" * 99, "x"]
    header = {name: one("U8", (1,) * 32, place, place + 1)["a"] for place, name in enumerate(names)}
    spaced = json.dumps(header, ensure_ascii=True)
    path.write_bytes(packed(spaced.replace("'", "\\u0027"), b"123"))
    declared = dict.fromkeys(names, ("U8", (1,) * 32))
    assert list(read_tensors(path, declared, what_to_do=DO, metadata_max=0)[0]) == names
    path.write_bytes(save({"": np.zeros((), np.uint16)}))
    assert list(read_tensors(path, {"": ("U16", ())}, what_to_do=DO, metadata_max=0)[0]) == [""]


def test_a_file_larger_than_allowed_is_refused(path):
    path.write_bytes(SOUND)
    with pytest.raises(
        RunFolderError, match=rf"it has {len(SOUND)} bytes, expected at most {len(SOUND) - 1}\)"
    ):
        read_any(path, bytes_max=len(SOUND) - 1, what_to_do=DO)


# Memory


def peak(act):
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HUGE = {
    "one tensor": packed(one("F32", (10**12,), 0, 4 * 10**12)),
    "no room": packed(one("F32", (10**12,), 0, 4)),
    "many tensors": packed(
        {f"{n}": one("F64", (10**12,), n * 8 * 10**12, (n + 1) * 8 * 10**12)["a"] for n in range(200)}
    ),
    "a long header": packed("", length=10**15),
}


@pytest.mark.parametrize("read", [read_tensors, read_any, read_header])
@pytest.mark.parametrize("kind", HUGE)
def test_what_a_file_declares_takes_no_memory(kind, read, path):
    path.write_bytes(HUGE[kind])
    refusal(path, read)
    assert peak(lambda: refusal(path, read)) < 10**6 + len(HUGE[kind])


def test_a_header_takes_a_limited_multiple_of_its_own_memory(path):
    path.write_bytes(packed("[" + "[]," * 20_000))
    refusal(path)
    assert peak(lambda: refusal(path)) < 10**5 + 26 * path.stat().st_size


@pytest.mark.parametrize("read", [read_tensors, read_any, read_header])
def test_a_large_file_is_refused_unread(read, path):
    """A file with a hole takes no room on the disk, so its size is no sign of good faith either."""
    header = packed(one("U8", (2**31,), 0, 2**31), b"")
    path.write_bytes(header)
    os.truncate(path, len(header) + 2**31)
    if read is not read_header:  # what it says is true
        assert peak(lambda: refusal(path, read)) < 10**6
    path.write_bytes((10**9).to_bytes(8, "little"))
    os.truncate(path, 2**31)
    assert peak(lambda: refusal(path, read)) < 10**6


def test_reading_takes_the_memory_of_the_arrays_alone(path):
    arrays = {"x": np.ones((1000, 1000)), "y": np.ones(3_000_000, bool)}
    save_file(arrays, path)
    assert (
        peak(lambda: read_any(path, bytes_max=10**9, what_to_do=DO))
        < path.stat().st_size + 1.2 * tensor_file.CHUNK
    )


# Whatever somebody may have done to a file

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 60),
    st.floats(),
    st.sampled_from([*tensor_file._TYPES, "", "O", "\ud800"]),
    st.lists(st.integers(-1, 60), max_size=4),
    st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62, 10**12, True, "2", 2.0]), max_size=4),
    st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
)


PIECES = [
    b"",
    b"0",
    b"9",
    b"-",
    b"e",
    b".",
    b"[",
    b"]",
    b"{}",
    b",",
    b":",
    b'"',
    b'"":',
    b" ",
    b"\\",
    b"\0",
    b"null",
]


@st.composite
def bytes_changed(draw, content):
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 9))
        inserted = draw(st.binary(max_size=9) | st.sampled_from(PIECES))
        content = content[:place] + inserted + content[place + length :]
    return content


@st.composite
def header_changed(draw):
    """A header of JSON, its length right and its body as it was or longer or shorter, with other values in it."""
    header = json.loads(json.dumps(HEADER))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(header) or ["a"]))
        match draw(st.sampled_from(["set", "entry", "drop", "copy", "exchange"])):
            case "set" if name in header and isinstance(header[name], dict):
                key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
                header[name][key] = draw(VALUES)
            case "entry":
                header[name] = draw(VALUES)
            case "drop":
                header.pop(name, None)
            case "copy":
                header[draw(st.text(max_size=3))] = header.get(name)
            case "exchange":
                other = draw(st.sampled_from(sorted(header) or ["a"]))
                header[name], header[other] = header.get(other), header.get(name)
    text = json.dumps(header, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0:  # a name twice
        text = text.replace('"e"', '"a"')
    text += " " * draw(st.integers(0, 9))
    body = BODY[: draw(st.sampled_from([len(BODY), len(BODY), len(BODY), 40, 0]))] + draw(
        st.sampled_from([b"", b"", b"1"])
    )
    return packed(text.encode(errors="surrogatepass"), body)


CHANGED = st.one_of(bytes_changed(SOUND), header_changed())


def outcome(read, *args, **options):
    try:
        return read(*args, what_to_do=DO, **options)
    except RunFolderError as error:
        return str(error)


def check_law(path, content):
    """What is read is what the library that defines the format reads, or there is one kind of error."""
    path.write_bytes(content)
    found = outcome(read_any, path, bytes_max=len(SOUND) + 99)
    declared = outcome(read_tensors, path, DECLARED)
    for sentence in (found, declared):
        if isinstance(sentence, str):
            assert sentence.startswith(str(path))
            assert sentence.endswith(DO)
            assert len(sentence) < 1000
    if isinstance(found, str):
        assert isinstance(declared, str)
        return
    arrays, metadata = found
    assert read_header(path, what_to_do=DO).metadata == metadata
    assert all(isinstance(text, str) for text in [*metadata, *metadata.values()])
    assert all(np.isfinite(array).all() for array in arrays.values())
    told = {
        name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in safetensors.deserialize(content)
    }
    assert told == {name: (type_code(array.dtype.name), array.shape) for name, array in arrays.items()}
    raw = {name: bytes(tensor["data"]) for name, tensor in safetensors.deserialize(content)}
    assert raw == {name: array.tobytes() for name, array in arrays.items()}
    if told == DECLARED:
        assert same(declared[0], {name: arrays[name] for name in DECLARED})
        assert declared[1] == metadata
    else:
        assert " does not fit the model: tensor " in declared


@tried(CHANGED, times=150, in_full=5000, how=settings(deadline=None))
def test_a_changed_file_is_read_as_it_is_or_refused(tmp_path, content):
    check_law(tmp_path / "changed", content)


@tried(st.binary(max_size=200), times=50, in_full=1000, how=settings(deadline=None))
def test_any_bytes_are_refused_with_one_kind_of_error(tmp_path, content):
    check_law(tmp_path / "changed", content)
    check_law(tmp_path / "changed", packed(content))


def test_a_bit_of_every_byte_of_a_sound_file_may_flip(tmp_path):
    for place in range(len(SOUND)):
        flipped = bytearray(SOUND)
        flipped[place] ^= 1 << place % 8
        check_law(tmp_path / "changed", bytes(flipped))


# Nothing in the package reads pickles

SOURCE = Path(ipfl.__file__).parent
BANNED_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BANNED = {
    "eval", "exec", "builtins.eval", "builtins.exec", "numpy.load", "numpy.lib.format.read_array", "pandas.read_pickle",
    "torch.load", "torch.serialization.load", "torch.jit.load", "torch.hub.load", "yaml.load", "yaml.load_all",
    "yaml.full_load", "yaml.unsafe_load",
}  # fmt: skip
ENDS = {name.rpartition(".")[2] for name in BANNED}
BANNED_WHOSE_EVER = {"PeftModel"}
"""Of PEFT, which reads adapter_model.bin, a pickle, where adapter_model.safetensors is not there."""
ALLOWED = {
    (
        "data/published/restricted.py",
        "pickle",
    ): "its unpickler hands out stand-ins for four names, and nothing else",
}


def readers(source):
    """The names in a module of all that may run what it reads; numpy.load only where pickles are not forbidden."""
    nodes = list(ast.walk(ast.parse(source)))
    meant, modules, harmless = {}, set(), set()
    for node in nodes:
        match node:
            case ast.Import(names):
                modules |= {alias.name for alias in names}
                meant |= {alias.asname: alias.name for alias in names if alias.asname}
            case ast.ImportFrom(module, names, 0):
                modules |= {module} | {f"{module}.{alias.name}" for alias in names}
                meant |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in names}
            case ast.Constant(str(text)):  # importlib.import_module("pickle")
                modules.add(text)
            case ast.Call(function, _, words):
                given = {word.arg: word.value for word in words}
                match given.get("allow_pickle"):
                    case ast.Constant(False):
                        harmless.add(function)
    found = {module.partition(".")[0] for module in modules} & BANNED_MODULES
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and node not in harmless:
            last = node.id if isinstance(node, ast.Name) else node.attr
            found |= {last} & BANNED_WHOSE_EVER
            if last in ENDS or last in meant:
                head, *rest = ast.unparse(node).split(".")
                found |= {".".join([meant.get(head, head), *rest])} & BANNED
    return found


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("def late():\n    import pickle as p", "pickle"),
        ("from pickle import loads", "pickle"),
        ("from multiprocessing import pickle", None),
        ("import importlib\nimportlib.import_module('dill')", "dill"),
        ("from joblib.numpy_pickle import load", "joblib"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch as t\nt.load(path, weights_only=True)", "torch.load"),
        ("from torch import load as fetch\nfetch(path)", "torch.load"),
        ("import torch.serialization\ntorch.serialization.load(path)", "torch.serialization.load"),
        ("from torch import serialization\nserialization.load(path)", "torch.serialization.load"),
        ("import numpy as np\nnp.load(path)", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=trusted)", "numpy.load"),
        ("import numpy as np\nlist(map(np.load, paths))", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=False)", None),
        ("from numpy import load\nload(path)", "numpy.load"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("import yaml\nyaml.safe_load(text)", None),
        ("import pandas as pd\npd.read_pickle(path)", "pandas.read_pickle"),
        ("eval(text)", "eval"),
        ("list(map(exec, texts))", "exec"),
        ("import builtins\nbuiltins.eval(text)", "builtins.eval"),
        ("model.eval()", None),
        ("import json\njson.load(file)", None),
        ("peft().PeftModel.from_pretrained(model, folder)", "PeftModel"),
    ],
)
def test_the_search_for_readers_of_pickles_finds(source, name):
    assert readers(source) == ({name} if name else set())


def test_nothing_in_the_package_runs_what_it_reads():
    found = {
        (path.relative_to(SOURCE).as_posix(), name)
        for path in SOURCE.rglob("*.py")
        for name in readers(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED.keys()

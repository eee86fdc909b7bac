"""Files of tensors (safetensors) that anybody may have written, read only when all of it is as it should be.

Such a file is eight bytes with the length of a header, the header (JSON: some text, and the name, type, shape and place
of every tensor), and the tensors' bytes, one behind the other.

Laws: what is read is what was declared, and every float in it is finite; anything else is one `RunFolderError`. No
number in the file is believed: no memory is taken for tensors before the header is sound and the file has
exactly the bytes that it tells of. Nothing is unpickled, nothing is mapped into memory, and only regular files are
opened, so no pipe or device can keep the reader waiting.
"""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ipfl.errors import RunFolderError

Declared = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensors by name: type as safetensors calls it ("F32"), and shape."""

Source = BufferedReader | BytesIO

METADATA_MAX = 1 << 16
HEADER_MAX = 1 << 20
"""Small, because what JSON makes of a header can take 25 times the header's memory."""
NDIM_MAX = 32
DIGITS_MAX = 19
SHOWN_MAX = 120
CHUNK = 1 << 20
DESCRIBED_BY = {"dtype", "shape", "data_offsets"}


class _Type(NamedTuple):
    """A type of numbers: its usual name, and how NumPy reads it."""

    name: str
    read_as: str


_TYPES = {
    "F64": _Type("float64", "<f8"),
    "F32": _Type("float32", "<f4"),
    "F16": _Type("float16", "<f2"),
    "BF16": _Type("bfloat16", "<u2"),  # NumPy has no such type
    "C64": _Type("complex64", "<c8"),
    "I64": _Type("int64", "<i8"),
    "I32": _Type("int32", "<i4"),
    "I16": _Type("int16", "<i2"),
    "I8": _Type("int8", "i1"),
    "U64": _Type("uint64", "<u8"),
    "U32": _Type("uint32", "<u4"),
    "U16": _Type("uint16", "<u2"),
    "U8": _Type("uint8", "u1"),
    "BOOL": _Type("bool", "?"),
}
_CODES = {kind.name: code for code, kind in _TYPES.items()}


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its tensors in the order of their bytes, and its text."""

    tensors: Declared
    metadata: Mapping[str, str]


def type_code(name: str) -> str:
    """What safetensors calls a type of NumPy's or torch's; a type that is never read keeps its name.

    >>> type_code("float32"), type_code("bfloat16"), type_code("complex128")
    ('F32', 'BF16', 'complex128')
    """
    return _CODES.get(name, name)


def read_tensors(
    path: Path,
    declared: Declared,
    *,
    what_to_do: str,
    if_missing: str | None = None,
    fits: str = "the model",
    metadata_max: int = METADATA_MAX,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a file that holds exactly those declared, and its text.

    Args:
      path: of the file.
      declared: the tensors that it must hold.
      what_to_do: the end of every sentence that refuses the file.
      if_missing: the same where there is no file.
      fits: what the tensors belong to, for the sentence about one that does not fit.
      metadata_max: bytes that the header may have beyond those that the declared tensors can need.
    Returns:
      Arrays with memory of their own, in the order of `declared`; a BF16 tensor as its bits, uint16. And the text.
    Raises:
      RunFolderError: the file is missing, damaged or something else; a tensor is missing, extra or of another type or
        shape; a float is not finite, or a truth value is neither 0 nor 1.
    """
    place = _Place(path, what_to_do, if_missing or what_to_do)
    with _opened(place) as file:
        header = _header(place, file, metadata_max + _bytes_needed(declared))
        _check_declared(place, header.tensors, declared, fits)
        arrays = _arrays(place, file, header, finite=True)
    return {name: arrays[name] for name in declared}, dict(header.metadata)


def read_any(
    path: Path,
    *,
    bytes_max: int,
    what_to_do: str,
    if_missing: str | None = None,
    header_max: int = HEADER_MAX,
    finite: bool = True,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a file of ours, whatever they are called, and its text; else as `read_tensors`.

    Args:
      path: of the file.
      bytes_max: of the whole file, and so of the memory that is taken.
      what_to_do, if_missing: as in `read_tensors`.
      header_max: bytes of the header.
      finite: whether NaN and infinities are refused.
    Raises:
      RunFolderError: as `read_tensors`, or the file is larger than allowed.
    """
    place = _Place(path, what_to_do, if_missing or what_to_do)
    with _opened(place) as file:
        size = _size(file)
        if size > bytes_max:
            raise place.damaged(f"it has {size} bytes, expected at most {bytes_max}")
        header = _header(place, file, header_max)
        return _arrays(place, file, header, finite), dict(header.metadata)


def read_content(
    content: bytes, name: str, *, what_to_do: str, header_max: int = HEADER_MAX
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """As `read_any`, of bytes that are in memory already; `name` stands for the file. NaN and infinities pass.

    Raises:
      RunFolderError: they are damaged or something else.
    """
    place = _Place(name, what_to_do, what_to_do)
    file = BytesIO(content)
    header = _header(place, file, header_max)
    return _arrays(place, file, header, finite=False), dict(header.metadata)


def read_header(
    path: Path, *, what_to_do: str, if_missing: str | None = None, header_max: int = HEADER_MAX
) -> Header:
    """What a file says of itself, checked but for the tensors' numbers: to tell what it is before it is read.

    Raises:
      RunFolderError: the file is missing, damaged or something else.
    """
    place = _Place(path, what_to_do, if_missing or what_to_do)
    with _opened(place) as file:
        return _header(place, file, header_max)


@dataclass(frozen=True)
class _Place:
    """Which file it is, and what to do about it, for sentences."""

    path: Path | str
    what_to_do: str
    if_missing: str

    def refused(self, what: str) -> RunFolderError:
        return RunFolderError(f"{self.path} {what}: {self.what_to_do}")

    def damaged(self, why: str) -> RunFolderError:
        return self.refused(f"is damaged ({why})")


class _UnsoundError(Exception):
    """What is wrong in a header."""


@contextmanager
def _opened(place: _Place) -> Iterator[BufferedReader]:
    path = Path(place.path)
    try:
        # Opening a device may already do something, so it is looked at first. Between the look and the opening it
        # may have become a pipe: then the opening must not wait for somebody to write.
        _check_regular(place, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            _check_regular(place, os.fstat(descriptor))
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(f"{place.path} is missing: {place.if_missing}") from None
    except IsADirectoryError:  # a folder took its place
        raise place.refused("is a folder, not a file") from None
    except OSError as error:
        raise place.refused(f"cannot be read ({error.strerror or error})") from None


def _check_regular(place: _Place, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise place.refused("is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise place.refused("is a device, a pipe or a socket, not a file")


def _size(file: Source) -> int:
    return file.getbuffer().nbytes if isinstance(file, BytesIO) else os.fstat(file.fileno()).st_size


def _bytes_needed(declared: Declared) -> int:
    """At most what these tensors need in a header: a character of a name takes up to 12 bytes, a number 20."""
    return sum(128 + 12 * len(name) + 20 * len(shape) for name, (_, shape) in declared.items())


def _header(place: _Place, file: Source, header_max: int) -> Header:
    """The header, once it is sound in itself and tells of exactly the bytes that the file has."""
    size = _size(file)
    first = file.read(8)
    if len(first) < 8:
        few = f"it has {len(first)} bytes, too few for a file of tensors"
        raise place.damaged(few if first else "it is empty")
    length = int.from_bytes(first, "little")
    if length > min(header_max, size - 8):
        _refuse_other_formats(place, first)
        if length > header_max:
            raise place.damaged(f"its header has {length} bytes, expected at most {header_max}")
        raise place.damaged(f"it ends early: its header has {length} bytes, the whole file {size}")
    content = file.read(length)
    try:
        header, end = _parsed(content)
    except _UnsoundError as error:
        raise place.damaged(str(error)) from None
    if 8 + length + end != size:
        raise place.damaged(f"it has {size} bytes, its header tells of {8 + length + end}")
    return header


def _refuse_other_formats(place: _Place, first: bytes) -> None:
    """Say so where a model was saved by other means; what they wrote is never opened."""
    if first.startswith(b"PK"):
        raise place.refused("is a zip archive, such as torch.save writes, not safetensors")
    if first[0] == 0x80 and 2 <= first[1] <= 5:
        raise place.refused("is a pickle, which could run code if it were read, not safetensors")


def _parsed(content: bytes) -> tuple[Header, int]:
    """The header, and the bytes that its tensors take together."""
    try:
        entries = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_no_whole_number,
            parse_constant=_no_whole_number,
        )
    except UnicodeDecodeError:
        raise _UnsoundError("its header is no UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _UnsoundError(f"its header is no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _UnsoundError("its header is nested too deeply") from None
    if not isinstance(entries, dict):
        raise _UnsoundError("its header is no JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _UnsoundError("its metadata are not all text")
    tensors, end = _one_behind_the_other({name: _Entry.of(name, entry) for name, entry in entries.items()})
    return Header(tensors, metadata), end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different and all proper text."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise _UnsoundError(f"its header names {_shown(name)} twice")
        for text in (name, value):
            if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
                raise _UnsoundError(f"its header has half a character in {_shown(text)}")
        found[name] = value
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > DIGITS_MAX:  # before Python takes time for a number of any length
        raise _UnsoundError(f"its header has a number of {len(digits)} digits")
    return int(digits)


def _no_whole_number(digits: str) -> NoReturn:
    raise _UnsoundError(f"its header has the number {digits[:20]}, expected whole numbers")


@dataclass(frozen=True)
class _Entry:
    """One tensor as the header describes it: its type, its shape, and where its bytes start and stop."""

    code: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @classmethod
    def of(cls, name: str, entry: object) -> "_Entry":
        if not isinstance(entry, dict) or entry.keys() != DESCRIBED_BY:
            raise _UnsoundError(
                f"tensor {_shown(name)} is not described by dtype, shape and data_offsets alone"
            )
        code, shape, offsets = (entry[key] for key in ("dtype", "shape", "data_offsets"))
        if not isinstance(code, str):
            raise _UnsoundError(f"the dtype of tensor {_shown(name)} is no text")
        if code not in _TYPES:
            raise _UnsoundError(f"tensor {_shown(name)} is of type {_shown(code)}, which is not read here")
        if not _are_counts(shape) or len(shape) > NDIM_MAX:
            raise _UnsoundError(
                f"the shape of tensor {_shown(name)} is not at most {NDIM_MAX} whole numbers >= 0"
            )
        if not _are_counts(offsets) or len(offsets) != 2:
            raise _UnsoundError(f"the data_offsets of tensor {_shown(name)} are not two whole numbers >= 0")
        found = cls(code, tuple(shape), *offsets)
        itemsize = np.dtype(_TYPES[code].read_as).itemsize
        # NumPy counts no zeros here: a shape of (0, 2**40, 2**40) is too large for it
        if itemsize * math.prod(n for n in found.shape if n) >= 2**63:
            raise _UnsoundError(f"the shape of tensor {_shown(name)} is larger than any memory")
        num_bytes = itemsize * math.prod(found.shape)
        if found.stop - found.start != num_bytes:
            raise _UnsoundError(
                f"tensor {_shown(name)}, {_words(code, found.shape)}, needs {num_bytes} bytes, its place is "
                f"{found.start} to {found.stop}"
            )
        return found


def _one_behind_the_other(entries: dict[str, _Entry]) -> tuple[Declared, int]:
    """The tensors in the order of their bytes, which leave no gap and do not overlap, and where the last one stops."""
    ordered = sorted(entries, key=lambda name: (entries[name].start, entries[name].stop))
    starts = [entries[name].start for name in ordered]
    stops = [0, *(entries[name].stop for name in ordered)]
    for name, start, stop in zip(ordered, starts, stops, strict=False):
        if start != stop:
            what = "after a gap" if start > stop else "inside another tensor"
            raise _UnsoundError(f"tensor {_shown(name)} starts {what}, at byte {start} instead of {stop}")
    return {name: (entries[name].code, entries[name].shape) for name in ordered}, stops[-1]


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)  # True is no count


def _check_declared(place: _Place, found: Declared, declared: Declared, fits: str) -> None:
    for name in sorted(found.keys() | declared.keys()):
        have = _words(*found[name]) if name in found else "missing"
        want = _words(*declared[name]) if name in declared else "none"
        if have != want:
            raise RunFolderError(
                f"{place.path} does not fit {fits}: tensor {_shown(name)} is {have}, expected {want}; "
                f"{place.what_to_do}"
            )


def _arrays(place: _Place, file: Source, header: Header, finite: bool) -> dict[str, np.ndarray]:
    """All tensors of a sound header; `file` stands where they begin."""
    arrays: dict[str, np.ndarray] = {}
    for name, (code, shape) in header.tensors.items():
        array = np.empty(shape, _TYPES[code].read_as)
        if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise place.damaged(f"it ends early, inside tensor {_shown(name)}")
        _check_values(place, name, code, array, finite)
        arrays[name] = array
    return arrays


def _check_values(place: _Place, name: str, code: str, array: np.ndarray, finite: bool) -> None:
    flat = array.reshape(-1)
    for start, stop in pairwise(
        [*range(0, len(flat), CHUNK), len(flat)]
    ):  # beside the array, little memory is taken
        part = flat[start:stop]
        if code == "BOOL" and part.view(np.uint8).max() > 1:
            raise place.damaged(f"tensor {_shown(name)} holds truth values that are neither 0 nor 1")
        if finite and not _are_finite(part, code):
            raise RunFolderError(
                f"{place.path}: tensor {_shown(name)} holds NaN or infinities, expected finite "
                f"{_TYPES[code].name}; {place.what_to_do}"
            )


def _are_finite(part: np.ndarray, code: str) -> bool:
    if code == "BF16":  # the exponent's bits are all set in infinities and NaN, and nowhere else
        return bool(((part & 0x7F80) != 0x7F80).all())
    return part.dtype.kind not in "fc" or bool(np.isfinite(part).all())


def _words(code: str, shape: tuple[int, ...]) -> str:
    return f"{_TYPES[code].name if code in _TYPES else code} {shape}"


def _shown(text: str) -> str:
    """Text of a stranger in a sentence: quoted, so that nothing in it can move a cursor, and not for ever."""
    return repr(text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}...")

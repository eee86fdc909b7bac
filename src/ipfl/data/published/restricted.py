"""Unpickling that cannot run code: plain Python data and arrays of bytes, nothing else.

A pickle is a program. All that it can call is what `find_class` hands it: here, stand-ins for the four names by
which a NumPy array is written down. NumPy itself never sees the pickle: an array is built here, from checked
dimensions and its bytes. Python's own reader is used, not the one in C, which a forged pickle can make take all
memory.
"""

import math
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ipfl.errors import DataError


def loads(content: bytes, name: str) -> object:
    """Unpickle dictionaries, lists, tuples, numbers, byte strings and uint8 arrays; Python 2's too.

    Args:
      content: the pickle. Strings of Python 2 become bytes.
      name: the file, for errors.
    Raises:
      DataError: it is damaged, or asks for anything else, which is named.

    >>> loads(pickle.dumps({b"labels": [1, 2]}, protocol=2), "batch")
    {b'labels': [1, 2]}
    >>> loads(pickle.dumps(print), "batch")
    Traceback (most recent call last):
    ...
    ipfl.errors.DataError: batch asks for builtins.print, which plain data does not need: it is refused as unsafe
    """
    try:
        value = _Unpickler(BytesIO(content), name).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        reason = f"{type(error).__name__} {error}".strip().splitlines()[0][:200]
        raise DataError(f"{name} is damaged, it is no whole pickle ({reason}); fetch it again") from None
    return {key: _array(entry) for key, entry in value.items()} if isinstance(value, dict) else _array(value)


class _Unpickler(pickle._Unpickler):
    def __init__(self, file: BytesIO, name: str):
        super().__init__(file, encoding="bytes")
        self._name = name

    def find_class(self, module: str, name: str) -> object:
        """A stand-in for one of NumPy's names; anything else is refused by its own name."""
        if (module, name) not in _STAND_INS:
            raise DataError(
                f"{self._name} asks for {module}.{name}, which plain data does not need: it is refused as unsafe"
            )
        return _StandIn(_STAND_INS[module, name])


class _StandIn:
    """Something to call, whose attributes no pickle can set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]):
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise ValueError("a function has no state")


class _Array:
    """Stands for an array; `array` holds it once its state has come."""

    array: UInt8[np.ndarray, "..."] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind) or kind.code not in ("u1", b"u1"):
            raise ValueError("expected an array of unsigned bytes")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array without dimensions")
        if not isinstance(content, bytes) or len(content) != math.prod(shape):
            raise ValueError(f"the content does not fill an array of shape {shape}")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Kind:
    """Stands for numpy.dtype."""

    def __init__(self, code: object = None, *_: object):
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and the like mean nothing to single bytes."""


def _encode(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes into pickles of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError("expected bytes written as latin1 text")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}


def _array(value: object) -> object:
    return value.array if isinstance(value, _Array) else value

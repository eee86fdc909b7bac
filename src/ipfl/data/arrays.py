"""One participant's arrays, from an .npz file: x (images or vectors) and y (labels). Never pickle."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ipfl.data.raw import Raw, check_finite, named_classes
from ipfl.errors import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)
REMEDY = "store it with numpy.savez(file, x=..., y=...)"
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or encrypted archive may raise."""


def read_arrays(path: Path) -> Raw:
    """Read and check one .npz file.

    x is (n, features), any numbers; or images (n, height, width) or (n, channels, height, width) of uint8 or
    floats. y is (n,): whole numbers, booleans or text.

    Raises:
      DataError: the file is damaged, lacks x or y, or they do not fit; names file, row and what to store.
    """
    x, y = _stored(path)
    if y.ndim != 1:
        raise DataError(f"{path.name}: y has shape {y.shape}, expected one label per example, shape (n,)")
    if y.dtype.kind not in "iubfU":
        raise DataError(f"{path.name}: y is of type {y.dtype}; store whole numbers, booleans or text")
    if x.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"{path.name}: x has {len(x) if x.ndim else 'no'} examples but y has {len(y)} labels; "
            "store one label per example"
        )
    if len(y) == 0:
        raise DataError(f"{path.name} has no examples: add some, or take the file out")
    x = _vectors(path.name, x) if x.ndim == 2 else _images(path.name, x)
    values, codes = np.unique(y, return_inverse=True)
    class_names, labels = named_classes(values.tolist(), codes.astype(np.int64), f"{path.name}, y")
    return Raw(path.name, None, x, labels, class_names)


def as_pixels(
    x: Shaped[np.ndarray, "n channels height width"],
) -> Shaped[np.ndarray, "n channels height width"]:
    """Images as float32: uint8 0..255 becomes -1..1, floats stay as they are.

    >>> as_pixels(np.array([[[[0, 255]]]], dtype=np.uint8)).tolist()
    [[[[-1.0, 1.0]]]]
    """
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return x.astype(np.float32)


def _stored(path: Path) -> tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]:
    try:
        with path.open("rb") as file:
            return _members(path.name, np.load(file, allow_pickle=False))
    except UNREADABLE as error:
        if "allow_pickle" in str(error):
            reason = "it holds Python objects, or is no .npz file; store plain arrays of numbers or text"
        else:
            reason = (
                f"{str(error).splitlines()[0][:200] if str(error) else 'it ends early'}; write the file again"
            )
        raise DataError(f"{path.name} cannot be read: {reason}") from None


def _members(name: str, stored: Any) -> tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]:
    if isinstance(stored, np.ndarray):
        raise DataError(f"{name} holds one bare array: {REMEDY}")
    with stored:
        lacking = [member for member in ("x", "y") if member not in stored.files]
        if lacking:
            has = ", ".join(stored.files) or "none"
            raise DataError(f"{name} has no array {lacking[0]!r} (it has: {has}); {REMEDY}")
        return stored["x"], stored["y"]


def _vectors(file: str, x: Shaped[np.ndarray, "n features"]) -> Shaped[np.ndarray, "n features"]:
    if x.dtype.kind not in "iubf":
        raise DataError(f"{file}: x is of type {x.dtype}; store numbers")
    if x.shape[1] == 0:
        raise DataError(f"{file}: x has shape {x.shape}, no features; store at least one")
    features = x.astype(np.float64)
    check_finite(features, [f"x[:, {index}]" for index in range(x.shape[1])], file)
    return features


def _images(file: str, x: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "n channels height width"]:
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise DataError(
            f"{file}: x has shape {x.shape}; expected vectors (n, features) or images (n, height, width) or "
            "(n, channels, height, width)"
        )
    if x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] > 4:
        raise DataError(
            f"{file}: x has shape {x.shape}, channels stand last; store x.transpose(0, 3, 1, 2), which is "
            "(n, channels, height, width)"
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(f"{file}: images are of type {x.dtype}; store uint8 (0 to 255) or floats")
    images = x[:, None] if x.ndim == 3 else x
    if images.dtype.kind == "f":
        sound = (np.abs(images) <= FLOAT32_MAX).reshape(len(images), -1).all(axis=1)
        if not sound.all():
            raise DataError(
                f"{file}, row {int(sound.argmin()) + 1}: the image holds NaN or infinity "
                f"({int((~sound).sum())} such image(s)); fill such pixels, or drop the image"
            )
    return images

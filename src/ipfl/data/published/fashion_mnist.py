"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 pictures of clothes, 28 x 28 grey pixels, 10 classes.

Read from its four published files in IDX format, as they are or unpacked: a header of big-endian 32-bit numbers
(2049 or 2051, the count, for images height and width), then one byte a label or pixel.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ipfl.data.published.files import Inspection, PublishedFile, absent, inspect_files
from ipfl.data.published.pixels import standardised
from ipfl.data.sources import Source
from ipfl.errors import DataError

SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def _published(name: str, num_bytes: int, md5: str) -> PublishedFile:
    return PublishedFile(name, SITE + name, num_bytes, md5)


FILES = (
    _published("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    _published("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
    _published("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
    _published("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGES, LABELS = 2051, 2049
SIDE = 28
COUNT_MAX = 1_000_000
MEAN, DEVIATION = (0.2860,), (0.3530,)
"""Of the training images, in units of 255."""


def fashion_mnist(folder: Path) -> Source:
    """60,000 training and 10,000 test images, 1 x 28 x 28, standardised by mean and deviation.

    Args:
      folder: where the four files lie.
    Raises:
      DataError: one is not there, truncated or malformed; names it.
    """
    train_x, train_y, test_x, test_y = (_path(folder, file) for file in FILES)
    return _source(train_x, train_y)._replace(test=_source(test_x, test_y))


def inspect_fashion_mnist(folder: Path) -> Inspection:
    """Which of the four files `folder` holds; checksums are compared, unpacked files are read instead."""
    packed = tuple(file for file in FILES if not _unpacked(folder, file).exists())
    inspection = inspect_files(folder, packed)
    found, damaged = list(inspection.found), list(inspection.damaged)
    for file in FILES:
        path = _unpacked(folder, file)
        if path.exists():
            try:
                count = len(_images(path)) if "images" in path.name else len(_labels(path))
                found.append(f"{path.name}: {count:,} records")
            except DataError as error:
                damaged.append(str(error))
    return Inspection(folder, tuple(found), inspection.lacking, tuple(damaged))


def _unpacked(folder: Path, file: PublishedFile) -> Path:
    return folder / file.name.removesuffix(".gz")


def _path(folder: Path, file: PublishedFile) -> Path:
    for path in (_unpacked(folder, file), folder / file.name):
        if path.exists():
            return path
    lacking = [entry for entry in FILES if not (folder / entry.name).exists()]
    raise absent(
        "fashion_mnist",
        folder,
        f"run `ipfl data fetch fashion_mnist`, or put {', '.join(map(str, lacking))} there",
    )


def _source(images: Path, labels: Path) -> Source:
    x, y = _images(images), _labels(labels)
    if len(x) != len(y):
        raise DataError(
            f"{images.name} has {len(x):,} images but {labels.name} {len(y):,} labels: fetch both again"
        )
    return Source(standardised(x[:, None], MEAN, DEVIATION), y, CLASSES)


def _images(path: Path) -> UInt8[np.ndarray, "n height width"]:
    count, content = _idx(path, IMAGES, ">II", (SIDE, SIDE))
    return np.frombuffer(content, np.uint8).reshape(count, SIDE, SIDE)


def _labels(path: Path) -> Int64[np.ndarray, "n"]:
    _, content = _idx(path, LABELS, ">", ())
    labels = np.frombuffer(content, np.uint8).astype(np.int64)
    if labels.max() >= len(CLASSES):
        raise DataError(f"{path.name} has label {labels.max()}, expected 0 to {len(CLASSES) - 1}")
    return labels


def _idx(path: Path, magic: int, form: str, dimensions: tuple[int, ...]) -> tuple[int, bytes]:
    """How many records a file has, and their bytes: exactly as many as its header says, and no more is read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            kind, count = struct.unpack(">II", file.read(8))
            sides = struct.unpack(form, file.read(struct.calcsize(form)))
            if kind != magic or sides != dimensions or not 1 <= count <= COUNT_MAX:
                raise DataError(
                    f"{path.name} begins with {kind}, {count}, {', '.join(map(str, sides)) or 'labels'}; expected "
                    f"{magic} and {'images of 28 x 28' if sides else 'labels'}: it is another file"
                )
            length = count * int(np.prod(dimensions))
            content = file.read(length + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path.name} is damaged ({error}); fetch it again") from None
    if len(content) != length:
        raise DataError(
            f"{path.name} should have {length:,} bytes after its header and has "
            f"{'more' if len(content) > length else f'{len(content):,}'}: fetch it again"
        )
    return count, content

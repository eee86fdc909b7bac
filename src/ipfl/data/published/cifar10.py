"""CIFAR-10 (Krizhevsky, 2009): 60,000 photographs of 32 x 32 pixels in 10 classes, as its author publishes it.

Read from any of: cifar-10-python.tar.gz, the folder cifar-10-batches-py that it unpacks to, or
cifar-10-binary.tar.gz. Five batches are for training, one is for testing.
"""

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ipfl.data.published.files import Inspection, PublishedFile, absent, inspect_files
from ipfl.data.published.pixels import standardised
from ipfl.data.published.restricted import loads
from ipfl.data.sources import Source
from ipfl.errors import DataError

PYTHON = PublishedFile(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    170_498_071,
    "c58f30108f718f92721af3b95e74349a",
)
BINARY = PublishedFile(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
)
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
BATCH_BYTES_MAX = 64 << 20
"""A batch has 31 MB; a file in an archive that claims more is not one."""
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of the training images, per channel, in units of 255."""

Batch = tuple[UInt8[np.ndarray, "n pixels"], Int64[np.ndarray, "n"]]


def cifar10(folder: Path) -> Source:
    """50,000 training and 10,000 test images, 3 x 32 x 32, standardised by mean and deviation of each channel.

    Args:
      folder: where one of the three forms lies.
    Raises:
      DataError: none of them does, or it is truncated, malformed or unsafe; names the file.
    """
    batches = _batches(folder)
    source, test = _source([batches[name] for name in TRAIN]), _source([batches[TEST]])
    return source._replace(test=test)


def inspect_cifar10(folder: Path) -> Inspection:
    """What `folder` holds of CIFAR-10: an unpacked folder is read, an archive's checksum is compared."""
    if (folder / FOLDER).is_dir():
        try:
            sizes = {name: len(labels) for name, (_, labels) in _batches(folder).items()}
        except DataError as error:
            return Inspection(folder, damaged=(str(error),))
        found = tuple(f"{FOLDER}/{name}: {sizes[name]:,} of 10,000 images" for name in (*TRAIN, TEST))
        return Inspection(folder, found)
    form = BINARY if (folder / BINARY.name).exists() and not (folder / PYTHON.name).exists() else PYTHON
    return inspect_files(folder, (form,))


def _batches(folder: Path) -> dict[str, Batch]:
    """All six batches by name, from whatever form there is."""
    if (folder / FOLDER).is_dir():
        forms = ((name, content, _pickled) for name, content in _unpacked(folder / FOLDER))
        where = FOLDER
    elif (folder / PYTHON.name).exists():
        forms = ((name, content, _pickled) for name, content in _archived(folder / PYTHON.name))
        where = PYTHON.name
    elif (folder / BINARY.name).exists():
        forms = ((name, content, _binary) for name, content in _archived(folder / BINARY.name))
        where = BINARY.name
    else:
        raise absent("cifar10", folder, f"run `ipfl data fetch cifar10`, or put {PYTHON} there")
    batches = {name: read(content, f"{where}/{name}") for name, content, read in forms}
    lacking = [name for name in (*TRAIN, TEST) if name not in batches]
    if lacking:
        raise DataError(f"{where} has no {lacking[0]}: it is not whole, fetch it again")
    return batches


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in (*TRAIN, TEST):
        try:
            yield name, (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{FOLDER}/{name} cannot be read: {error.strerror}") from None


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    """The batches in an archive, in the order in which they stand in it; nothing is unpacked on disk."""
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = Path(member.name).name.removesuffix(".bin")
                if not member.isfile() or name not in (*TRAIN, TEST):
                    continue
                file = archive.extractfile(member)
                if file is None or member.size > BATCH_BYTES_MAX:
                    raise DataError(
                        f"{path.name}/{name} has {member.size:,} bytes: that is no batch of CIFAR-10"
                    )
                yield name, file.read()
    except (OSError, EOFError, tarfile.TarError, ValueError, zlib.error) as error:
        raise DataError(f"{path.name} is damaged ({error}); fetch it again") from None


def _pickled(content: bytes, name: str) -> Batch:
    batch = loads(content, name)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise DataError(f"{name} is no batch of CIFAR-10: it has no data and labels")
    x, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != PIXELS:
        raise DataError(f"{name}: data is no array of {PIXELS} bytes an image")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{name}: labels are no list of whole numbers")
    return _checked(x, np.array(labels, dtype=np.int64), name)


def _binary(content: bytes, name: str) -> Batch:
    """Records of one byte for the label and 3,072 for the image."""
    if len(content) % (1 + PIXELS):
        raise DataError(f"{name} has {len(content):,} bytes, no multiple of {1 + PIXELS}: it is truncated")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return _checked(records[:, 1:], records[:, 0].astype(np.int64), name)


def _checked(x: UInt8[np.ndarray, "n pixels"], y: Int64[np.ndarray, "k"], name: str) -> Batch:
    if len(x) != len(y) or len(y) == 0:
        raise DataError(f"{name} has {len(x)} images and {len(y)} labels")
    if y.min() < 0 or y.max() >= len(CLASSES):
        raise DataError(f"{name} has labels from {y.min()} to {y.max()}, expected 0 to {len(CLASSES) - 1}")
    return x, y


def _source(batches: list[Batch]) -> Source:
    x = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
    return Source(
        standardised(x, MEAN, DEVIATION), np.concatenate([labels for _, labels in batches]), CLASSES
    )

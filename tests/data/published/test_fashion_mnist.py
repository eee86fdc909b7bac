"""Fashion-MNIST from its IDX files."""

import gzip
import struct

import numpy as np
import pytest

import published_files
from ipfl.data.published.fashion_mnist import FILES, fashion_mnist, inspect_fashion_mnist
from ipfl.errors import DataError

NAMES = [file.name for file in FILES]


@pytest.fixture
def folder(tmp_path):
    return published_files.fashion_mnist(tmp_path, train=100, test=30)


def test_images_and_labels_are_read_and_standardised(folder):
    source = fashion_mnist(folder)
    assert (source.x.shape, source.test.x.shape) == ((100, 1, 28, 28), (30, 1, 28, 28))
    assert source.x.dtype == np.float32
    assert np.bincount(source.y).tolist() == [10] * 10
    assert source.class_names[9] == source.test.class_names[9] == "Ankle boot"
    raw = gzip.decompress((folder / NAMES[0]).read_bytes())[16:]
    pixel = raw[28 * 28 * 3 + 28 * 2 + 5]
    assert source.x[3, 0, 2, 5] == pytest.approx((pixel / 255 - 0.2860) / 0.3530, rel=1e-5)


def test_unpacked_files_are_read_as_well(folder):
    packed = fashion_mnist(folder)
    for name in NAMES[:3]:
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress((folder / name).read_bytes()))
        (folder / name).unlink()
    unpacked = fashion_mnist(folder)
    assert np.array_equal(packed.x, unpacked.x)
    assert np.array_equal(packed.y, unpacked.y)
    assert inspect_fashion_mnist(folder).found == (
        "train-images-idx3-ubyte: 100 records",
        "train-labels-idx1-ubyte: 100 records",
        "t10k-images-idx3-ubyte: 30 records",
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_a_truncated_file_is_refused_by_its_name(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=name):
        fashion_mnist(folder)


def images(count, height=28, width=28, magic=2051, body=None):
    return struct.pack(">IIII", magic, count, height, width) + (bytes(count * 784) if body is None else body)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (images(100, magic=2049), "begins with 2049, 100"),
        (images(100, height=32), "begins with 2051, 100, 32, 28; expected 2051 and images of 28 x 28"),
        (images(100, body=bytes(78_399)), "should have 78,400 bytes after its header and has 78,399"),
        (images(100, body=bytes(78_401)), ".*and has more"),
        (images(0), "begins with 2051, 0"),
        (images(2**32 - 1, body=b""), "begins with 2051, 4294967295"),
        (images(99), "has 99 images but train-labels-idx1-ubyte.gz 100 labels"),
        (b"\0\0\x08", "is damaged"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(folder, content, message):
    (folder / NAMES[0]).write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=f"{NAMES[0]} {message}"):
        fashion_mnist(folder)


def test_labels_beyond_the_classes_and_damaged_bytes_are_refused(folder):
    (folder / NAMES[1]).write_bytes(gzip.compress(published_files.idx(np.full(100, 10))))
    with pytest.raises(DataError, match=f"{NAMES[1]} has label 10, expected 0 to 9"):
        fashion_mnist(folder)
    content = bytearray(gzip.compress(published_files.idx(np.zeros(100))))
    content[-6] ^= 1  # the checksum inside the file
    (folder / NAMES[1]).write_bytes(bytes(content))
    with pytest.raises(DataError, match=f"{NAMES[1]} is damaged"):
        fashion_mnist(folder)


def test_what_is_lacking_is_named(folder):
    (folder / NAMES[1]).unlink()
    (folder / NAMES[2]).unlink()
    with pytest.raises(DataError) as error:
        fashion_mnist(folder)
    assert str(error.value) == (
        f"task fashion_mnist: its files are not in {folder}; run `ipfl data fetch fashion_mnist`, or put "
        "train-labels-idx1-ubyte.gz (29 KB), t10k-images-idx3-ubyte.gz (4.2 MB) there"
    )
    inspection = inspect_fashion_mnist(folder)
    assert [line.split()[1] for line in inspection.lacking] == NAMES[1:3]
    assert [line.split()[0] for line in inspection.damaged] == [
        NAMES[0],
        NAMES[3],
    ]  # made up, so not as published
    assert not inspection.complete

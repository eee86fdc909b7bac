"""Small made-up files in the exact layouts of the published data sets. Shared by the tests."""

import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


# ---------------------------------------------------------------- CIFAR-10


def cifar_images(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """Bytes (count, 3072), whose brightness tells the class, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10)
    x = rng.integers(0, 60, (count, 3072)) + 15 * labels[:, None]
    return x.astype(np.uint8), [int(label) for label in labels]


def python2_pickle(x: np.ndarray, labels: list[int], batch_label: str) -> bytes:
    """A batch as Python 2's cPickle wrote it (protocol 2): str of bytes, NumPy under its name of that time."""

    def text(value: bytes) -> bytes:
        return (
            b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
        ) + value

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    names = b"".join(text(f"picture_{index}.png".encode()) for index in range(len(labels)))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + number(x.shape[0])
        + number(x.shape[1])
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text(x.tobytes())
        + b"tb"
    )
    return (
        b"\x80\x02}(U\x0bbatch_label"
        + text(batch_label.encode())
        + b"U\x06labels]("
        + b"".join(map(number, labels))
        + b"eU\x04data"
        + array
        + b"U\x09filenames]("
        + names
        + b"eu."
    )


def python3_pickle(x: np.ndarray, labels: list[int], batch_label: str, protocol: int = 2) -> bytes:
    names = [f"picture_{index}.png".encode() for index in range(len(labels))]
    batch = {b"batch_label": batch_label.encode(), b"labels": labels, b"data": x, b"filenames": names}
    return pickle.dumps(batch, protocol=protocol)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def cifar_batches(per_batch: int = 20) -> dict[str, tuple[np.ndarray, list[int]]]:
    return {name: cifar_images(per_batch, seed) for seed, name in enumerate(BATCHES)}


def cifar10_python(folder: Path, per_batch: int = 20, write: Any = python2_pickle) -> Path:
    """cifar-10-python.tar.gz, its members in the order of the published one."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = cifar_batches(per_batch)
    order = ("data_batch_4", "test_batch", "data_batch_3", "data_batch_2", "data_batch_5", "data_batch_1")
    members = {f"cifar-10-batches-py/{name}": write(*batches[name], name) for name in order}
    members["cifar-10-batches-py/readme.html"] = b"<html>"
    members["cifar-10-batches-py/batches.meta"] = pickle.dumps({"num_vis": 3072}, protocol=0)
    return archive(folder / "cifar-10-python.tar.gz", members)


def cifar10_folder(folder: Path, per_batch: int = 20) -> Path:
    inside = folder / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    for name, (x, labels) in cifar_batches(per_batch).items():
        (inside / name).write_bytes(python2_pickle(x, labels, name))
    return inside


def cifar10_binary(folder: Path, per_batch: int = 20) -> Path:
    """cifar-10-binary.tar.gz: one byte of label and 3,072 of image a record."""
    folder.mkdir(parents=True, exist_ok=True)
    members = {
        f"cifar-10-batches-bin/{name}.bin": np.column_stack([np.array(labels, np.uint8), x]).tobytes()
        for name, (x, labels) in cifar_batches(per_batch).items()
    }
    return archive(folder / "cifar-10-binary.tar.gz", members)


# ---------------------------------------------------------------- Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    """Unsigned bytes in IDX format."""
    return (
        struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def fashion_mnist(folder: Path, train: int = 100, test: int = 30) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = rng.permutation(np.arange(count) % 10)
        images = rng.integers(0, 60, (count, 28, 28)) + 15 * labels[:, None, None]
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder


# ---------------------------------------------------------------- LEAF


def leaf_file(path: Path, users: dict[str, tuple[list[Any], list[Any]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
    }
    path.write_text(json.dumps(content))
    return path


def femnist(folder: Path, writers: int = 8, each: int = 24) -> Path:
    """Two files for training, one for testing; writers use four of the classes."""
    rng = np.random.default_rng(0)

    def examples(count: int) -> tuple[list[Any], list[Any]]:
        labels = rng.permutation(np.arange(count) % 4) * 15
        pixels = np.clip(rng.normal(labels[:, None] / 60, 0.1, (count, 784)), 0, 1).round(4)
        return pixels.tolist(), labels.tolist()

    names = [f"f{number:04d}_{number:02d}" for number in range(writers)]
    half = writers // 2
    stem = "all_data_0_niid_0_keep_0"
    leaf_file(folder / "train" / f"{stem}_train_9.json", {name: examples(each) for name in names[:half]})
    leaf_file(
        folder / "train" / f"{stem.replace('_0_', '_1_', 1)}_train_9.json",
        {n: examples(each) for n in names[half:]},
    )
    leaf_file(folder / "test" / f"{stem}_test_9.json", {name: examples(4) for name in names})
    return folder


LINES = "Then let them all encircle him about, And fairy-like to pinch the unclean knight; And ask him why, "


def shakespeare(folder: Path, roles: int = 6, each: int = 24) -> Path:
    """Sliding windows of 80 characters over each role's line, as LEAF cuts them; the first role's is LINES."""
    rng = np.random.default_rng(0)

    def examples(role: int, count: int) -> tuple[list[Any], list[Any]]:
        line = (LINES * 2)[: count + 80]
        line = "".join(rng.permutation(list(line))) if role else line
        return [line[i : i + 80] for i in range(count)], [line[i + 80] for i in range(count)]

    names = [f"THE_MERRY_WIVES_OF_WINDSOR_ROLE_{number}" for number in range(roles)]
    leaf_file(
        folder / "train" / "all_data_niid_0_keep_0_train_8.json",
        {name: examples(number, each) for number, name in enumerate(names)},
    )
    leaf_file(
        folder / "test" / "all_data_niid_0_keep_0_test_8.json",
        {name: examples(number + 1, 5) for number, name in enumerate(names)},
    )
    return folder


# ---------------------------------------------------------------- PACS

DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
THINGS = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")


def pacs(folder: Path, each: int = 4, side: int = 20) -> Path:
    """`each` pictures per domain and class; the class is the shade, the domain the tint."""
    from PIL import Image

    for domain, domain_name in enumerate(DOMAINS):
        for label, name in enumerate(THINGS):
            inside = folder / domain_name / name
            inside.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                pixels = np.full((side, side, 3), 30 * label + number, np.uint8)
                pixels[..., domain % 3] += 20
                ending = "png" if domain_name == "sketch" else "jpg"
                Image.fromarray(pixels).save(inside / f"pic_{number:03d}.{ending}")
    return folder


WRITERS = {
    "cifar10": cifar10_python,
    "fashion_mnist": fashion_mnist,
    "femnist": femnist,
    "shakespeare": shakespeare,
    "pacs": pacs,
}
"""For each published task, a function that writes small files into a folder."""

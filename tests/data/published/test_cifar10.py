"""CIFAR-10 in its three published forms."""

import gzip
import io
import tarfile

import numpy as np
import pytest

import published_files
from ipfl.data.published import cifar10 as module
from ipfl.data.published.cifar10 import cifar10, inspect_cifar10
from ipfl.errors import DataError

FORMS = [published_files.cifar10_python, published_files.cifar10_folder, published_files.cifar10_binary]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_images_in_the_order_of_the_batches(tmp_path, write):
    write(tmp_path, per_batch=20)
    source = cifar10(tmp_path)
    batches = published_files.cifar_batches(20)
    assert source.x.shape == (100, 3, 32, 32)
    assert source.x.dtype == np.float32
    assert source.test.x.shape == (20, 3, 32, 32)
    assert source.class_names == source.test.class_names
    assert source.class_names[3] == "cat"
    assert source.groups is None
    assert source.y.tolist() == [label for name in module.TRAIN for label in batches[name][1]]
    assert source.test.y.tolist() == batches["test_batch"][1]


def test_pixels_are_standardised_per_channel(tmp_path):
    """Worked by hand: byte 32 * row + column of the second thousand is a green one; (p / 255 - 0.4822) / 0.2435."""
    published_files.cifar10_folder(tmp_path, per_batch=20)
    x, _ = published_files.cifar_batches(20)["data_batch_1"]
    green = x[4, 1024 + 32 * 5 + 7]
    assert cifar10(tmp_path).x[4, 1, 5, 7] == pytest.approx((green / 255 - 0.4822) / 0.2435, rel=1e-5)


def test_an_unpacked_folder_comes_before_archives(tmp_path):
    published_files.cifar10_folder(tmp_path, per_batch=10)
    published_files.cifar10_python(tmp_path, per_batch=20)
    assert len(cifar10(tmp_path).y) == 50


def test_without_files_the_error_says_which_one_to_put_where(tmp_path):
    with pytest.raises(DataError) as error:
        cifar10(tmp_path / "cifar10")
    assert str(error.value) == (
        f"task cifar10: its files are not in {tmp_path / 'cifar10'}; "
        "run `ipfl data fetch cifar10`, or put cifar-10-python.tar.gz (163 MB) there"
    )


@pytest.mark.parametrize("write", [published_files.cifar10_python, published_files.cifar10_binary])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_archive_is_refused_by_its_name(tmp_path, write, share):
    path = write(tmp_path, per_batch=10)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=f"{path.name}.*fetch it again"):
        cifar10(tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    for content in (b"<html>404</html>", gzip.compress(b"no tar"), gzip.compress(b"\0" * 20_000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cifar-10-python.tar.gz"):
            cifar10(tmp_path)


def test_a_huge_member_is_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = module.BATCH_BYTES_MAX + 1
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="data_batch_1 has 67,108,865 bytes: that is no batch"):
        cifar10(tmp_path)


def test_links_in_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(DataError, match="has no data_batch_1"):
        cifar10(tmp_path)


GOOD = published_files.cifar_images(10, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (published_files.python2_pickle(GOOD[0][:9], GOOD[1], "b"), "9 images and 10 labels"),
        (published_files.python2_pickle(GOOD[0], [11] * 10, "b"), "labels from 11 to 11, expected 0 to 9"),
        (published_files.python2_pickle(GOOD[0][:, :100], GOOD[1], "b"), "data is no array of 3072 bytes"),
        (b"\x80\x02}.", "is no batch of CIFAR-10"),
        (b"\x80\x02}(U\x04dataK\x01U\x06labels]u.", "data is no array"),
        (b"", "is damaged, it is no whole pickle"),
        (b"cos\nsystem\n(S'true'\ntR.", "asks for os.system"),
    ],
)
def test_a_malformed_batch_is_refused_by_its_name(tmp_path, content, message):
    inside = published_files.cifar10_folder(tmp_path, per_batch=10)
    (inside / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=f"cifar-10-batches-py/data_batch_3.*{message}"):
        cifar10(tmp_path)
    assert [message in line for line in inspect_cifar10(tmp_path).damaged] == [True]


def test_a_lacking_batch_and_a_truncated_binary_one_are_named(tmp_path):
    inside = published_files.cifar10_folder(tmp_path / "a")
    (inside / "test_batch").unlink()
    with pytest.raises(DataError, match="cifar-10-batches-py has no test_batch"):
        cifar10(tmp_path / "a")
    published_files.archive(tmp_path / "cifar-10-binary.tar.gz", {"x/data_batch_1.bin": bytes(3072)})
    with pytest.raises(DataError, match="data_batch_1 has 3,072 bytes, no multiple of 3073"):
        cifar10(tmp_path)


def test_inspection_of_each_form(tmp_path, monkeypatch):
    assert inspect_cifar10(tmp_path).lacking == (
        f"put cifar-10-python.tar.gz (163 MB, md5 c58f30108f718f92721af3b95e74349a) into {tmp_path} "
        "(from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz)",
    )
    published_files.cifar10_binary(tmp_path)
    assert "cifar-10-binary.tar.gz is not as published" in inspect_cifar10(tmp_path).damaged[0]
    published_files.cifar10_folder(tmp_path, per_batch=20)
    inspection = inspect_cifar10(tmp_path)
    assert inspection.complete
    assert inspection.found[5] == "cifar-10-batches-py/test_batch: 20 of 10,000 images"

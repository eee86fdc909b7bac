"""PACS from its folders of pictures."""

import shutil
import sys

import numpy as np
import pytest

import published_files
from ipfl.data.published.pacs import inspect_pacs, pacs
from ipfl.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return published_files.pacs(tmp_path / "pacs", each=2)


def test_pictures_are_grouped_by_domain(folder):
    source = pacs(folder, side=16)
    assert source.x.shape == (4 * 7 * 2, 3, 16, 16)
    assert source.x.dtype == np.float32
    assert source.group_names == published_files.DOMAINS
    assert np.bincount(source.groups).tolist() == [14] * 4
    assert np.bincount(source.y).tolist() == [8] * 7
    assert source.class_names == published_files.THINGS
    assert source.test is None


def test_pixels_are_standardised_per_channel(folder):
    """The first sketch of a dog (a PNG, so exact): shade 0, domain 3, so red is 20 and green 0."""
    source = pacs(folder, side=16)
    first = int(np.flatnonzero((source.groups == 3) & (source.y == 0))[0])
    assert source.x[first, :2, 5, 5].tolist() == pytest.approx(
        [(20 / 255 - 0.485) / 0.229, (0 / 255 - 0.456) / 0.224], rel=1e-5
    )


def test_domains_may_lie_one_folder_further_in_and_other_files_do_not_matter(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "outer" / "kfold")
    (tmp_path / "outer" / "kfold" / "photo" / "dog" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "outer" / "kfold" / "photo" / "dog" / "._pic.jpg").write_bytes(b"x")
    assert np.array_equal(pacs(tmp_path / "outer", side=8).x, pacs(folder, side=8).x)


def test_grey_and_transparent_pictures_become_red_green_and_blue(folder):
    from PIL import Image

    inside = folder / "sketch" / "dog"
    Image.new("L", (9, 12), 100).save(inside / "pic_000.png")
    Image.new("RGBA", (9, 12), (10, 20, 30, 0)).save(inside / "pic_001.png")
    assert pacs(folder, side=8).x.shape == (56, 3, 8, 8)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_a_damaged_picture_is_refused_by_its_name(folder, content):
    (folder / "photo" / "house" / "pic_001.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"photo/house/pic_001.jpg cannot be read as a picture"):
        pacs(folder, side=8)


def test_a_truncated_picture_is_refused_by_its_name(folder):
    path = folder / "sketch" / "house" / "pic_001.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"sketch/house/pic_001.png cannot be read as a picture"):
        pacs(folder, side=8)


def test_a_picture_that_would_take_all_memory_is_refused(folder, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"art_painting/dog/pic_000.jpg cannot be read.*decompression bomb"):
        pacs(folder, side=8)


def test_what_is_lacking_is_named(tmp_path, folder):
    with pytest.raises(
        DataError, match=r"task pacs: its files are not in .*nowhere; put the folders art_painting"
    ):
        pacs(tmp_path / "nowhere")
    assert not inspect_pacs(tmp_path / "nowhere").complete
    shutil.rmtree(folder / "photo" / "dog")
    shutil.rmtree(folder / "cartoon")
    with pytest.raises(DataError, match=r"lacking: cartoon, photo/dog"):
        pacs(folder)
    inspection = inspect_pacs(folder)
    assert inspection.found == (
        "art_painting: 14 of 2,048 pictures",
        "photo: 12 of 1,670 pictures",
        "sketch: 14 of 3,929 pictures",
    )
    assert [line.split(":")[0] for line in inspection.lacking] == ["cartoon", "photo/dog"]


def test_without_pillow_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"needs Pillow: install it with pip install 'ipfl\[data\]'"):
        pacs(folder)

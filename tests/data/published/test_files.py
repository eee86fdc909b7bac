"""Published files: where they are looked for, and what is found of them."""

import hashlib

import pooch
import pytest

from ipfl.data.published.files import PublishedFile, data_root, inspect_files, size

CONTENT = b"published" * 1000
FILE = PublishedFile("a.gz", "http://localhost/a.gz", len(CONTENT), hashlib.md5(CONTENT).hexdigest())


def test_the_folder_is_the_users_cache_unless_a_variable_names_it(monkeypatch, tmp_path):
    monkeypatch.delenv("IPFL_DATA", raising=False)
    assert data_root() == pooch.os_cache("ipfl")
    monkeypatch.setenv("IPFL_DATA", "")
    assert data_root() == pooch.os_cache("ipfl")
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    assert data_root() == tmp_path


def test_a_file_is_found_lacking_begun_or_damaged(tmp_path):
    lacking = f"put a.gz (9 KB, md5 {FILE.md5}) into {tmp_path} (from http://localhost/a.gz)"
    assert inspect_files(tmp_path, (FILE,)).lacking == (lacking,)
    (tmp_path / "a.gz.part").write_bytes(CONTENT[:2048])
    assert inspect_files(tmp_path, (FILE,)).lacking == (f"{lacking} (2 KB of it are here in a.gz.part)",)
    (tmp_path / "a.gz").write_bytes(CONTENT[:-1])
    inspection = inspect_files(tmp_path, (FILE,))
    assert inspection.damaged[0].startswith("a.gz is not as published: it has 8,999 bytes of 9,000")
    assert not inspection.complete
    (tmp_path / "a.gz").write_bytes(CONTENT)
    assert inspect_files(tmp_path, (FILE,)).complete


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KB"), (1 << 20, "1.0 MB"), (10 << 20, "10 MB")],
)
def test_sizes_in_words(num_bytes, text):
    assert size(num_bytes) == text

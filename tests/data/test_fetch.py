"""Downloads against a local server: whole, cut, corrupted, refused."""

import fcntl
import hashlib
import sys

import numpy as np
import pytest

import mirror
from ipfl.data import fetch as module
from ipfl.data.fetch import fetch, part_of
from ipfl.data.published.files import PublishedFile
from ipfl.errors import DataError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
FILE = PublishedFile(
    "a.tar.gz", "http://127.0.0.1:9/a.tar.gz", len(CONTENT), hashlib.md5(CONTENT).hexdigest()
)
REST = f"try again, or put a.tar.gz (977 KB, md5 {FILE.md5}) into {{}} by hand"


@pytest.fixture
def server():
    with mirror.serving(CONTENT) as running:
        yield running


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refusal(folder, url):
    with pytest.raises(DataError) as error:
        fetch([FILE], folder, url)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_arrives_whole_once_and_is_not_fetched_again(server, tmp_path):
    seen = []
    paths = fetch([FILE], tmp_path / "new", server.url, lambda file, done: seen.append((file.name, done)))
    assert paths == [tmp_path / "new" / "a.tar.gz"]
    assert paths[0].read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["a.tar.gz"]
    assert server.asked == [("/files/a.tar.gz", None)]
    assert seen[-1] == ("a.tar.gz", len(CONTENT))
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    fetch([FILE], tmp_path / "new", server.url)
    assert len(server.asked) == 1


def test_a_mirror_may_be_the_address_of_the_file_itself(server, tmp_path):
    fetch([FILE], tmp_path, f"{server.url}/old/a.tar.gz")
    assert server.asked == [("/files/old/a.tar.gz", None)]


def test_a_cut_connection_is_made_again_and_goes_on_where_it_stopped(server, tmp_path):
    cut = 50 * module.CHUNK
    server.cut_after, server.cuts = cut, 2
    fetch([FILE], tmp_path, server.url)
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT
    assert server.sent == [cut, cut, len(CONTENT) - 2 * cut]  # no byte twice
    assert [asked for _, asked in server.asked] == [None, f"bytes={cut}-", f"bytes={2 * cut}-"]


def test_a_cut_anywhere_costs_less_than_a_chunk(server, tmp_path):
    server.cut_after, server.cuts = 412_345, 1
    fetch([FILE], tmp_path, server.url)
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT
    assert len(CONTENT) <= sum(server.sent) < len(CONTENT) + module.CHUNK


def test_what_was_cut_for_good_is_kept_and_the_next_command_goes_on(server, tmp_path):
    cut = server.cut_after = 12 * module.CHUNK
    message = refusal(tmp_path, server.url)
    assert message.startswith("the download of a.tar.gz was cut at 480 KB of 977 KB (")
    assert message.endswith("): run it again to go on from there")
    assert names(tmp_path) == ["a.tar.gz.part"]
    assert part_of(FILE, tmp_path).read_bytes() == CONTENT[: cut * module.ATTEMPTS]
    server.cut_after = None
    server.sent.clear()
    fetch([FILE], tmp_path, server.url)
    assert server.sent == [len(CONTENT) - cut * module.ATTEMPTS]
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.tar.gz"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    part_of(FILE, tmp_path).write_bytes(CONTENT[:300_000])
    server.ranges = False
    fetch([FILE], tmp_path, server.url)
    assert server.sent == [len(CONTENT)]
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT


def test_a_server_that_does_not_say_lengths_is_not_believed_too_early(server, tmp_path):
    server.lengths, server.cut_after, server.cuts = False, 600_000, 1
    fetch([FILE], tmp_path, server.url)
    assert server.sent == [600_000, 400_000]  # no chunk is lost: the connection just ends
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content", [CONTENT[:-1] + b"\0", CONTENT[:500_000], b"", b"<html>captive portal</html>"]
)
def test_what_is_not_the_published_file_is_deleted_and_named(tmp_path, content):
    with mirror.serving(content) as server:
        message = refusal(tmp_path, server.url)
    assert message == (
        f"a.tar.gz from {server.url}/a.tar.gz is not the published file (its md5 is not {FILE.md5}), so what came "
        "was deleted: try again, or another --url"
    )
    assert names(tmp_path) == []


def test_a_damaged_beginning_is_deleted_so_that_the_next_attempt_succeeds(server, tmp_path):
    part_of(FILE, tmp_path).write_bytes(b"\0" * 300_000)
    assert "is not the published file" in refusal(tmp_path, server.url)
    fetch([FILE], tmp_path, server.url)
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT


def test_a_wrong_file_of_that_name_is_replaced_only_by_the_right_one(server, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"wrong")
    server.status = 503
    refusal(tmp_path, server.url)
    assert (tmp_path / "a.tar.gz").read_bytes() == b"wrong"
    server.status = None
    fetch([FILE], tmp_path, server.url)
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT


def test_a_file_without_end_is_not_downloaded(tmp_path):
    with mirror.serving(CONTENT * 3) as server:
        message = refusal(tmp_path, server.url)
    assert "(it sends more than the 1,000,000 bytes of the file)" in message
    assert part_of(FILE, tmp_path).stat().st_size == 0


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_refuses_is_quoted(server, tmp_path, status):
    server.status = status
    message = refusal(tmp_path, server.url)
    assert message.startswith(
        f"a.tar.gz cannot be downloaded from {server.url}/a.tar.gz (it answers {status} "
    )
    assert message.endswith(REST.format(tmp_path))
    assert len(server.asked) == 1


def test_another_part_than_asked_for_is_refused(server, tmp_path):
    part_of(FILE, tmp_path).write_bytes(CONTENT[:300_000])
    server.shift = 7
    assert "it sends another part of the file" in refusal(tmp_path, server.url)
    assert part_of(FILE, tmp_path).read_bytes() == CONTENT[:300_000]


def test_with_nothing_reachable_the_error_says_which_file_to_put_where(tmp_path):
    """Nothing listens on the discard port of this machine."""
    message = refusal(tmp_path, None)
    assert message == (
        f"a.tar.gz cannot be downloaded from {FILE.url} (Connection refused): {REST.format(tmp_path)}"
    )
    part_of(FILE, tmp_path).write_bytes(CONTENT[:300_000])
    assert refusal(tmp_path, None) == message
    assert part_of(FILE, tmp_path).read_bytes() == CONTENT[:300_000]


def test_a_silent_server_is_not_waited_for_without_end(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = refusal(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "(no answer within 0.2 s)" in message


@pytest.mark.parametrize("url", ["ftp://localhost", "localhost/x", "http://"])
def test_an_address_of_another_kind_is_refused(tmp_path, url):
    message = refusal(tmp_path, url)
    assert message.startswith("a.tar.gz cannot be downloaded from ")
    assert message.endswith(REST.format(tmp_path))


def test_two_downloads_do_not_write_one_file(server, tmp_path):
    with part_of(FILE, tmp_path).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert refusal(tmp_path, server.url).endswith(
            "is being written by another download: wait for it, or end it"
        )
    assert server.asked == []


def test_without_pooch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    message = refusal(tmp_path, None)
    assert message.startswith("downloading needs pooch: pip install 'ipfl[data]'; or put a.tar.gz (977 KB")

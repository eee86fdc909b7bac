"""`ipfl data`: list, fetch and check."""

import dataclasses
import hashlib
import json

import pytest

import mirror
import published_files
from ipfl.data import catalogue, fetch
from ipfl.data.published.files import PublishedFile, inspect_files, size


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    """An empty folder of data sets."""
    monkeypatch.setenv("IPFL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A mirror of a small CIFAR-10, which the catalogue then takes for the published one."""
    content = published_files.cifar10_python(tmp_path / "made").read_bytes()
    with mirror.serving(content) as running:
        file = PublishedFile(
            "cifar-10-python.tar.gz",
            f"{running.url}/cifar-10-python.tar.gz",
            len(content),
            hashlib.md5(content).hexdigest(),
        )
        published = catalogue.Published(lambda folder: inspect_files(folder, (file,)), (file,))
        entry = dataclasses.replace(catalogue.CATALOGUE["cifar10"], published=published)
        monkeypatch.setitem(catalogue.CATALOGUE, "cifar10", entry)
        yield running


# ---------------------------------------------------------------- list


def test_list_names_every_task(ipfl_command, root):
    done = ipfl_command("data", "list")
    assert (done.code, done.err) == (0, "")
    for name, description in catalogue.TASKS.items():
        assert any(line.startswith(name) and description in line for line in done.out.splitlines())
    assert f"Files are looked for in {root}" in done.out


@pytest.mark.parametrize("columns", ["80", "60"])
def test_list_fits_a_narrow_terminal(ipfl_command, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    done = ipfl_command("data", "list")
    assert all(len(line.rstrip()) <= int(columns) for line in done.out.splitlines())


def test_list_as_json(ipfl_command, root):
    listed = json.loads(ipfl_command("data", "list", "--json").out)
    assert listed["folder"] == str(root)
    rows = {row["task"]: row for row in listed["tasks"]}
    assert rows["cifar10"]["files"][0]["md5"] == "c58f30108f718f92721af3b95e74349a"
    assert rows["digits"]["data"] == "built in"
    assert rows["synthetic"]["settings"] == ["shape", "classes", "examples", "test_examples", "difficulty"]
    assert rows["pacs"]["groups"] == "domains"


# ---------------------------------------------------------------- fetch


def test_fetch_then_check_then_nothing_more_to_do(ipfl_command, server, root):
    done = ipfl_command("data", "fetch", "cifar10")
    assert (done.code, done.out) == (0, f"cifar10 is in {root / 'cifar10'}\n")
    assert done.err == f"downloading cifar-10-python.tar.gz ({size(len(server.content))}) ...\n"
    assert ipfl_command("data", "check", "cifar10").code == 0
    assert ipfl_command("data", "fetch", "cifar10", "--quiet") == (0, "", "")
    assert len(server.asked) == 1


def test_fetch_from_a_mirror_into_another_folder(ipfl_command, server, tmp_path):
    done = ipfl_command(
        "data", "fetch", "cifar10", "--folder", "elsewhere", "--url", f"{server.url}/x", "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "task": "cifar10",
        "folder": "elsewhere/cifar10",
        "files": [str(tmp_path / "elsewhere" / "cifar10" / "cifar-10-python.tar.gz")],
    }
    assert server.asked == [("/files/x/cifar-10-python.tar.gz", None)]
    done = ipfl_command("data", "fetch", "cifar10", "--folder", "elsewhere")
    assert f"set IPFL_DATA={tmp_path / 'elsewhere'}" in done.out


def test_fetch_goes_on_where_it_was_cut(ipfl_command, server, root):
    server.cut_after = 2 * fetch.CHUNK
    assert server.cut_after * fetch.ATTEMPTS < len(server.content)
    done = ipfl_command("data", "fetch", "cifar10", "--quiet")
    assert done.code == 2
    assert done.err.startswith("error: the download of cifar-10-python.tar.gz was cut at ")
    assert "are here in cifar-10-python.tar.gz.part" in ipfl_command("data", "check", "cifar10").out
    server.cut_after = None
    assert ipfl_command("data", "fetch", "cifar10", "--quiet").code == 0
    assert sum(server.sent) == len(server.content)


def test_fetch_says_how_to_go_on_after_ctrl_c(ipfl_command, server, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fetch", interrupted)
    done = ipfl_command("data", "fetch", "cifar10")
    assert done.code == 130
    assert done.err == "interrupted; what came is kept: run the same command again to go on from there\n"


def test_a_corrupted_download_ends_with_one_sentence_and_leaves_nothing(ipfl_command, server, root):
    server.content = server.content[:-1] + b"\1"
    done = ipfl_command("data", "fetch", "cifar10", "--quiet")
    assert done.code == 2
    assert done.err.startswith("error: cifar-10-python.tar.gz from http://127.0.0.1")
    assert "is not the published file" in done.err
    assert done.err.count("\n") == 1
    assert list((root / "cifar10").iterdir()) == []


def test_without_a_network_fetch_says_which_file_to_put_where(ipfl_command, root):
    done = ipfl_command("data", "fetch", "fashion_mnist", "--url", "http://127.0.0.1:9/")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: train-images-idx3-ubyte.gz cannot be downloaded from http://127.0.0.1:9/train-images-idx3-ubyte.gz "
        "(Connection refused): try again, or put train-images-idx3-ubyte.gz (25 MB, md5 "
        f"8d4fb7e6c68d591d4c3dfef9ec88bf0d) into {root / 'fashion_mnist'} by hand\n"
    )


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("femnist", "run `./preprocess.sh -s niid --sf 0.1 -k 64 -t sample` in data/femnist/"),
        (
            "shakespeare",
            "run `./preprocess.sh -s niid --sf 0.05 -k 100 -t sample -tf 0.8` in data/shakespeare/",
        ),
        ("pacs", "put the folders art_painting, cartoon, photo, sketch"),
    ],
)
def test_what_is_not_published_as_files_is_explained(ipfl_command, root, name, what):
    done = ipfl_command("data", "fetch", name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {name} is not published as files to download: ")
    assert what in done.err
    assert f"into {root / name}" in done.err
    published_files.WRITERS[name](root / name)
    assert ipfl_command("data", "fetch", name) == (0, f"{name} is in {root / name}\n", "")


def test_fetching_what_needs_no_files_and_what_is_no_task(ipfl_command):
    assert ipfl_command("data", "fetch", "digits") == (
        0,
        "digits needs no files: it comes with the package\n",
        "",
    )
    done = ipfl_command("data", "fetch", "cifr10")
    assert (done.code, done.err) == (2, "error: unknown task 'cifr10'; did you mean 'cifar10'?\n")


# ---------------------------------------------------------------- check


def test_check_of_all_is_content_with_what_was_never_fetched(ipfl_command, root):
    done = ipfl_command("data", "check")
    assert (done.code, done.err) == (0, "")
    assert (
        f"put cifar-10-python.tar.gz (163 MB, md5 c58f30108f718f92721af3b95e74349a) into {root / 'cifar10'}"
        in done.out
    )
    assert "digits: needs no files" in done.out
    assert "femnist: not there" in done.out


@pytest.mark.parametrize("name", ["femnist", "shakespeare", "pacs"])
def test_check_of_one_says_what_is_found_and_fails_where_something_lacks(ipfl_command, root, name):
    assert ipfl_command("data", "check", name).code == 1
    published_files.WRITERS[name](root / name)
    done = ipfl_command("data", "check", name)
    assert (done.code, done.err) == (0, "")
    assert f"{name}: complete, in {root / name}" in done.out


def test_check_of_a_damaged_file_fails_even_if_nobody_asked_for_it(ipfl_command, root):
    published_files.fashion_mnist(root / "fashion_mnist")
    done = ipfl_command("data", "check")
    assert done.code == 1
    assert "fashion_mnist: damaged" in done.out
    assert "train-images-idx3-ubyte.gz is not as published" in done.out


def test_check_as_json_and_in_another_folder(ipfl_command, tmp_path):
    published_files.cifar10_folder(tmp_path / "mine" / "cifar10")
    done = ipfl_command("data", "check", "cifar10", "--folder", tmp_path / "mine", "--json")
    (facts,) = json.loads(done.out)
    assert (done.code, facts["task"], facts["complete"]) == (0, "cifar10", True)
    assert facts["folder"] == str(tmp_path / "mine" / "cifar10")
    assert len(facts["found"]) == 6


# ---------------------------------------------------------------- a run without its files


@pytest.mark.parametrize("name", sorted(published_files.WRITERS))
def test_a_run_without_files_ends_with_one_sentence(ipfl_command, root, name):
    done = ipfl_command("run", "--set", f"task={name}", "--quiet")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: task {name}: its files are not in {root / name}; ")
    assert done.err.count("\n") == 1

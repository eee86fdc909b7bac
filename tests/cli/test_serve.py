"""`ipfl serve` as a process: it says where it is, answers there, refuses in a sentence, and ends quietly."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

COMMAND = [sys.executable, "-c", "from ipfl.cli.main import entry; entry()", "serve"]
TOKEN = "correct-horse-battery-staple"


@contextmanager
def serving(*arguments):
    """The process and the first line it printed; it is killed in the end, whatever happens."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=30)


def get(address, **headers):
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_serves_and_ends_with_ctrl_c(run_folder):
    with serving(run_folder, "--quiet") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        status, text = get(f"{address}api/state")
        assert status == 200
        assert json.loads(text)["state"] == "finished"
        assert get(address)[0] == 200
        assert get(address, Host="evil.example")[0] == 400
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


@pytest.fixture
def served(ipfl_command, monkeypatch):
    """served(arguments...) -> what was printed, and a client of the application that would have been served."""

    def call(*arguments):
        apps = []
        monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: apps.append(server.config.app))
        done = ipfl_command("serve", *arguments)
        assert (done.code, done.err) == (0, "")
        return done.out, TestClient(apps[0], base_url="http://market.example")

    return call


def test_a_host_that_others_reach_has_a_token(served, run_folder):
    out, ask = served(run_folder, "--host", "0.0.0.0", "--port", 0)
    first, second = out.splitlines()
    address, _, token = first.partition("?token=")
    assert address.startswith(f"{run_folder} is shown at http://{socket.gethostname()}:")
    assert second == "The token was made for this time. JSON: /docs. Ctrl-C ends it."
    assert len(token) >= 32
    assert ask.get("/api/state").status_code == 401
    assert ask.get("/api/state", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert served(run_folder, "--host", "0.0.0.0", "--port", 0)[0] != out


def test_the_token_of_a_file(served, run_folder, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    out, ask = served(run_folder, "--token-file", tmp_path / "token", "--port", 0)
    assert TOKEN not in out
    assert f"The token is that of {tmp_path / 'token'}: open the address with ?token=TOKEN once." in out
    assert ask.get("/api/state").status_code == 401
    assert ask.get("/api/state", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_on_this_machine_there_is_no_token(served, run_folder):
    for host in ("127.0.0.1", "localhost"):
        out, ask = served(run_folder, "--host", host, "--port", 0)
        assert out.splitlines()[0].startswith(f"{run_folder} is shown at http://{host}:")
        assert ask.get("/api/state").status_code == 400  # it was asked for as market.example
        assert ask.get("/api/state", headers={"Host": host}).status_code == 200


def test_what_cannot_be_served_is_a_sentence(ipfl_command, run_folder, tmp_path):
    done = ipfl_command("serve", "absent")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: no run folder at absent: give the folder that `ipfl run --out` wrote\n"
    done = ipfl_command("serve", tmp_path)
    assert done.code == 2
    assert "is not a run folder" in done.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ipfl_command("serve", run_folder, "--port", port)
    assert done.code == 1
    assert done.err == (
        f"error: cannot listen at 127.0.0.1, port {port} (Address already in use): "
        "give another --port (0 takes any that is free) or --host\n"
    )
    done = ipfl_command("serve", run_folder, "--host", "192.0.2.1", "--port", 0)  # an address of nobody
    assert done.code == 1
    assert done.err.startswith(
        "error: cannot listen at 192.0.2.1, port 0 (Cannot assign requested address): "
    )
    done = ipfl_command("serve", run_folder, "--host", "no.such.host.invalid")
    assert done.code == 1
    assert done.err.startswith("error: cannot listen at no.such.host.invalid, port 8321 (")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"short\n", "16 or more"),
        (b"with blanks in the token\n", "without blanks"),
        (b"\xff\xfe" * 20, "it is not text"),
    ],
)
def test_a_token_file_that_is_none(ipfl_command, run_folder, tmp_path, content, words):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    done = ipfl_command("serve", run_folder, "--token-file", tmp_path / "token")
    assert done.code == 2
    assert done.err.startswith("error: --token-file: ")
    assert words in done.err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_the_extra(ipfl_command, run_folder, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith(("ipfl.serve", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    done = ipfl_command("serve", run_folder)
    assert done.code == 2
    assert done.err == f"error: serving needs {package}, which is not installed: pip install 'ipfl[serve]'\n"

"""The example of a market in containers: what its files promise, and that they fit together. No container is run."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ipfl.cli.host import host
from ipfl.cli.join import join
from ipfl.ledger import operator_key
from ipfl.network.certificates import check_certificate, check_pair, read_certificate
from ipfl.network.keys import read_participant_key
from ipfl.network.market_file import read_market
from ipfl.network.terms import read_terms
from network.ports import free_port

yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.slow  # dealing out takes most of it
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "network"
PROXY = EXAMPLE.parent / "nginx-market.conf"
MEMBERS = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((EXAMPLE / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def dealt(tmp_path_factory):
    """The volumes, once `setup` has filled them."""
    volumes = tmp_path_factory.mktemp("volumes")
    assert deal_out(volumes) == "dealt out"
    return volumes


def deal_out(volumes):
    done = subprocess.run(
        [sys.executable, EXAMPLE / "deal_out.py", volumes],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()[-1]


def mounts(service):
    """Volume by the place that it is mounted at."""
    return dict(reversed(text.split(":")[:2]) for text in service.get("volumes", []))


# ---------------------------------------------------------------- compose.yaml


def test_compose_itself_accepts_it():
    plugin = (
        subprocess.run(["docker", "compose", "version"], capture_output=True)
        if shutil.which("docker")
        else None
    )
    command = ["docker", "compose"] if plugin is not None and plugin.returncode == 0 else ["docker-compose"]
    if not shutil.which(command[0]):
        pytest.skip("needs Docker Compose; its daemon is not needed")
    done = subprocess.run(
        [*command, "-f", EXAMPLE / "compose.yaml", "config", "--quiet"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_there_is_an_operator_a_proxy_and_four_participants(services):
    assert set(services) == {"setup", "operator", "proxy", *MEMBERS}
    images = {service["image"] for name, service in services.items() if name != "proxy"}
    assert images == {"ipfl-market"}
    assert all("/" not in service["image"] for service in services.values())  # no registry's name
    assert [name for name, service in services.items() if "build" in service] == ["setup"]


def test_nobody_has_rights_that_it_does_not_need(services):
    for service in services.values():
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)


def test_the_proxy_may_write_its_log(services):
    (log,) = re.findall(r"error_log (\S+) info;", PROXY.read_text())
    assert str(Path(log).parent) in [text.partition(":")[0] for text in services["proxy"]["tmpfs"]]


def test_one_port_is_published_and_to_this_machine_alone(services):
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "operator": ["127.0.0.1:8443:443"]
    }


def test_the_control_interface_is_on_a_loopback_interface_that_the_proxy_alone_shares(compose, services):
    shared = {
        name: service["network_mode"] for name, service in services.items() if "network_mode" in service
    }
    assert shared == {"setup": "none", "proxy": "service:operator"}
    assert all(services[name]["networks"] == ["members"] for name in MEMBERS)
    assert compose["networks"]["members"] == {"internal": True}
    assert services["operator"]["networks"] == ["members", "outside"]
    assert "expose-control" not in (EXAMPLE / "compose.yaml").read_text()


def test_each_participant_has_a_volume_that_nobody_else_mounts_but_setup(compose, services):
    by_volume = {name: set() for name in compose["volumes"]}
    for name, service in services.items():
        for volume in mounts(service).values():
            if not volume.startswith("."):
                by_volume[volume].add(name)
    assert by_volume == {
        "authority": {"setup"},
        "operator": {"setup", "operator"},
        "proxy": {"setup", "proxy"},
        **{name: {"setup", name} for name in MEMBERS},
    }


def test_what_waits_for_what(services):
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert waits.pop("setup") == {}
    assert set(waits.pop("proxy")) == {"operator"}
    assert all(
        needed == {"setup": {"condition": "service_completed_successfully"}} for needed in waits.values()
    )


def test_the_commands_are_commands(services):
    for name in MEMBERS:
        command, *arguments = services[name]["command"]
        found = join.make_context(command, arguments).params
        assert (found["address"], found["yes"], found["home"]) == ("operator:443", True, Path("home"))
        assert found["terms_file"] == Path(f"{name}.toml")
    (script,) = services["operator"]["command"]
    command = re.search(r"exec ipfl host (.*) \"\$\$@\"$", script)[1].split()
    for choice in re.findall(r"set -- ([^;]*);", script):
        found = host.make_context("host", [*command, *choice.split()]).params
        assert Path("run") in (found["out"], found["resume_from"])
    assert subprocess.run(["sh", "-n", "-c", script.replace("$$", "$")]).returncode == 0


# ---------------------------------------------------------------- the image


def test_the_image_is_made_of_what_is_there_and_names_no_registry():
    text = (EXAMPLE / "Dockerfile").read_text()
    assert re.findall(r"(?m)^FROM (.*)$", text) == ["python:3.11-slim"]
    assert re.findall(r"(?m)^USER (.*)$", text) == ["1000:1000"]
    assert "://" not in text
    sent = (EXAMPLE / "Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"(?m)^COPY (.*)$", text):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in sent


def test_every_place_that_a_volume_is_mounted_at_is_in_the_image(services):
    text = (EXAMPLE / "Dockerfile").read_text()
    names = re.search(r"for name in ([^;]*);", text)[1].split()
    made = {f"/volumes/{name}" for name in names} | {"/market"}
    assert made == {
        place for name, service in services.items() if name != "proxy" for place in mounts(service)
    }


# ---------------------------------------------------------------- what setup makes


def test_everybody_finds_its_own_files_and_no_other(dealt, services):
    market = read_market(dealt / "operator" / "market.toml")
    assert [member.participant_id for member in market.members] == list(MEMBERS)
    operator = operator_key(dealt / "operator" / "keys" / "operator.key").public
    for name in MEMBERS:
        terms = read_terms(dealt / name / f"{name}.toml")
        assert (terms.participant_id, terms.operator_key) == (name, operator)
        assert Path(terms.ca) == dealt / name / "keys" / "ca.crt"
        assert read_participant_key(dealt / name / f"{name}.key").public_text == market.public_keys[name]
    check_certificate(dealt / "proxy" / "server.crt", dealt / "hospital-a" / "keys" / "ca.crt", "operator")
    check_pair(
        read_certificate(dealt / "proxy" / "server.crt"), dealt / "proxy", dealt / "proxy" / "server.key"
    )
    found = {str(path.relative_to(dealt)) for path in dealt.rglob("*") if path.suffix == ".key"}
    assert found == {
        "authority/ca.key", "operator/keys/operator.key", "operator/keys/server.key", "proxy/server.key",
        *(f"{name}/{name}.key" for name in MEMBERS),
    }  # fmt: skip
    assert all((dealt / name).stat().st_mode & 0o077 == 0 for name in found)


def test_the_port_is_the_one_that_the_proxy_forwards_to(dealt):
    market = read_market(dealt / "operator" / "market.toml")
    assert f"server {market.network.host}:{market.network.port};" in PROXY.read_text()
    assert market.network.host == "127.0.0.1"


def test_a_second_time_nothing_is_made_again(dealt):
    key = (dealt / "hospital-a" / "hospital-a.key").read_bytes()
    assert deal_out(dealt) == "dealt out before"
    assert (dealt / "hospital-a" / "hospital-a.key").read_bytes() == key


def test_the_files_that_are_mounted_from_here(services):
    for source in mounts(services["proxy"]).values():
        assert source == "proxy" or (EXAMPLE / source).is_file()


# ---------------------------------------------------------------- the same as processes


def environment():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}


@contextmanager
def running(command, cwd, log):
    """A process; it is asked to end as compose would, with SIGINT."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def changed(path, to, **places):
    """Write a file with the places of a container replaced by those of this test."""
    text = path.read_text()
    for given, here in places.values():
        assert given in text
        text = text.replace(given, str(here))
    to.write_text(text)


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)")
@pytest.mark.skipif(importlib.util.find_spec("flwr") is None, reason="needs flwr")
def test_the_market_runs_to_its_end_through_the_proxy(dealt, services, tmp_path):
    public, inner = free_port(), free_port()
    volumes = shutil.copytree(dealt, tmp_path / "volumes")
    changed(
        PROXY,
        tmp_path / "market.conf",
        keys=("/srv/market/keys", volumes / "proxy"),
        upstream=("127.0.0.1:8000", f"127.0.0.1:{inner}"),
        listen=("listen 443", f"listen 127.0.0.1:{public}"),
        log=("/var/log/nginx/", f"{tmp_path}/"),
    )
    changed(
        EXAMPLE / "nginx.conf",
        tmp_path / "nginx.conf",
        tmp=("/tmp/", f"{tmp_path}/"),
        market=("/etc/nginx/conf.d/market.conf", tmp_path / "market.conf"),
    )
    market = volumes / "operator" / "market.toml"
    changed(market, market, port=("port = 8000", f"port = {inner}"), rounds=("rounds = 6", "rounds = 2"))
    for name in MEMBERS:
        terms = volumes / name / f"{name}.toml"
        changed(terms, terms, rounds=("rounds = 6", "rounds = 2"))
    nginx = [NGINX, *services["proxy"]["entrypoint"][1:], "-c", tmp_path / "nginx.conf"]
    (script,) = services["operator"]["command"]
    operator = [*services["operator"]["entrypoint"], script.replace("$$", "$")]
    with ExitStack() as ends:
        proxy = ends.enter_context(running(nginx, tmp_path, tmp_path / "proxy.log"))
        processes = [ends.enter_context(running(operator, volumes / "operator", tmp_path / "operator.log"))]
        for name in MEMBERS:
            command = ["ipfl", *services[name]["command"]]
            command[command.index("operator:443")] = f"localhost:{public}"
            processes.append(ends.enter_context(running(command, volumes / name, tmp_path / f"{name}.log")))
        end = time.monotonic() + 800
        while any(process.poll() is None for process in processes) and proxy.poll() is None:
            assert time.monotonic() < end, "it takes too long"
            time.sleep(0.2)
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert [process.returncode for process in processes] == [0] * 5, logs
    for name in MEMBERS:
        home = volumes / name / "home"
        assert json.loads((home / "summary.json").read_text())["rounds"] == 2
        assert (home / "statement.csv").exists()
    again = subprocess.run(operator, cwd=volumes / "operator", capture_output=True, env=environment())
    assert (again.returncode, again.stderr) == (0, b"")  # a finished market is shown again

"""The example of a proxy lets participants through, and nobody to the rest. nginx runs as an ordinary process here."""

import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.network.flower_host import FlowerHost
from ipfl.network.flower_node import FlowerNode
from ipfl.network.keys import make_participant_key
from network.ports import free_port
from network.proxy import NGINX, proxy_command

pytest.importorskip("flwr")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)"),
]


@pytest.fixture
def proxy_port(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The port of the proxy, and that of the SuperLink it stands before."""
    public, inner = free_port(), free_port()
    make_authority(tmp_path / "keys", "test")
    make_server_certificate(tmp_path / "keys", ["localhost"])
    places = {
        "127.0.0.1:8000": f"127.0.0.1:{inner}",
        "listen 443": f"listen 127.0.0.1:{public}",
        "market.example": "localhost",
    }
    command = proxy_command(tmp_path, tmp_path / "keys", places)
    with subprocess.Popen(command) as nginx:
        try:
            end = time.monotonic() + 20
            while _status(public, tmp_path, "/") is None:
                assert nginx.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
            yield public, inner
        finally:
            nginx.terminate()


def test_participants_get_through_the_proxy_and_nobody_to_the_rest(
    proxy_port: tuple[int, int], tmp_path: Path
) -> None:
    public, inner = proxy_port
    key = make_participant_key(tmp_path / "north")
    host = FlowerHost(tmp_path / "host", tmp_path / "keys", port=inner)
    stop = threading.Event()
    node = FlowerNode(
        tmp_path / "node", f"localhost:{public}", tmp_path / "keys" / "ca.crt", tmp_path / "north"
    )
    serving = threading.Thread(target=node.serve, args=(lambda body: body[::-1], stop))
    try:
        host.start({"north": key.public_text})
        serving.start()
        end = time.monotonic() + 60
        while not host.online():
            assert time.monotonic() < end
            time.sleep(0.2)
        body = os.urandom(20_000_000)
        assert host.exchange({key.fingerprint: body}, 90) == ({key.fingerprint: body[::-1]}, {})

        for path in ("/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/get-nodes", "/docs"):
            assert _status(public, tmp_path, path, "POST") == 404
            assert _status(public, tmp_path, f"/v1/fleet/..{path}", "POST") == 404
            assert _status(public, tmp_path, f"/v1/fleet/%2e%2e{path[3:]}", "POST") == 404
        # what the proxy keeps from others does answer behind it
        assert _status(inner, tmp_path, "/v1/control/list-nodes", "POST") not in (None, 404)
    finally:
        stop.set()
        if serving.is_alive():
            serving.join(60)
        host.close()


def _status(port: int, folder: Path, path: str, method: str = "GET") -> int | None:
    context = ssl.create_default_context(cafile=folder / "keys" / "ca.crt")
    connection = HTTPSConnection("localhost", port, context=context, timeout=10)
    try:
        connection.request(method, path, headers={"Content-Length": "0"})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()

"""Keys that are replaced while the market is paused, over Flower: who stays comes back, who is out stays out."""

from pathlib import Path

import pytest

from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.network.flower_host import FlowerHost
from ipfl.network.keys import make_participant_key
from network.ports import free_port
from network.test_flower_loopback import PLENTY_S, Participant, node, waits_until

pytest.importorskip("flwr")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_with_a_new_key_a_member_comes_in_and_with_its_old_one_no_more(tmp_path: Path) -> None:
    make_authority(tmp_path / "keys", "test")
    make_server_certificate(tmp_path / "keys", ["localhost"])
    port = free_port()
    keys = {name: make_participant_key(tmp_path / name) for name in ("north", "south", "south-new")}
    north, south, new = (
        Participant(node(tmp_path, port, tmp_path / f"{name}-node", tmp_path / name), key)
        for name, key in keys.items()
    )
    new.answer = bytes.title
    log: list[str] = []

    def start(*names: str) -> FlowerHost:
        host = FlowerHost(tmp_path / "host", tmp_path / "keys", port=port, log=log.append)
        host.start({name: keys[name].public_text for name in names})
        return host

    host = start("north", "south")
    try:
        north.join()
        south.join()
        waits_until(lambda: host.online() == {north.key.fingerprint, south.key.fingerprint})
        host.close()
        host = start("north", "south-new")
        new.join()
        both = {north.key.fingerprint, new.key.fingerprint}
        waits_until(lambda: host.online() == both)  # north's program has run on all the time
        replies, reasons = host.exchange(dict.fromkeys(both, b"who is there"), PLENTY_S)
        assert reasons == {}
        assert replies == {
            north.key.fingerprint: b"WHO IS THERE",
            new.key.fingerprint: b"Who Is There",
        }
        waits_until(lambda: any(south.key.fingerprint in line for line in [*log, *_look(host, log)]))
        assert host.online() == both
        assert north.error is None
    finally:
        for participant in (north, south, new):
            participant.leave()
        host.close()


def _look(host: FlowerHost, log: list[str]) -> list[str]:
    """What the operator's log has, once the SuperLink's has been looked at again."""
    host.online()
    return log

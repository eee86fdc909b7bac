"""The market between machines: an operator behind its proxy and two participants that share no loopback with it."""

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ipfl
from ipfl.ledger import Ledger
from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.network.market_file import read_market
from ipfl.network.own_disk import OwnDisk
from network.apart import ADDRESS, BIDS, HOST, IPFL, JOIN, NAMES, PAGE_PORT, Site, prepare
from network.machines import IP, machines
from network.proxy import LOG, NGINX

MARGIN_S = 10.0
"""What a round may take beyond its deadline on a busy machine."""
LATE_CLOCK = """
import time
from ipfl.cli.main import entry
right = time.time
time.time = lambda: right() - 400
entry()
"""
OPEN_PORTS = """
import socket, sys
def is_open(port):
    with socket.socket() as tried:
        tried.settimeout(5)
        return tried.connect_ex((sys.argv[1], port)) == 0
print([port for port in range(1, 65536) if is_open(port)])
"""
ASK = """
import ssl, sys
from http.client import HTTPSConnection
context = ssl.create_default_context(cafile="ca.crt")
for path in sys.argv[2:]:
    connection = HTTPSConnection(sys.argv[1], 443, context=context, timeout=10)
    connection.request("POST", path, headers={"Content-Length": "0"})
    print(path, connection.getresponse().status)
    connection.close()
"""
CONTROL = ("/v1/control/list-nodes", "/v1/control/start-run", "/v1/fleet/../control/list-nodes", "/health")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces"),
    pytest.mark.skipif(IP is None, reason="needs ip (Debian: iproute2), to make network namespaces"),
    pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)"),
    pytest.mark.skipif(importlib.util.find_spec("flwr") is None, reason="needs the extra ipfl[flower]"),
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as ends:
        try:
            made = ends.enter_context(machines("operator", *NAMES, host=HOST))
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        for name in ("operator", *NAMES):
            (tmp_path / name).mkdir()
        site = Site(tmp_path, made)
        ends.callback(site.close)
        yield site


# ---------------------------------------------------------------- a market


def test_it_bills_what_it_bills_in_one_process_and_nobody_reaches_more_than_the_proxy(site: Site) -> None:
    prepare(site, rounds=2, steps=5, deadline_s=60)
    site.start_all()
    site.wait(lambda: "Live page" in site.log("operator").read_text(), "the page")
    found = reached(site)
    site.wait_for_the_end()
    alone = in_process(site)
    over = ipfl.load_run(site.run)
    for name in ("ledger.csv", "edges.csv"):
        assert (over.path / name).read_bytes() == (alone.path / name).read_bytes()
    with Ledger.open(alone.path / "ledger.db") as ledger:
        balances = ledger.balances()
    assert any(balances.values()), "something was bought"
    assert {name: moved(site, name) for name in NAMES} == {name: balances[name] for name in NAMES}
    check_reached(found)


def in_process(site: Site) -> ipfl.Run:
    """The same market on one machine."""
    data = site.folder / "data"
    data.mkdir()
    for name in NAMES:
        shutil.copy(site.folder / name / "mine.csv", data / f"{name}.csv")
    rows = [{"id": name, "valuation": bid[0], "export_cost": bid[1]} for name, bid in BIDS.items()]
    market = read_market(site.folder / "operator" / "market.toml")
    config = market.config.model_dump() | {"data": str(data), "participants": {"rows": rows}}
    return ipfl.run(ipfl.Config.model_validate(config), out=site.folder / "alone")


def moved(site: Site, name: str) -> int:
    """The sum of the lines of all bills that a participant has on its disk."""
    return sum(
        line["amount"] for bill in OwnDisk(site.folder / name / "home").bills for line in bill["lines"]
    )


def reached(site: Site) -> dict[str, str]:
    """What answers while the market runs: to a participant, and after that to the operator itself."""
    scan, operator = [sys.executable, "-c", OPEN_PORTS], site.machines.address("operator")
    return {
        "ports": site.said("north", [*scan, operator]),
        "own ports": site.said("operator", [*scan, "127.0.0.1"]),
        "paths": site.said("north", [sys.executable, "-c", ASK, HOST, *CONTROL]),
    }


def check_reached(found: dict[str, str]) -> None:
    assert found["ports"] == "[443]\nexit 0"
    own = set(json.loads(found["own ports"].partition("\n")[0]))
    assert {443, 8000, PAGE_PORT} <= own, "what participants do not reach was there"
    assert found["paths"] == "".join(f"{path} 404\n" for path in CONTROL) + "exit 0"


# ---------------------------------------------------------------- a link that goes down


@pytest.mark.parametrize(("how", "moment"), [("link", "training"), ("cable", "receiving")])
def test_a_round_ends_without_one_whose_link_is_down_and_it_comes_back_and_pays_for_none_that_it_missed(
    site: Site, how: str, moment: str
) -> None:
    rounds, deadline_s = 9, 12.0
    prepare(site, rounds=rounds, steps=200, deadline_s=deadline_s)
    site.start_all()
    site.wait(lambda: len(site.rounds()) >= 2 and doing(site, "south") == moment, "a round under way")
    set_state = getattr(site.machines, how)
    set_state("south", "down")
    under_way = len(site.rounds())
    time.sleep(deadline_s + 4)
    set_state("south", "up")
    site.wait_for_the_end()
    lines = site.rounds()
    away = [line["round_index"] for line in lines if "south" not in present(line)]
    assert away[0] == under_way
    assert away[-1] < rounds - 1, "it came back"
    assert all("north" in present(line) for line in lines)
    assert all(line["seconds"]["total"] < deadline_s + MARGIN_S for line in lines)
    assert lines[under_way]["seconds"]["total"] > deadline_s - 1, "it was waited for"
    bills = {name: OwnDisk(site.folder / name / "home").bills for name in NAMES}
    for name in NAMES:
        assert [bill["round_index"] for bill in bills[name]] == list(range(rounds))
        assert all(bool(bill["lines"]) != (bill["round_index"] in away) for bill in bills[name])
    with Ledger.open(site.run / "ledger.db") as ledger:
        balances = ledger.balances()
    assert {name: moved(site, name) for name in NAMES} == {name: balances[name] for name in NAMES}


def present(line: dict) -> set[str]:
    return {entry["id"] for entry in line["participants"] if entry["present"]}


def doing(site: Site, name: str) -> str:
    """What a participant does with the newest request, by its SuperNode's log."""
    said = (site.folder / name / "home" / "flower" / "supernode.log").read_text()
    steps = {"Receiving:": "receiving", "Received successfully": "training", "Sending:": "answering"}
    return steps[max(steps, key=said.rfind)]


# ---------------------------------------------------------------- who is refused, and what either side is told


def test_an_expired_certificate_is_told_to_both_sides(site: Site) -> None:
    prepare(site, rounds=1, steps=1, deadline_s=60)
    for name in ("server.key", "server.crt"):
        (site.keys / name).unlink()
    make_server_certificate(site.keys, [HOST], days=1, now=datetime.now(UTC) - timedelta(days=3))
    site.start_proxy()
    assert refused(site, "north") == (
        f"error: the certificate of {ADDRESS} has expired: the operator has to renew it"
    )
    assert alerts(site) == [(site.machines.address("north"), "certificate expired")]


def test_another_authoritys_ca_is_told_to_both_sides(site: Site) -> None:
    prepare(site, rounds=1, steps=1, deadline_s=60)
    make_authority(site.folder / "other", "somebody else")
    shutil.copy(site.folder / "other" / "ca.crt", site.folder / "south" / "ca.crt")
    site.start_proxy()
    told = f"error: the certificate of {ADDRESS} is not signed by the authority of "
    assert refused(site, "south").startswith(told)
    assert alerts(site) == [(site.machines.address("south"), "unknown ca")]


def test_a_clock_that_is_late_is_told_by_the_participants_own_side_and_the_market_hears_nothing(
    site: Site,
) -> None:
    prepare(site, rounds=1, steps=1, deadline_s=60)
    site.start_proxy()
    said = refused(site, "north", [sys.executable, "-c", LATE_CLOCK])
    assert re.match(
        rf"error: this machine's clock \(.* UTC\) is (399|40\d) s behind that of {ADDRESS}, and the market allows ",
        said,
    )
    assert alerts(site) == []


def refused(site: Site, name: str, ipfl_command: Sequence[str] = tuple(IPFL)) -> str:
    """The last thing that `ipfl join` says before it ends in an error."""
    *_, told, ended = site.said(name, [*ipfl_command, *JOIN]).splitlines()
    assert ended != "exit 0"
    return told


def alerts(site: Site) -> list[tuple[str, str]]:
    """Whom the proxy's log names for having broken off, and over what."""
    text = (site.folder / "operator" / LOG).read_text()
    found = re.findall(r" \[info\] .* alert (.+?):SSL alert number \d+\).* client: ([\d.]+),", text)
    return [(address, alert) for alert, address in found]

"""`ipfl host`: a market from its file to its end, paused and gone on with; what is wrong is a sentence beforehand."""

import json
import re
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from cli.wire import change, free_port, let_nothing_start, moved, tree
from ipfl.cli.host import run_of
from ipfl.config import Config
from ipfl.engines.messages import REPLY, opened, sealed
from ipfl.errors import ConfigError
from ipfl.ledger import operator_key
from ipfl.network.certificates import make_authority, make_server_certificate, renew
from ipfl.network.keys import make_participant_key
from network.markets import NAMES

HOST = ("host", "market.toml", "--out", "run", "--page-port", "0")


@pytest.fixture
def there(world, wire):
    """All members are connected."""
    wire.connect(world, *NAMES)
    return wire


# ---------------------------------------------------------------- a market


def test_a_market_from_its_file_to_its_end(ipfl_command, world, there):
    with pytest.raises(
        ConfigError, match=r"market\.toml has not been hosted here yet: `ipfl host .*` begins"
    ):
        run_of(world.folder / "market.toml")
    done = ipfl_command(*HOST)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"starting the market at 127.0.0.1:{world.market.network.port} ..."
    assert "ipfl on market: 4 participants, 2 rounds, mlp with" in lines[1]
    assert [line[:11] for line in lines[2:4]] == ["round   1/2", "round   2/2"]
    assert lines[-3:] == [
        "Run folder  run",
        "Page        run/report.html",
        "Money       ledger.db; check it: ipfl verify run",
    ]
    (end,) = there.hosts
    assert end.address == ("127.0.0.1", world.market.network.port)
    assert sorted(end.public_keys) == sorted(NAMES)
    assert end.closed
    assert run_of(world.folder / "market.toml") == world.folder / "run"
    assert not (world.folder / "market.network" / "refused.log").exists()
    assert ipfl_command("verify", "run").code == 0


def test_quiet_prints_the_run_folder_alone(ipfl_command, world, there, monkeypatch):
    own = world.folder / "own.key"  # where there is none beside the certificates
    (world.folder / "keys" / "operator.key").rename(own)
    monkeypatch.setenv("IPFL_OPERATOR_KEY", str(own))
    assert ipfl_command("host", "market.toml", "--page-port", "0", "--quiet") == (0, "runs/market-001\n", "")
    environment = json.loads((world.folder / "runs" / "market-001" / "environment.json").read_text())
    assert environment["operator_key"] == operator_key(own).public == world.operator.public


def test_json_prints_the_summary_alone_also_of_a_finished_market(ipfl_command, world, there):
    done = ipfl_command(*HOST, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == json.loads((world.folder / "run" / "summary.json").read_text())
    assert ipfl_command("host", "market.toml", "--resume", "run", "--json") == done
    assert len(there.hosts) == 1  # nobody was asked again


# ---------------------------------------------------------------- paused and gone on with


def interrupt_at(wire, round_index):
    """Ctrl-C once somebody has trained a round."""

    def watch(request):
        if request["what"] == "train" and request["round_index"] == round_index:
            wire.watch = lambda request: None
            signal.raise_signal(signal.SIGINT)

    wire.watch = watch


def test_ctrl_c_pauses_and_says_how_to_go_on(ipfl_command, world, there):
    interrupt_at(there, 1)
    done = ipfl_command(*HOST, "--quiet")
    assert (done.code, done.out) == (130, "")
    assert done.err == (
        "interrupted; every finished round is on disk: go on with `ipfl host market.toml --resume run`\n"
    )
    assert there.hosts[0].closed
    assert len((world.folder / "run" / "rounds.jsonl").read_text().splitlines()) == 1

    done = ipfl_command("host", "market.toml", "--resume", "run", "--page-port", "0")
    assert (done.code, done.err) == (0, "")
    assert "going on from round 1" in done.out
    assert re.findall("(?m)^round +[0-9]/[0-9]", done.out) == ["round   2/2"]
    assert ipfl_command("verify", "run").code == 0
    summaries = [world.folder / "homes" / name / "summary.json" for name in NAMES]
    assert [json.loads(path.read_text())["rounds"] for path in summaries] == [2] * 4


def test_ctrl_c_while_it_waits_for_members(ipfl_command, world, wire, monkeypatch):
    wire.connect(world, *NAMES[:3])
    asked = iter(range(20))

    def online(end):
        if next(asked) == 10:
            signal.raise_signal(signal.SIGINT)
        return set(wire.answers)

    monkeypatch.setattr("cli.wire.HostEnd.online", online)
    renew(world.folder / "keys", days=20)
    keys = world.folder / "keys"
    done = ipfl_command(*HOST)
    assert (done.code, done.err.splitlines()) == (
        130,
        [f"warning: {keys / 'server.crt'} ends in 19 days: `ipfl keys renew {keys}`", "", "interrupted"],
    )
    assert done.out.splitlines()[-1] == "3 of 4 members are there; waiting for hospital-d ..."
    assert wire.hosts[0].closed
    assert not (world.folder / "run").exists()


# ---------------------------------------------------------------- what is refused, and the page


def test_refusals_are_logged_with_time_and_name_and_in_plain_letters(ipfl_command, world, there):
    hostile = "\x1b[2Jno [/bold] [red]\n2026-01-01T00:00:00+00:00 hospital-a: it lied"
    key = world.keys["hospital-c"]
    answer = there.answers[key.fingerprint]

    def refuse(message):
        content = opened(REPLY, answer(message), lambda *_: True, 1 << 30).content
        if content["what"] != "trained":
            return sealed(REPLY, content, {}, key.sign)
        return sealed(REPLY, content | {"what": "refusal", "reason": hostile}, {}, key.sign)

    there.answers[key.fingerprint] = refuse
    done = ipfl_command(*HOST)
    assert done.code == 0
    lines = (world.folder / "market.network" / "refused.log").read_text().splitlines()
    assert len(lines) == 2  # of two rounds
    for line in lines:
        when, _, what = line.partition(" ")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(when)) < timedelta(minutes=5)
        assert what.startswith("hospital-c: ")
        assert "no [/bold] [red]" in what
        assert what.isprintable()
        assert f"refused: {what}" in done.err.splitlines()
    assert "\x1b" not in done.out + done.err
    assert "hospital-c refused: " in done.out
    assert ipfl_command("verify", "run").code == 0


def test_the_live_page_is_there_from_the_first_round_to_the_last(ipfl_command, world, there):
    port, seen = free_port(), []

    def look(request):
        if request["what"] == "train":
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/state", timeout=20) as answer:
                seen.append(json.loads(answer.read()))

    there.watch = look
    done = ipfl_command("host", "market.toml", "--out", "run", "--page-port", port)
    assert (done.code, done.err) == (0, f"Live page   http://127.0.0.1:{port}/\n")
    assert {state["state"] for state in seen} == {"running"}
    assert len(seen) == 8
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20)


def test_a_page_that_cannot_be_had_stops_nothing(ipfl_command, world, made, there, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ipfl_command("host", "market.toml", "--out", "run", "--page-port", port)
        assert (done.code, done.err) == (
            0,
            f"warning: no live page: port {port} of this machine cannot be had: give another --page-port\n",
        )
        assert ipfl_command("host", "market.toml", "--resume", "run", "--quiet").err == ""
    for name in [name for name in sys.modules if name.startswith(("ipfl.serve", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    there.answers.clear()
    there.connect(moved(made, world.folder / "again"), *NAMES)
    done = ipfl_command("host", "again/market.toml", "--out", "again/run", "--page-port", free_port())
    assert (done.code, done.err) == (
        0,
        "warning: no live page: it needs uvicorn, which is not installed: pip install 'ipfl[serve]'\n",
    )


# ---------------------------------------------------------------- what is wrong is said before anything starts


@pytest.fixture
def refused(ipfl_command, tmp_path, monkeypatch):
    """refused(arguments...) -> the sentence; nothing is written and no program started."""
    let_nothing_start(monkeypatch)

    def call(*arguments):
        before = tree(tmp_path)
        done = ipfl_command(*arguments)
        assert (done.code, done.out) == (2, "")
        assert tree(tmp_path) == before
        line = done.err.removesuffix("\n")
        assert "\n" not in line
        return line.removeprefix("error: ")

    return call


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("rounds =", "rouds =", "market.toml: unknown key 'rouds'; did you mean 'rounds'?"),
        ("lam =", "lamb =", "market.toml: unknown key 'market.lamb'; did you mean 'lam'?"),
        ("port =", "prot =", "market.toml: unknown key 'network.prot'; did you mean 'port'?"),
        (
            "class_names",
            "classes",
            "market.toml: unknown key 'examples.classes'; did you mean 'class_names'?",
        ),
        (
            'id = "hospital-b"',
            'name = "hospital-b"',
            "market.toml: unknown key 'members.1.name'; known keys here: id, key",
        ),
        (
            "[examples]\nshape = [1, 8, 8]\n",
            "[examples]\n",
            "market.toml: examples: give columns (of tables) or shape (of one example of arrays), one of the two",
        ),
        (
            "rounds =",
            'data = "x"\nrounds =',
            "market.toml: a market over a network has no 'data': the data stays with the participants, and [examples] "
            "says what it looks like; take it out",
        ),
        (
            "keys/hospital-b.pub",
            "keys/absent.pub",
            "market.toml, member hospital-b: the public key {folder}/keys/absent.pub is not there",
        ),
        (
            "keys/hospital-b.pub",
            "keys/hospital-b",
            "market.toml, member hospital-b: {folder}/keys/hospital-b: this is a private key, to be shown to nobody; "
            "give the public one, named .pub",
        ),
        (
            "keys/hospital-b.pub",
            "keys/hospital-a.pub",
            "market.toml: members hospital-a and hospital-b have the same key: each needs one of its own",
        ),
        (
            'id = "hospital-b"',
            'id = "hospital-a"',
            "market.toml: members hospital-a and hospital-a have the same name: each needs one of its own",
        ),
        (
            "members_min = 2",
            "members_min = 5",
            "market.toml: network.members_min = 5, but there are 4 members",
        ),
        ("rounds =", "rounds", "market.toml is not valid TOML: "),
    ],
)
def test_a_market_file_that_makes_no_market(refused, world, old, new, sentence):
    change(world.folder / "market.toml", old, new)
    assert refused(*HOST).startswith(sentence.format(folder=world.folder))


def test_no_market_file(refused):
    assert refused("host", "absent.toml") == (
        "cannot read configuration absent.toml: No such file or directory"
    )


def _expired(keys):
    for name in ("server.key", "server.crt"):
        (keys / name).unlink()
    make_server_certificate(keys, ["market.example"], 1, datetime.now(UTC) - timedelta(days=3))


def _of_another_authority(keys):
    make_authority(keys / "other", "another")
    (keys / "other" / "ca.crt").replace(keys / "ca.crt")


def _of_another_pair(keys):
    renew(keys)
    shutil.copy(keys / "server.key.old", keys / "server.key")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda keys: (keys / "server.crt").unlink(),
            r"keys has no server\.crt: make the keys with `ipfl keys operator .*/keys --host HOST`",
        ),
        (lambda keys: (keys / "ca.crt").unlink(), r"the certificate .*/keys/ca\.crt is not there"),
        (
            lambda keys: (keys / "server.key").unlink(),
            r"the certificate's key .*/keys/server\.key is not there",
        ),
        (
            lambda keys: (keys / "server.key").chmod(0o644),
            r"others may read the private key .*/keys/server\.key: `chmod 600 .*`",
        ),
        (
            lambda keys: (keys / "operator.key").chmod(0o644),
            r"others may read the operator's key .*/keys/operator\.key: `chmod 600 .*`",
        ),
        (
            lambda keys: (keys / "operator.key").write_text("key"),
            r"keys/operator\.key holds no key \(an unencrypted PEM file of an Ed25519 key\)",
        ),
        (
            _expired,
            r"the certificate .*/server\.crt expired on .* UTC: `ipfl keys renew .*/keys` makes the next",
        ),
        (
            _of_another_authority,
            r"the certificate .*/server\.crt is not signed by the authority of .*/ca\.crt",
        ),
        (
            _of_another_pair,
            r"the key .*/server\.key does not belong to the certificate .*/server\.crt: `ipfl keys renew",
        ),
    ],
    ids=[
        "no server.crt",
        "no ca.crt",
        "no server.key",
        "open server.key",
        "open operator.key",
        "no key",
        "expired",
        "authority",
        "pair",
    ],
)
def test_keys_that_nobody_could_join_with(refused, world, spoil, sentence):
    spoil(world.folder / "keys")
    assert re.search(sentence, refused(*HOST))


def test_a_port_in_use(refused, world):
    port = world.market.network.port
    with socket.create_server(("127.0.0.1", port)):
        assert refused(*HOST) == (
            f"cannot listen at 127.0.0.1, port {port} (Address already in use): "
            "end what listens there, or set network.port in the market file"
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "market.example"])
def test_a_host_that_others_reach_has_to_be_asked_for(refused, world, host):
    change(world.folder / "market.toml", "[network]", f'[network]\nhost = "{host}"')
    assert refused(*HOST).startswith(
        f"host {host} is reached from other machines, and whoever reaches it can run"
    )


def test_the_certificate_has_to_be_for_the_host_to_listen_at(ipfl_command, refused, world, there):
    keys = world.folder / "keys"
    renew(keys, ["market.example"])
    change(world.folder / "market.toml", "[network]", '[network]\nhost = "::1"')
    assert refused(*HOST) == (
        f"the certificate {keys / 'server.crt'} is not for ::1, by which this machine reaches the market at "
        f"network.host: `ipfl keys renew {keys} --host market.example --host ::1` makes one that is"
    )
    assert ipfl_command("keys", "renew", str(keys), "--host", "market.example", "--host", "::1").code == 0
    assert ipfl_command(*HOST).code == 0


def test_a_host_that_is_none(refused, world):
    change(world.folder / "market.toml", "[network]", '[network]\nhost = "no.such.host.invalid"')
    port = world.market.network.port
    assert refused(*HOST, "--expose-control").startswith(
        f"cannot listen at no.such.host.invalid, port {port} ("
    )


def test_what_is_in_the_way_of_the_run_folder(refused, world):
    (world.folder / "run").mkdir()
    (world.folder / "run" / "mine").touch()
    assert refused(*HOST) == (
        "run is not empty: go on with it (--resume run), replace it (--force), or give another --out"
    )
    assert refused(*HOST, "--force") == (
        "--force replaces run folders only, and run is none (it holds 'mine'): give another --out"
    )


@pytest.mark.parametrize("more", [("--out", "other"), ("--force",)])
def test_a_market_goes_on_in_its_own_folder(ipfl_command, world, more):
    done = ipfl_command("host", "market.toml", "--resume", "run", *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        "Error: --resume goes on in its own folder: it takes neither --out nor --force\n"
    )


def test_new_keys_are_for_a_market_that_is_gone_on_with(ipfl_command, world):
    done = ipfl_command("host", "market.toml", "--new-keys")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        "Error: --new-keys is for a market that is gone on with: give --resume DIR too\n"
    )


def test_a_lost_key_is_replaced(ipfl_command, world, there):
    interrupt_at(there, 1)
    assert ipfl_command(*HOST, "--quiet").code == 130
    old, new = world.fingerprint(NAMES[0]), make_participant_key(world.folder / "keys" / "new")
    change(world.folder / "market.toml", f"keys/{NAMES[0]}.pub", "keys/new.pub")
    there.answers[new.fingerprint] = world.node(NAMES[0], key="new").answer
    del there.answers[old]
    again = ("host", "market.toml", "--resume", "run", "--page-port", "0")
    done = ipfl_command(*again)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: the market file gives {NAMES[0]} the key {new.fingerprint[:16]}..., and the ledger has "
        f"{old[:16]}...: restore it, or give --new-keys to enter it into the ledger\n"
    )
    assert ipfl_command(*again, "--new-keys", "--quiet").code == 0
    assert there.hosts[-1].public_keys[NAMES[0]] == new.public_text
    listed = json.loads(ipfl_command("members", "run", "--json").out)
    assert [event["event"] for event in listed[0]["history"]] == ["join", "leave", "join"]
    assert [event.get("key") for event in listed[0]["history"]] == [None, None, new.fingerprint]
    assert f"join 1 (key {new.fingerprint[:16]}...)" in ipfl_command("members", "run").out
    assert ipfl_command("verify", "run").code == 0


def test_going_on_with_what_is_no_market(refused, world):
    assert refused("host", "market.toml", "--resume", "absent") == (
        "no run folder at absent: give the folder that `ipfl run --out` wrote"
    )
    folder = world.folder / "ordinary"
    folder.mkdir()
    assert "ordinary/config.toml" in refused("host", "market.toml", "--resume", "ordinary")
    (folder / "config.toml").write_text(Config().to_toml())
    (folder / "environment.json").write_text("{}")
    assert refused("host", "market.toml", "--resume", "ordinary") == (
        "ordinary is no market over a network: go on with it by `ipfl run --resume ordinary`"
    )


def test_going_on_with_another_market(ipfl_command, world, there, monkeypatch):
    interrupt_at(there, 1)
    assert ipfl_command(*HOST, "--quiet").code == 130
    change(world.folder / "market.toml", "lam = 0.05", "lam = 0.1")
    before = tree(world.folder)
    done = ipfl_command("host", "market.toml", "--resume", "run")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: run was begun with another market file (other rules or examples): restore it as it was\n"
    )
    assert tree(world.folder) == before
    assert len(there.hosts) == 1

    change(world.folder / "market.toml", "lam = 0.1", "lam = 0.05")
    (world.folder / "keys" / "operator.key").unlink()
    operator_key(world.folder / "keys" / "operator.key")
    done = ipfl_command("host", "market.toml", "--resume", "run", "--page-port", "0", "--quiet")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: run was begun with another operator's key (")


def test_without_flower(refused, world, tmp_path, monkeypatch):
    monkeypatch.setattr("ipfl.network.programs._folder", lambda: tmp_path)
    assert refused(*HOST) == (
        "a market over the network needs flower-superlink, which is not installed: pip install 'ipfl[flower]'"
    )

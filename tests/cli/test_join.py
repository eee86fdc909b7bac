"""`ipfl join`: the quote and the question, the rounds, leaving and coming back; what is wrong is a sentence."""

import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cli.wire import (
    Wire,
    call_off,
    change,
    free_port,
    hosting,
    in_thread,
    let_nothing_start,
    moved,
    site,
    tree,
)
from ipfl.cli.join import Consent, _Voice, quote_lines
from ipfl.cli.main import main
from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.network.flower_node import FlowerNode
from ipfl.upkeep.folder import held
from network.markets import NAMES

ME, *OTHERS = NAMES
JOIN = (
    "join", "localhost:8443", "--terms", f"{ME}.toml", "--data", f"data/{ME}.npz", "--key", f"keys/{ME}",
    "--ca", "keys/ca.crt",
)  # fmt: skip
QUOTE = re.compile(
    r"A round, by the bids of 3 others: you buy \d models? and sell to \d buyers?; you pay [\d.]+ and receive [\d.]+; "
    r"gain [\d.]+, cost [\d.]+, which leaves you [-\d.]+ \([-\d.]+ after friction\)\."
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return site(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made, tmp_path):
    return moved(made, tmp_path)


@pytest.fixture
def wire(world, monkeypatch):
    """The others are connected."""
    wire = Wire().plug(monkeypatch)
    wire.connect(world, *OTHERS)
    return wire


@pytest.fixture
def terminal(monkeypatch):
    """terminal(text) types it into a terminal."""

    class Typed(io.StringIO):
        def isatty(self):
            return True

        def readline(self, *_):
            if callable(text := self.typed.pop(0)):
                text()
            return text

    def typing(*texts):
        keyboard = Typed()
        keyboard.typed = list(texts)
        monkeypatch.setattr("sys.stdin", keyboard)
        return keyboard.typed

    return typing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- a market


def test_a_market_from_the_quote_to_the_statement(ipfl_command, world, wire):
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--yes")
    run = operator.result()
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:3] == [
        f"{ME}, key {world.fingerprint(ME)[:16]}..., joins localhost:8443",
        "connected",
        "The market: 4 members, 2 rounds of ipfl on the model mlp; rules exact/vcg, lam 0.05.",
    ]
    assert QUOTE.fullmatch(lines[3])
    assert lines[4] == (
        "How far your model is from the others' is not known yet: a distance of 1 is assumed."
    )
    assert [re.sub(r"[-+][\d.]+", "N", line) for line in lines[5:-2]] == [
        "registered: the market knows its bid",
        "round 0: trained",
        "round 0: bill checked, N credits, balance N",
        "round 1: trained",
        "round 1: bill checked, N credits, balance N",
        "the market is over: model and statement are written",
    ]
    summary = json.loads((world.folder / ME / "summary.json").read_text())
    assert lines[-2].startswith(
        f"2 rounds billed: paid {summary['paid']:.6f}, received {summary['received']:.6f}, balance "
    )
    assert "By your bid: gain " in lines[-2]
    assert lines[-1] == f"Your model, statement and receipts: {ME}"

    home = world.folder / ME
    assert {"model.safetensors", "receipts.jsonl", "statement.csv", "summary.json"} <= set(names(home))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    place = run.participant_ids.index(ME)
    paid = sum(row["amount"] for row in run.ledger if row["payer"] == ME)
    assert summary["paid"] == pytest.approx(paid)
    assert all(line["participants"][place]["present"] for line in run.rounds)


def test_both_commands_and_their_summaries(ipfl_command, world, wire, capsys):
    change(world.folder / "market.toml", "port = ", f"port = {free_port()} # ")
    arguments = [
        "host",
        str(world.folder / "market.toml"),
        "--out",
        str(world.folder / "run"),
        "--page-port",
        "0",
    ]
    operator = in_thread(lambda: main([*arguments, "--quiet"], standalone_mode=False))
    done = ipfl_command(*JOIN, "--yes", "--quiet", "--home", "mine")
    operator.result()
    assert (done.code, done.err) == (0, "")
    assert (done.out + capsys.readouterr().out).splitlines() == [str(world.folder / "run")]
    assert not (world.folder / ME).exists()
    summary = json.loads((world.folder / "run" / "summary.json").read_text())
    mine = json.loads((world.folder / "mine" / "summary.json").read_text())
    assert (summary["rounds"], mine["rounds"]) == (2, 2)
    assert ipfl_command("verify", "run").code == 0


# ---------------------------------------------------------------- the question


def test_whoever_is_asked_and_agrees_takes_part(ipfl_command, world, wire, terminal):
    left = terminal("perhaps\n", "y\n")
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--json")
    operator.result()
    assert done.code == 0
    assert left == []
    assert json.loads(done.out) == json.loads((world.folder / ME / "summary.json").read_text())
    first, second, _, *question = done.err.splitlines()
    assert first.startswith("The market: 4 members")
    assert QUOTE.fullmatch(second)
    assert " ".join(question).count("Take part? [y/N]: ") == 2
    assert "invalid input" in " ".join(question)


def test_whoever_is_asked_and_declines_has_only_said_its_bid(ipfl_command, world, wire, terminal):
    terminal("n\n")
    wire.watch = lambda request: asked.append((request["participant_id"], request["what"]))
    asked = []
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--quiet")
    call_off(wire, operator)
    assert (done.code, done.err) == (0, "")
    *quote, last = done.out.splitlines()
    assert quote[0].startswith("The market: 4 members")
    assert QUOTE.fullmatch(quote[1])
    assert last == "Take part? [y/N]: Not joined: the operator was told your bid, and nothing else."
    assert {what for name, what in asked if name == ME} == {"offer"}
    assert "market.json" not in names(world.folder / ME)
    assert not {"summary.json", "statement.csv", "state.safetensors"} & set(names(world.folder / ME))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_at_the_question(ipfl_command, world, wire, terminal, number):
    terminal(lambda: signal.raise_signal(number))
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN)
    call_off(wire, operator)
    assert done.code == 130
    assert done.err.strip() == "interrupted; the same command comes back under the same identity"
    assert wire.answers.keys() == {world.fingerprint(name) for name in OTHERS}


def test_a_first_member_has_nothing_to_compare_with():
    offer = {"config": "", "members": 4, "model": "mlp"}
    assert quote_lines(offer, {"others": 0})[1:] == [
        "No other member has bid yet, so there is nothing to quote."
    ]


def test_what_the_operator_writes_cannot_move_the_cursor(capsys):
    offer = {"config": "", "members": 4, "model": "mlp\x1b[2J\nYou are paid 9"}
    consent = Consent(yes=True, say=_Voice(quiet=False), aside=False)
    assert consent(offer, {"others": 0})
    _Voice(quiet=False)("refused: \x1b[31m\nno")
    assert [line.isprintable() for line in capsys.readouterr().out.splitlines()] == [True] * 3


# ---------------------------------------------------------------- leaving and coming back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_leaves_comes_back_under_the_same_identity(ipfl_command, world, wire, number, terminal):
    change(world.folder / "market.toml", "members_min = 2", "members_min = 4")  # a round waits for all

    def leave(request):
        if (request["participant_id"], request["what"]) == (ME, "train"):
            wire.watch = lambda request: None
            os.kill(os.getpid(), number)

    wire.watch = leave
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--yes")
    assert done.code == 130
    assert done.err == "interrupted; the same command comes back under the same identity\n"
    assert "round 0: trained" in done.out
    assert "0 rounds billed: paid 0.000000" in done.out

    terminal()  # what was agreed to is not asked again
    done = ipfl_command(*JOIN)
    run = operator.result()
    assert (done.code, done.err) == (0, "")
    assert "The market:" not in done.out
    assert "round 0: bill checked" in done.out
    assert "round 1: bill checked" in done.out
    assert "2 rounds billed" in done.out
    assert [line["participants"][0]["present"] for line in run.rounds] == [True, True]


def test_a_market_that_is_not_there_is_tried_again_until_ctrl_c(ipfl_command, world, monkeypatch):
    let_nothing_start(monkeypatch)
    tell = FlowerNode._tell

    def told(node, on_state, state):
        tell(node, on_state, state)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FlowerNode, "_tell", told)
    address = f"localhost:{free_port()}"
    done = ipfl_command("join", address, *JOIN[2:], "--yes")
    assert done.code == 130
    assert done.out.splitlines()[1:] == [
        f"the market does not answer at {address} (connection refused); trying again in 1 s"
    ]
    assert done.err == "interrupted; the same command comes back under the same identity\n"


# ---------------------------------------------------------------- what ends it


@contextmanager
def answering(keys=None):
    """Somebody at an address, who speaks TLS where there are keys, and hangs up."""
    context = None
    if keys is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "server.crt", keys / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as connection:
                if context is None:
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                else:
                    with pytest.raises(OSError):  # noqa: PT011 - however the other side puts it
                        context.wrap_socket(connection, server_side=True).recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)


def _expired(keys):
    for name in ("server.key", "server.crt"):
        (keys / name).unlink()
    make_server_certificate(keys, [], 1, datetime.now(UTC) - timedelta(days=3))


def _of_another_authority(keys):
    for name in ("server.key", "server.crt"):
        (keys / name).unlink()
    make_authority(keys / "other", "another")
    make_server_certificate(keys / "other", [])
    for name in ("server.key", "server.crt"):
        shutil.copy(keys / "other" / name, keys / name)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_expired, "the certificate of {} has expired: the operator has to renew it"),
        (_of_another_authority, "the certificate of {} is not signed by the authority of "),
        (None, "what answers at {} speaks no TLS: check the address with the operator"),
    ],
    ids=["expired", "authority", "no TLS"],
)
def test_an_operator_that_is_not_who_it_should_be(ipfl_command, world, monkeypatch, spoil, sentence):
    let_nothing_start(monkeypatch)
    keys = None
    if spoil is not None:
        keys = shutil.copytree(world.folder / "keys", world.folder / "served")
        spoil(keys)
    with answering(keys) as port:
        address = f"localhost:{port}"
        done = ipfl_command("join", address, *JOIN[2:], "--yes", "--quiet")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {sentence.format(address)}")
    assert done.err.count("\n") == 1


def _a_table(path):
    path.unlink()
    path.with_suffix(".csv").write_text("a,b,label\n" + "1,2,0\n2,1,1\n" * 20)


def _other_shape(path):
    np.savez(path, x=np.ones((40, 1, 4, 4), np.float32), y=np.arange(40) % 10)


def _other_class(path):
    np.savez(path, x=np.ones((40, 1, 8, 8), np.float32), y=np.arange(40) % 11)


SHAPE = "shape = [1, 8, 8]"


@pytest.mark.parametrize(
    ("spoil", "kind", "agreed", "sentence"),
    [
        (_a_table, "csv", SHAPE, "its examples have 2 columns, those of the market shape (1, 8, 8)"),
        (
            _a_table,
            "csv",
            'columns = ["a", "c"]',
            "that the market agreed on: it lacks 'c' and has 'b' besides",
        ),
        (
            _other_shape,
            "npz",
            SHAPE,
            "its examples have shape (1, 4, 4), those of the market shape (1, 8, 8)",
        ),
        (_other_class, "npz", SHAPE, "has the class '10', which is none of the market's ("),
    ],
    ids=["a table", "columns", "shape", "class"],
)
def test_data_that_is_not_as_agreed(ipfl_command, world, wire, spoil, kind, agreed, sentence):
    spoil(world.files[ME])
    change(world.folder / "market.toml", SHAPE, agreed)
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN[:4], "--data", f"data/{ME}.{kind}", *JOIN[6:], "--yes")
    call_off(wire, operator)
    assert done.code == 2
    assert re.fullmatch(rf"error: {ME}\.{kind}.*\n", done.err)
    assert sentence in done.err
    assert "registered" not in done.out
    assert not {"market.json", "summary.json", "statement.csv"} & set(names(world.folder / ME))
    assert any(line.startswith(f"{ME}: ") and sentence in line for line in world.refused)


def test_a_market_that_is_not_the_one_agreed_to(ipfl_command, world, wire):
    with (world.folder / f"{ME}.toml").open("a") as terms:
        terms.write("[market]\nrounds = 9\n")
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--yes", "--json")
    call_off(wire, operator)
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: the market offers rounds = 2, but the terms agree to 9\n"


# ---------------------------------------------------------------- what is wrong is said before anything starts


@pytest.fixture
def refused(ipfl_command, world, monkeypatch):
    """refused(arguments...) -> the sentence; nothing is written and no program started."""
    let_nothing_start(monkeypatch)

    def call(*arguments):
        before = tree(world.folder)
        done = ipfl_command(*arguments)
        assert (done.code, done.out) == (2, "")
        assert tree(world.folder) == before
        line = done.err.removesuffix("\n")
        assert "\n" not in line
        return line.removeprefix("error: ")

    return call


def other(option, value):
    """The command with another value of an option."""
    place = JOIN.index(option) + 1
    return (*JOIN[:place], value, *JOIN[place + 1 :], "--yes")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("valuation", "valuaton", "unknown key 'bid.valuaton'; did you mean 'valuation'?"),
        ("participant_id", "participant", "unknown key 'participant'; did you mean 'participant_id'?"),
        ("[bid]", "[bids]", "unknown key 'bids'; did you mean 'bid'?"),
        ("export_cost = ", "# ", "bid.export_cost: field required"),
        (
            "valuation = ",
            "valuation = -",
            "bid.valuation = -20000.0: input should be greater than or equal to 0",
        ),
        ('operator_key = "', 'operator_key = "key', "operator_key: 'key"),
        (f'"{ME}"', '"../elsewhere"', "participant_id = '../elsewhere'"),
        ("[bid]", "[market]\nround = 3\n[bid]", "unknown key 'market.round'; did you mean 'rounds'?"),
        ("[bid]", '[bid]\ngain_curve = "x +"', "bid.gain_curve: "),
        ("[bid]", "bid", "is not valid TOML: "),
    ],
)
def test_terms_that_say_nothing_sensible(refused, world, old, new, sentence):
    change(world.folder / f"{ME}.toml", old, new)
    said = refused(*JOIN, "--yes")
    assert said.startswith(f"{ME}.toml")
    assert sentence in said


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--terms", "absent.toml", "cannot read configuration absent.toml: No such file or directory"),
        (
            "--data",
            "absent.csv",
            "no file at absent.csv: give your examples as a .csv, .parquet or .npz file",
        ),
        ("--data", "data", "no file at data: give your examples as a .csv, .parquet or .npz file"),
        (
            "--key",
            "absent",
            "the participant's key absent is not there: `ipfl keys participant absent` makes it",
        ),
        ("--key", f"keys/{ME}.pub", f"keys/{ME}.pub holds a public key, expected the private one"),
        ("--key", "keys/server.key", "keys/server.key holds a key in another format than OpenSSH's"),
        ("--key", "keys/operator.key", "keys/operator.key holds a key in another format than OpenSSH's"),
        ("--ca", "absent.crt", "the certificate absent.crt is not there"),
        ("--ca", f"{ME}.toml", f"{ME}.toml is not a certificate, expected a file with"),
    ],
)
def test_files_that_are_not_what_they_should_be(refused, option, value, sentence):
    assert sentence in refused(*other(option, value))


def test_a_key_that_others_may_read(refused, world):
    (world.folder / "keys" / ME).chmod(0o644)
    assert refused(*JOIN, "--yes") == f"others may read the private key keys/{ME}: `chmod 600 keys/{ME}`"


def test_no_certificate_of_the_operators(refused, world):
    assert refused(*JOIN[:-2], "--yes") == (
        f"give the operator's ca.crt by --ca, or name it in {ME}.toml (ca = ...)"
    )
    change(world.folder / f"{ME}.toml", "[bid]", 'ca = "keys/absent.crt"\n[bid]')
    assert refused(*JOIN[:-2], "--yes") == f"the certificate {world.folder}/keys/absent.crt is not there"


@pytest.mark.parametrize(
    "address", ["market.example", "market.example:", "market.example:0", "https://market.example"]
)
def test_an_address_that_is_none(refused, address):
    assert refused("join", address, *JOIN[2:], "--yes").startswith("address: ")


def test_without_a_terminal_there_has_to_be_consent(ipfl_command, world, monkeypatch):
    let_nothing_start(monkeypatch)
    before = tree(world.folder)
    done = ipfl_command(*JOIN)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("Error: there is no terminal to ask for your consent: give --yes to take part\n")
    assert tree(world.folder) == before


def test_a_home_that_cannot_be_had(refused, world):
    (world.folder / "mine").write_text("a file")
    assert refused(*JOIN, "--yes", "--home", "mine") == "cannot make mine: File exists; give another --home"


def test_two_at_once_in_the_same_home(refused, world):
    with held(world.folder / "mine"):
        assert refused(*JOIN, "--yes", "--home", "mine") == (
            "mine is in use by another process: wait until that one ends, or pause it with Ctrl-C"
        )


def test_without_flower(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("ipfl.network.programs._folder", lambda: tmp_path)
    assert refused(*JOIN, "--yes") == (
        "a market over the network needs flower-supernode, which is not installed: pip install 'ipfl[flower]'"
    )

"""`ipfl join`, where something is wrong: a sentence, beforehand if it can be known, and nothing agreed to."""

import re
import shutil
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cli.wire import JOIN, ME, OTHERS, call_off, change, hosting, let_nothing_start, tree
from ipfl.network.certificates import make_authority, make_server_certificate
from ipfl.upkeep.folder import held


@pytest.fixture
def wire(world, wire):
    """The others are connected."""
    wire.connect(world, *OTHERS)
    return wire


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
    assert not {"market.json", "summary.json", "statement.csv"} & {
        path.name for path in (world.folder / ME).iterdir()
    }
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
    assert refused(*JOIN, "--yes", "--home", "mine") == (
        "cannot make mine a folder of your own: File exists; give another --home"
    )


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

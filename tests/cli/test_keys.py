"""`ipfl keys`: what it makes, says and leaves alone; what `show` finds; no secret is ever printed."""

import json
import shutil
import stat
from datetime import UTC, datetime, timedelta

import pytest

from ipfl.ledger import operator_key
from ipfl.network.certificates import check_certificate, hosts_of, make_server_certificate, read_certificate
from ipfl.network.keys import read_participant_key, read_public_key

FILES = ["ca.crt", "ca.key", "operator.key", "server.crt", "server.key"]


@pytest.fixture
def market(ipfl_command, tmp_path):
    """The folder of an operator."""
    done = ipfl_command("keys", "operator", "market", "--host", "market.example")
    assert (done.code, done.err) == (0, "")
    return tmp_path / "market"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(folder):
    return sorted(each.name for each in folder.iterdir())


# ---------------------------------------------------------------- operator


def test_operator_makes_all_and_says_what_goes_where(ipfl_command, tmp_path):
    done = ipfl_command("keys", "operator", "my market", "--host", "Market.example", "--host", "10.0.0.7")
    folder = tmp_path / "my market"
    assert (done.code, done.err) == (0, "")
    assert names(folder) == FILES
    assert [mode(folder / name) for name in FILES if name.endswith(".key")] == [0o600] * 3
    for host in ("market.example", "10.0.0.7", "localhost"):
        check_certificate(folder / "server.crt", folder / "ca.crt", host)
    secret, public = done.out.split("Give to every participant")
    assert all(name in secret for name in ("ca.key", "server.key", "operator.key", "Keep secret"))
    assert f"`export IPFL_OPERATOR_KEY='{folder / 'operator.key'}'`" in secret
    assert "ca.crt" in public
    assert operator_key(folder / "operator.key").public in public
    end = read_certificate(folder / "server.crt").not_valid_after_utc
    assert f"ends on {end:%Y-%m-%d}. Before that: `ipfl keys renew 'my market'`." in public


def test_operator_as_json(ipfl_command, tmp_path):
    done = ipfl_command("keys", "operator", "market", "--host", "market.example", "--days", "10", "--json")
    said = json.loads(done.out)
    assert said.pop("operator_public_key") == operator_key(tmp_path / "market" / "operator.key").public
    end = read_certificate(tmp_path / "market" / "server.crt").not_valid_after_utc
    assert said.pop("valid_until") == f"{end:%Y-%m-%dT%H:%M:%SZ}"
    assert said.pop("valid_from") == f"{end - timedelta(days=10, hours=1):%Y-%m-%dT%H:%M:%SZ}"
    assert said == {
        "folder": "market",
        "secret": ["market/ca.key", "market/server.key", "market/operator.key"],
        "public": ["market/ca.crt", "market/server.crt"],
        "hosts": ["market.example", "localhost", "127.0.0.1"],
        "days_left": 9,
    }


@pytest.mark.parametrize("there", FILES)
def test_operator_leaves_a_folder_alone_that_holds_any_of_the_files(ipfl_command, tmp_path, there):
    (tmp_path / there).write_text("mine")
    done = ipfl_command("keys", "operator", ".", "--host", "market.example")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: {there} is there already and is never overwritten: give another folder, "
        "or, for a new certificate of the server alone, `ipfl keys renew`\n"
    )
    assert names(tmp_path) == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing option '--host'"),
        (
            ["--host", "https://market.example"],
            "host 'https://market.example' is neither a name nor an address",
        ),
        (["--host", "a.example", "--days", "0"], "Invalid value for '--days'"),
    ],
)
def test_operator_makes_nothing_of_wrong_arguments(ipfl_command, tmp_path, arguments, sentence):
    done = ipfl_command("keys", "operator", "market", *arguments)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert names(tmp_path) == []


# ---------------------------------------------------------------- participant


def test_participant_makes_a_key_and_says_what_to_send(ipfl_command, tmp_path):
    done = ipfl_command("keys", "participant", "clinic-a.key")
    key = read_participant_key(tmp_path / "clinic-a.key")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "Keep secret           clinic-a.key",
        "Send to the operator  clinic-a.key.pub, and nothing else",
        f"Fingerprint           {key.fingerprint}",
    ]
    assert read_public_key(tmp_path / "clinic-a.key.pub", "clinic-a") == key.public
    again = ipfl_command("keys", "participant", "clinic-a.key")
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith("error: clinic-a.key is there already and is never overwritten")
    assert read_participant_key(tmp_path / "clinic-a.key").public == key.public


def test_participant_as_json(ipfl_command, tmp_path):
    done = ipfl_command("keys", "participant", "deep/clinic-a.key", "--json")
    key = read_participant_key(tmp_path / "deep" / "clinic-a.key")
    assert json.loads(done.out) == {
        "secret": "deep/clinic-a.key",
        "public": "deep/clinic-a.key.pub",
        "public_key": key.public_text,
        "fingerprint": key.fingerprint,
    }


# ---------------------------------------------------------------- renew


def test_renew_keeps_the_hosts_unless_others_are_given(ipfl_command, market):
    done = ipfl_command("keys", "renew", "market", "--days", "20")
    end = datetime.now(UTC) + timedelta(days=20)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "market/server.crt is for market.example, localhost, 127.0.0.1.",
        f"The server's certificate ends on {end:%Y-%m-%d}. Start the server again; participants need nothing new.",
    ]
    assert names(market) == sorted([*FILES, "server.crt.old", "server.key.old"])
    done = ipfl_command("keys", "renew", "market", "--host", "new.example", "--json")
    said = json.loads(done.out)
    assert (said["hosts"], said["days_left"]) == (["new.example", "localhost", "127.0.0.1"], 364)
    assert hosts_of(read_certificate(market / "server.crt")) == said["hosts"]


def test_renew_without_an_authority_is_one_sentence(ipfl_command):
    done = ipfl_command("keys", "renew", "nowhere", "--host", "a.example")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: the certificate nowhere/ca.crt is not there\n"


# ---------------------------------------------------------------- show


def shown(ipfl_command, *paths):
    done = ipfl_command("keys", "show", *paths, "--json")
    assert done.err == ""
    return done.code, {each["file"]: each for each in json.loads(done.out)}


def test_show_says_what_everything_is(ipfl_command, market):
    ipfl_command("keys", "participant", "a")
    ipfl_command("keys", "renew", "market")
    files = [f"market/{name}" for name in names(market)]
    code, found = shown(ipfl_command, *files, "a", "a.pub")
    assert code == 0
    assert {name: each["kind"] for name, each in found.items()} == {
        "market/ca.crt": "certificate of an authority",
        "market/ca.key": "private key of a certificate",
        "market/operator.key": "private key of an operator",
        "market/server.crt": "certificate",
        "market/server.crt.old": "certificate",
        "market/server.key": "private key of a certificate",
        "market/server.key.old": "private key of a certificate",
        "a": "private key of a participant",
        "a.pub": "public key of a participant",
    }
    assert found["a"]["fingerprint"] == found["a.pub"]["fingerprint"]
    assert (found["a"]["readable_by"], found["a.pub"]["readable_by"]) == ("its owner", "everyone")
    assert found["market/operator.key"]["facts"]["public_key"] == operator_key(market / "operator.key").public
    assert found["market/server.crt"]["facts"]["days_left"] == 364
    assert not any(each["faults"] for each in found.values())

    done = ipfl_command("keys", "show", *files, "a", "a.pub")
    assert done.code == 0
    assert "✓ market/server.crt: certificate\n    fingerprint  " in done.out
    assert "    for          market.example, localhost, 127.0.0.1\n    valid until  2" in done.out
    for path in (*market.glob("*.key*"), market.parent / "a"):
        secrets = [line for line in path.read_text().splitlines() if line and not line.startswith("-----")]
        assert not any(line in done.out for line in secrets)


def test_show_finds_keys_that_others_may_read(ipfl_command, market):
    (market / "server.key").chmod(0o640)
    (market / "operator.key").chmod(0o604)
    code, found = shown(ipfl_command, "market/server.key", "market/operator.key", "market/ca.key")
    assert code == 1
    assert [each["readable_by"] for each in found.values()] == ["its group", "everyone", "its owner"]
    assert [each["faults"] for each in found.values()] == [
        ["others may read the private key market/server.key: `chmod 600 market/server.key`"],
        ["others may read the private key market/operator.key: `chmod 600 market/operator.key`"],
        [],
    ]
    done = ipfl_command("keys", "show", "market/server.key", "market/ca.key")
    assert done.code == 1
    assert "✗ market/server.key: private key of a certificate\n" in done.out
    assert (
        "    Others may read the private key market/server.key: `chmod 600 market/server.key`.\n" in done.out
    )


def test_show_finds_certificates_out_of_date_but_not_those_kept(ipfl_command, market):
    for name in ("server.key", "server.crt"):
        (market / name).unlink()
    make_server_certificate(market, ["market.example"], 1, datetime.now(UTC) - timedelta(days=3))
    code, found = shown(ipfl_command, "market/server.crt")
    end = datetime.now(UTC) - timedelta(days=2)
    assert code == 1
    assert found["market/server.crt"]["facts"]["days_left"] < 0
    assert found["market/server.crt"]["faults"][0].startswith(
        f"the certificate market/server.crt expired on {end:%Y-%m-%d}"
    )
    ipfl_command("keys", "renew", "market")
    assert shown(ipfl_command, "market/server.crt", "market/server.crt.old")[0] == 0


def test_show_finds_halves_that_do_not_belong_together(ipfl_command, market, tmp_path):
    for name in ("a", "b"):
        ipfl_command("keys", "participant", name)
    shutil.copy(tmp_path / "b.pub", tmp_path / "a.pub")
    ipfl_command("keys", "renew", "market")
    shutil.copy(market / "server.key.old", market / "server.key")
    code, found = shown(ipfl_command, "a", "market/server.crt")
    assert code == 1
    assert [each["faults"] for each in found.values()] == [
        ["a.pub is the public half of another key than a"],
        [
            "the key market/server.key does not belong to the certificate market/server.crt: "
            "`ipfl keys renew market` makes both anew"
        ],
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "the file it is not there"),
        (b"some text", "it holds neither a key nor a certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "it is not a certificate, expected a file",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "it holds a private key that is damaged or",
        ),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
            "it holds no private key, expected ecdsa-sha2-nistp384",
        ),
        (b"ssh-ed25519 AAAA", "it: this is a public key of another kind (ssh-ed25519)"),
    ],
    ids=["missing", "text", "certificate", "PEM", "OpenSSH", "other kind"],
)
def test_show_goes_on_after_what_it_cannot_make_sense_of(ipfl_command, market, tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "it").write_bytes(content)
    code, found = shown(ipfl_command, "it", "market/ca.crt")
    assert code == 1
    assert found["it"]["faults"][0].startswith(sentence)
    assert len(found["it"]["faults"]) == 1
    assert found["market/ca.crt"]["faults"] == []


def test_show_wants_a_file(ipfl_command):
    done = ipfl_command("keys", "show")
    assert done.code == 2
    assert "Missing argument 'FILE...'" in done.err

"""Certificates: real handshakes with what is made, every refusal, and renewals that participants do not notice."""

import shutil
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ipfl.errors import ConfigError, KeyFileError
from ipfl.network import certificates
from ipfl.network.certificates import (
    check_certificate,
    check_pair,
    days_left,
    hosts_of,
    is_authority,
    make_authority,
    make_server_certificate,
    read_certificate,
    renew,
)
from ipfl.network.issuing import check_hosts

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOSTS = ["market.example", "10.0.0.7"]


def made(folder, now=None, hosts=HOSTS, days=365):
    make_authority(folder, "market of the tests", now=now)
    make_server_certificate(folder, hosts, days, now)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Keys and certificates of NOW; look at them, do not touch them."""
    return made(tmp_path_factory.mktemp("market") / "keys", NOW)


@pytest.fixture
def folder(kept, tmp_path):
    """The same, to be touched."""
    return shutil.copytree(kept, tmp_path / "keys")


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    """The keys of another operator, with the same names."""
    return made(tmp_path_factory.mktemp("another") / "keys", NOW)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def refusal(call, *arguments) -> str:
    with pytest.raises(KeyFileError) as caught:
        call(*arguments)
    return str(caught.value)


# ---------------------------------------------------------------- handshakes


def shake_hands(folder, authority, host) -> str:
    """Connect over loopback as strictly as OpenSSL knows how to; what the client got to hear."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.create_default_context(cafile=authority / "ca.crt")
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    def answer():
        try:
            with listener.accept()[0] as raw, server.wrap_socket(raw, server_side=True) as connection:
                connection.sendall(b"welcome")
        except (ssl.SSLError, ConnectionError):
            pass  # the client says why

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer)
        answering.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as raw,
                client.wrap_socket(raw, server_hostname=host) as connection,
            ):
                return connection.recv(100).decode()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        finally:
            answering.join(10)


@pytest.fixture(scope="module")
def current(tmp_path_factory):
    """Keys and certificates of today."""
    return made(tmp_path_factory.mktemp("current") / "keys")


@pytest.mark.parametrize("host", ["market.example", "10.0.0.7", "localhost", "127.0.0.1"])
def test_a_client_with_the_authority_connects_to_every_host(current, host):
    check_certificate(current / "server.crt", current / "ca.crt", host)
    assert shake_hands(current, current, host) == "welcome"


def test_a_client_with_another_authority_refuses(current, tmp_path):
    other = made(tmp_path / "other")
    assert shake_hands(current, other, "market.example").startswith(
        ("unable to get", "certificate signature")
    )
    assert refusal(check_certificate, current / "server.crt", other / "ca.crt", "market.example")


def test_a_client_refuses_a_certificate_that_expired(tmp_path):
    folder = tmp_path / "keys"
    make_authority(folder, "market of the tests")
    make_server_certificate(folder, HOSTS, 1, datetime.now(UTC) - timedelta(days=2))
    assert shake_hands(folder, folder, "market.example") == "certificate has expired"
    assert "expired on" in refusal(
        check_certificate, folder / "server.crt", folder / "ca.crt", "market.example"
    )


def test_a_client_refuses_a_certificate_for_another_host(current):
    assert "Hostname mismatch" in shake_hands(current, current, "market.invalid")


def test_a_renewed_certificate_is_accepted_by_whoever_has_the_authority(current, tmp_path):
    folder = shutil.copytree(current, tmp_path / "keys")
    renew(folder, ["new.example"])
    assert shake_hands(folder, current, "new.example") == "welcome"


# ---------------------------------------------------------------- what is made


def test_secret_files_are_for_their_owner_alone(kept):
    assert {each.name: mode(each) for each in kept.glob("*.key")} == {"ca.key": 0o600, "server.key": 0o600}
    assert sorted(each.name for each in kept.iterdir()) == ["ca.crt", "ca.key", "server.crt", "server.key"]
    assert mode(kept) == 0o700


def test_what_the_certificates_say(kept):
    authority, server = read_certificate(kept / "ca.crt"), read_certificate(kept / "server.crt")
    assert (is_authority(authority), is_authority(server)) == (True, False)
    assert (hosts_of(authority), hosts_of(server)) == ([], [*HOSTS, "localhost", "127.0.0.1"])
    assert (days_left(authority, NOW), days_left(server, NOW)) == (3650, 365)
    assert days_left(server, NOW + timedelta(days=366)) == -1
    assert server.not_valid_before_utc == NOW - timedelta(hours=1)
    for certificate in (authority, server):
        critical = {each.oid for each in certificate.extensions if each.critical}
        assert critical == {x509.BasicConstraints.oid, x509.KeyUsage.oid}


def test_a_server_s_certificate_ends_with_its_authority(tmp_path):
    authority = make_authority(tmp_path, "short", 10, NOW)
    server = make_server_certificate(tmp_path, HOSTS, 365, NOW)
    assert server.not_valid_after_utc == authority.not_valid_after_utc


@pytest.mark.parametrize("there", ["ca.key", "ca.crt", "server.key", "server.crt"])
def test_nothing_is_overwritten(folder, there):
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    for each in list(folder.iterdir()):
        if each.name != there and each.name.startswith(there[:2]):
            each.unlink()
            del before[each.name]
    make = make_authority if there.startswith("ca") else make_server_certificate
    argument = "market of the tests" if there.startswith("ca") else HOSTS
    assert refusal(make, folder, argument, 365, NOW).startswith(
        f"{folder / there} is there already and is never"
    )
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_hosts_are_named_once_in_lower_case():
    long = ".".join(["a" * 63] * 3)
    given = [
        "Market.Example",
        "market.example",
        "127.0.0.1",
        "::1",
        "0:0::1",
        "xn--mnchen-3ya.example",
        "7up",
        long,
    ]
    wanted = ["market.example", "127.0.0.1", "::1", "xn--mnchen-3ya.example", "7up", long, "localhost"]
    assert check_hosts(given) == wanted


@pytest.mark.parametrize(
    "host",
    ["", " ", "https://market.example", "market.example:443", "market.example/", "münchen.example", "*.example",
     "-a.example", "a-.example", "a..example", ".example", "market.example.", "10.0.0", "300.0.0.1", "a_b", "a b",
     "[::1]", "fe80::1%eth0", "a" * 64, ".".join(["a" * 63] * 4), "market.example\n"],
)  # fmt: skip
def test_what_is_no_host_is_refused_before_anything_is_made(host, tmp_path):
    make_authority(tmp_path, "market of the tests", now=NOW)
    with pytest.raises(
        ConfigError, match=r"^host .* is neither a name nor an address: give it alone \(market.example"
    ):
        make_server_certificate(tmp_path, ["market.example", host], 365, NOW)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ca.crt", "ca.key"]


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_days_out_of_range_are_refused(tmp_path, days):
    with pytest.raises(ConfigError, match=rf"^a certificate's days: expected 1 to 36,500, got {days}$"):
        make_authority(tmp_path, "market of the tests", days)


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_a_name_that_no_certificate_can_have_is_refused(tmp_path, name):
    with pytest.raises(
        ConfigError, match=r"^the authority's name: expected 1 to 64 printable characters, got "
    ):
        make_authority(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- renewal


def test_a_renewal_keeps_the_hosts_and_what_was_there(folder):
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    certificate = renew(folder, now=NOW + timedelta(days=300))
    assert hosts_of(certificate) == [*HOSTS, "localhost", "127.0.0.1"]
    assert days_left(certificate, NOW) == 665
    check_pair(certificate, folder / "server.crt", folder / "server.key")
    for name in ("server.key", "server.crt"):
        assert (folder / f"{name}.old").read_bytes() == before[name] != (folder / name).read_bytes()
        assert mode(folder / f"{name}.old") == mode(folder / name)
    assert mode(folder / "server.key") == 0o600
    assert len(list(folder.iterdir())) == 6
    for name in ("ca.key", "ca.crt"):
        assert (folder / name).read_bytes() == before[name]
    renew(folder, now=NOW)
    assert len(list(folder.iterdir())) == 6


def test_a_renewal_for_other_hosts_needs_no_certificate(folder):
    (folder / "server.crt").unlink()
    assert refusal(renew, folder) == f"the certificate {folder / 'server.crt'} is not there"
    assert hosts_of(renew(folder, ["new.example"], now=NOW)) == ["new.example", "localhost", "127.0.0.1"]


def test_a_renewal_that_was_cut_is_found_and_mended(folder, monkeypatch):
    replace = certificates.replace_key_file

    def cut(path, content, rights):
        if path.name == "server.crt":
            raise KeyboardInterrupt
        replace(path, content, rights)

    monkeypatch.setattr(certificates, "replace_key_file", cut)
    with pytest.raises(KeyboardInterrupt):
        renew(folder, now=NOW)
    monkeypatch.undo()
    paths = folder / "server.crt", folder / "server.key"
    assert refusal(check_pair, read_certificate(paths[0]), *paths) == (
        f"the key {paths[1]} does not belong to the certificate {paths[0]}: `ipfl keys renew {folder}` makes both anew"
    )
    check_pair(renew(folder, now=NOW), *paths)


def test_an_authority_that_cannot_sign_is_refused(folder, another):
    key, certificate = folder / "ca.key", folder / "ca.crt"
    late = NOW + timedelta(days=3651)
    assert refusal(renew, folder, HOSTS, 365, late) == (
        f"the certificate {certificate} expired on 2036-05-29 12:00 UTC: "
        "a new authority is due, whose ca.crt every participant needs (`ipfl keys operator`)"
    )
    key.chmod(0o640)
    assert refusal(renew, folder) == f"others may read the private key {key}: `chmod 600 {key}`"
    key.write_bytes((another / "ca.key").read_bytes())
    key.chmod(0o600)
    assert refusal(renew, folder) == (
        f"the key {key} does not belong to the certificate {certificate}: put back the two that were made together"
    )
    key.write_text("some text")
    assert refusal(renew, folder) == f"{key} is not a private key in an unlocked PEM file"
    key.unlink()
    assert refusal(renew, folder) == f"the certificate's key {key} is not there"
    certificate.write_bytes((folder / "server.crt").read_bytes())
    assert refusal(renew, folder) == f"{certificate} is a certificate, but not that of an authority"


# ---------------------------------------------------------------- what is wrong with one


def test_a_certificate_that_is_right_is_accepted_until_its_last_second(kept):
    for host in (*HOSTS, "MARKET.example", "localhost"):
        check_certificate(kept / "server.crt", kept / "ca.crt", host, NOW)
    check_certificate(kept / "server.crt", kept / "ca.crt", "localhost", NOW - timedelta(hours=1))
    check_certificate(kept / "server.crt", kept / "ca.crt", "localhost", NOW + timedelta(days=365))


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (
            timedelta(days=365, seconds=1),
            "the certificate {path} expired on 2027-06-01 12:00 UTC: `ipfl keys renew {path.parent}` makes the next",
        ),
        (
            timedelta(hours=-2),
            "the certificate {path} is valid from 2026-06-01 11:00 UTC on, and it is 2026-06-01 10:00 UTC by this "
            "machine: check the clock",
        ),
    ],
    ids=["expired", "not yet"],
)
def test_a_certificate_outside_its_time_is_refused(kept, after, sentence):
    path = kept / "server.crt"
    wanted = sentence.format(path=path)
    assert refusal(check_certificate, path, kept / "ca.crt", "localhost", NOW + after) == wanted


def test_an_authority_outside_its_time_is_refused(tmp_path):
    make_authority(tmp_path, "market of the tests", 10, NOW - timedelta(days=5))
    make_server_certificate(tmp_path, HOSTS, 365, NOW - timedelta(days=5))
    paths = tmp_path / "server.crt", tmp_path / "ca.crt"
    check_certificate(*paths, "localhost", NOW)
    make_authority(tmp_path / "later", "market of the tests", 10, NOW)
    for name in ("ca.key", "ca.crt"):
        (tmp_path / "later" / name).replace(tmp_path / name)
    renew(tmp_path, HOSTS, 365, NOW - timedelta(days=5))
    assert refusal(check_certificate, *paths, "localhost", NOW - timedelta(days=1)).startswith(
        f"the certificate {tmp_path / 'ca.crt'} is valid from 2026-06-01 11:00 UTC on"
    )


def test_a_certificate_of_another_authority_is_refused(kept, another, tmp_path):
    path = kept / "server.crt"
    wanted = f"the certificate {path} is not signed by the authority of {{}}: take both from the same operator's folder"
    for other in (another / "ca.crt", another / "server.crt", path):
        assert refusal(check_certificate, path, other, "localhost", NOW) == wanted.format(other)
    both = tmp_path / "both.crt"
    both.write_bytes((another / "ca.crt").read_bytes() + (kept / "ca.crt").read_bytes())
    check_certificate(path, both, "localhost", NOW)


@pytest.mark.parametrize("host", ["market.invalid", "a.market.example", "example", "10.0.0.8"])
def test_a_certificate_for_other_hosts_is_refused(kept, host):
    path = kept / "server.crt"
    assert refusal(check_certificate, path, kept / "ca.crt", host, NOW) == (
        f"the certificate {path} is not for {host}, only for market.example, 10.0.0.7, localhost, 127.0.0.1: "
        f"`ipfl keys renew {kept} --host {host}` makes one that is"
    )


def test_a_star_in_a_name_stands_for_one_part_of_it():
    assert certificates._is_for("*.Example.org", "market.example.org")
    assert not certificates._is_for("*.example.org", "example.org")
    assert not certificates._is_for("*.example.org", "a.market.example.org")


@pytest.mark.parametrize("content", [b"", b"some text", b"\xff\xfe", "key", "cut"])
def test_a_file_that_is_no_certificate_is_refused(kept, tmp_path, content):
    if content == "key":
        content = (kept / "server.key").read_bytes()
    elif content == "cut":
        content = (kept / "server.crt").read_bytes().replace(b"M", b"", 1)
    path = tmp_path / "wrong.crt"
    path.write_bytes(content)
    wanted = f"{path} is not a certificate, expected a file with -----BEGIN CERTIFICATE----- in it"
    assert refusal(check_certificate, path, kept / "ca.crt", "localhost", NOW) == wanted
    assert refusal(check_certificate, kept / "server.crt", path, "localhost", NOW) == wanted


def test_a_file_that_is_missing_is_told(kept, tmp_path):
    path = tmp_path / "server.crt"
    assert (
        refusal(check_certificate, path, kept / "ca.crt", "localhost")
        == f"the certificate {path} is not there"
    )


def test_a_certificate_without_extensions_is_for_no_host_and_no_authority(tmp_path):
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    bare = builder.sign(key, None)
    assert (hosts_of(bare), is_authority(bare)) == ([], False)
    (tmp_path / "bare.crt").write_bytes(bare.public_bytes(Encoding.PEM))
    (tmp_path / "bare.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "bare.key").chmod(0o600)
    check_pair(bare, tmp_path / "bare.crt", tmp_path / "bare.key")

"""Certificates: an authority of the operator's own, the server's certificate signed by it, and what is wrong with one.

Participants get the authority's certificate, ca.crt, and trust nobody else for the market's address; so the server's
certificate can be made anew, every year or at once, without anything being sent to them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfl.errors import ConfigError, KeyFileError
from ipfl.network.issuing import (
    authority_certificate,
    certificate_pem,
    check_host,
    check_hosts,
    key_pem,
    new_key,
    server_certificate,
)
from ipfl.network.key_files import (
    PUBLIC,
    SECRET,
    check_rights,
    public_der,
    quoted,
    read_key_file,
    replace_key_file,
    write_key_pair,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_KEY, AUTHORITY_CERTIFICATE = "ca.key", "ca.crt"
SERVER_KEY, SERVER_CERTIFICATE = "server.key", "server.crt"
DAYS_MAX = 36_500
_EARLIER = timedelta(hours=1)  # valid from so long before it was made: other clocks may be behind


def make_authority(
    folder: Path, name: str, days: int = 3650, now: datetime | None = None
) -> "x509.Certificate":
    """Make an authority: ca.key, for its owner alone, and ca.crt, to give to participants.

    Args:
      folder: for both files; made where needed.
      name: of the authority, as its certificate says it.
      days: that it is valid for, from 1 to 36,500.
      now: the clock.
    Returns:
      The authority's certificate.
    Raises:
      KeyFileError: one of the files is there already, or cannot be written.
      ConfigError: the name is empty, longer than 64 characters or cannot be printed, or the days are out of range.
    """
    key = new_key()
    certificate = authority_certificate(key, name, *_validity(days, now))
    write_key_pair(
        folder / AUTHORITY_KEY, key_pem(key), folder / AUTHORITY_CERTIFICATE, certificate_pem(certificate)
    )
    return certificate


def make_server_certificate(
    folder: Path, hosts: Sequence[str], days: int = 365, now: datetime | None = None
) -> "x509.Certificate":
    """Make the server's key, for its owner alone, and its certificate, signed by the authority of the same folder.

    Args:
      folder: that `make_authority` wrote.
      hosts: names or addresses that the market is reached at; localhost and 127.0.0.1 are added.
      days: that it is valid for, though never longer than the authority is.
      now: the clock.
    Returns:
      The server's certificate.
    Raises:
      KeyFileError: there is no usable authority, or one of the files is there already or cannot be written.
      ConfigError: a host is neither a name nor an address, or the days are out of range.
    """
    key, certificate = _server_pair(folder, hosts, days, now)
    write_key_pair(folder / SERVER_KEY, key, folder / SERVER_CERTIFICATE, certificate)
    return read_certificate(folder / SERVER_CERTIFICATE)


def renew(
    folder: Path, hosts: Sequence[str] = (), days: int = 365, now: datetime | None = None
) -> "x509.Certificate":
    """Make the server's key and certificate anew under the same authority; those before stay as server.*.old.

    Each of the two files is replaced whole. A crash between the two leaves a key beside a certificate that is not
    its own, which `check_pair` finds and another renewal mends.

    Args:
      folder: that `make_authority` wrote.
      hosts: as for `make_server_certificate`; those of the certificate so far where none is given.
      days: as for `make_server_certificate`.
      now: the clock.
    Returns:
      The new certificate.
    Raises:
      KeyFileError: there is no usable authority, or no certificate to take the hosts from, or a file cannot be written.
      ConfigError: as `make_server_certificate`.
    """
    hosts = hosts or hosts_of(read_certificate(folder / SERVER_CERTIFICATE))
    key, certificate = _server_pair(folder, hosts, days, now)
    written = ((SERVER_KEY, key, SECRET), (SERVER_CERTIFICATE, certificate, PUBLIC))
    for name, _, mode in written:
        if (folder / name).exists():
            replace_key_file(folder / f"{name}.old", read_key_file(folder / name, "the file")[0], mode)
    for name, content, mode in written:
        replace_key_file(folder / name, content, mode)
    return read_certificate(folder / SERVER_CERTIFICATE)


# ---------------------------------------------------------------- what is wrong with one


def read_certificate(path: Path) -> "x509.Certificate":
    """The certificate of a PEM file, the first where there are several.

    Raises:
      KeyFileError: the file is missing, unreadable, or holds none.
    """
    return _certificates(path)[0]


def check_certificate(cert_path: Path, ca_path: Path, host: str, now: datetime | None = None) -> None:
    """Refuse a certificate that a participant's connection to the host would fail over, and say why.

    Args:
      cert_path: the server's certificate.
      ca_path: the authority's, or several of which one has to have signed it, with none in between.
      host: name or address that the market is reached at.
      now: the clock.
    Raises:
      KeyFileError: one of the files is no certificate, is not valid yet or no longer, is not signed by the
        authority, or is for other hosts.
    """
    certificate, authorities = read_certificate(cert_path), _certificates(ca_path)
    check_dates(certificate, cert_path, now)
    signers = [authority for authority in authorities if _has_signed(authority, certificate)]
    if not signers:
        raise KeyFileError(
            f"the certificate {cert_path} is not signed by the authority of {ca_path}: "
            "take both from the same operator's folder"
        )
    check_dates(signers[0], ca_path, now)
    hosts = hosts_of(certificate)
    if not any(_is_for(allowed, check_host(host)) for allowed in hosts):
        raise KeyFileError(
            f"the certificate {cert_path} is not for {host}, only for {', '.join(hosts) or 'no host at all'}: "
            f"`ipfl keys renew {quoted(cert_path.parent)} --host {host}` makes one that is"
        )


def check_dates(certificate: "x509.Certificate", path: Path, now: datetime | None = None) -> None:
    """Refuse a certificate that is not valid yet, or no longer; `path` is where it is from, for the sentence."""
    now = now or datetime.now(UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        raise KeyFileError(
            f"the certificate {path} is valid from {_minute(start)} on, and it is {_minute(now)} by this machine: "
            "check the clock"
        )
    if now > end:
        advice = (
            "a new authority is due, whose ca.crt every participant needs (`ipfl keys operator`)"
            if is_authority(certificate)
            else f"`ipfl keys renew {quoted(path.parent)}` makes the next"
        )
        raise KeyFileError(f"the certificate {path} expired on {_minute(end)}: {advice}")


def check_pair(certificate: "x509.Certificate", cert_path: Path, key_path: Path) -> None:
    """Refuse a private key that is not the certificate's, or that others may read."""
    if public_der(_read_key(key_path).public_key()) != public_der(certificate.public_key()):
        advice = (
            "put back the two that were made together"
            if is_authority(certificate)
            else f"`ipfl keys renew {quoted(cert_path.parent)}` makes both anew"
        )
        raise KeyFileError(f"the key {key_path} does not belong to the certificate {cert_path}: {advice}")


def days_left(certificate: "x509.Certificate", now: datetime | None = None) -> int:
    """Whole days that a certificate is still valid for; below zero once it has expired."""
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))).days


def hosts_of(certificate: "x509.Certificate") -> list[str]:
    """The names and addresses that a certificate is for."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def is_authority(certificate: "x509.Certificate") -> bool:
    """Whether a certificate says that its key may sign others."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _certificates(path: Path) -> "list[x509.Certificate]":
    from cryptography import x509

    content, _ = read_key_file(path, "the certificate")
    try:
        found = x509.load_pem_x509_certificates(content)
        for certificate in found:
            _ = certificate.extensions  # read only here, so that no later use can fail
    except ValueError:
        raise KeyFileError(
            f"{path} is not a certificate, expected a file with -----BEGIN CERTIFICATE----- in it"
        ) from None
    return found


def _has_signed(authority: "x509.Certificate", certificate: "x509.Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return is_authority(authority)


def _is_for(allowed: str, host: str) -> bool:
    """Whether a certificate's name covers a host; `*.` stands for one part of a name."""
    allowed = allowed.lower()
    return allowed == host or (allowed.startswith("*.") and allowed[2:] == host.partition(".")[2])


def _minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


# ---------------------------------------------------------------- making one


def _server_pair(folder: Path, hosts: Sequence[str], days: int, now: datetime | None) -> tuple[bytes, bytes]:
    """A server's key and certificate as the content of their files."""
    hosts = check_hosts(hosts)
    start, end = _validity(days, now)
    authority, authority_key = _read_authority(folder, now)
    key = new_key()
    end = min(end, authority.not_valid_after_utc)
    return key_pem(key), certificate_pem(server_certificate(key, hosts, start, end, authority, authority_key))


def _read_authority(folder: Path, now: datetime | None) -> "tuple[x509.Certificate, EllipticCurvePrivateKey]":
    path = folder / AUTHORITY_CERTIFICATE
    certificate = read_certificate(path)
    if not is_authority(certificate):
        raise KeyFileError(f"{path} is a certificate, but not that of an authority")
    check_pair(certificate, path, folder / AUTHORITY_KEY)
    if days_left(certificate, now) < 0:
        check_dates(certificate, path, now)
    return certificate, _read_key(folder / AUTHORITY_KEY)


def _read_key(path: Path) -> Any:
    """A certificate's private key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, mode = read_key_file(path, "the certificate's key")
    check_rights(path, mode)
    try:
        return load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is not a private key in an unlocked PEM file") from None


def _validity(days: int, now: datetime | None) -> tuple[datetime, datetime]:
    if not 1 <= days <= DAYS_MAX:
        raise ConfigError(f"a certificate's days: expected 1 to {DAYS_MAX:,}, got {days}")
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    return now - _EARLIER, now + timedelta(days=days)

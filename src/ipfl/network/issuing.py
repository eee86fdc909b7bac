"""Certificates as they are made: an authority's, and a server's that it signs.

The extensions are those that OpenSSL asks for under X509_STRICT (RFC 5280): critical basic constraints and key usage,
and the identifiers of both keys.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ipfl.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ALWAYS = ("localhost", "127.0.0.1")
"""Hosts that every server's certificate is for: the operator works on the machine itself."""
_SERVER_NAME = "server of an ipfl market"
_NAME_MAX = 64
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?!\d+\Z){_LABEL}\Z")


def new_key() -> "EllipticCurvePrivateKey":
    """A key for a certificate: ECDSA on the curve P-256."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    return generate_private_key(SECP256R1())


def authority_certificate(
    key: "EllipticCurvePrivateKey", name: str, start: datetime, end: datetime
) -> "x509.Certificate":
    """An authority's certificate, signed by its own key.

    Raises:
      ConfigError: the name is empty, longer than 64 characters, or cannot be printed.
    """
    from cryptography import x509

    if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        raise ConfigError(
            f"the authority's name: expected 1 to {_NAME_MAX} printable characters, got {name!r}"
        )
    subject = _named(name)
    builder = _builder(subject, subject, key, start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    return _signed(builder, key, x509.SubjectKeyIdentifier.from_public_key(key.public_key()))


def server_certificate(
    key: "EllipticCurvePrivateKey",
    hosts: Sequence[str],
    start: datetime,
    end: datetime,
    authority: "x509.Certificate",
    authority_key: "EllipticCurvePrivateKey",
) -> "x509.Certificate":
    """A server's certificate, signed by the authority, for hosts as `check_hosts` returns them."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    builder = _builder(_named(_SERVER_NAME), authority.subject, key, start, end)
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage("digital_signature"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return _signed(builder, authority_key, issuer)


def check_hosts(hosts: Sequence[str]) -> list[str]:
    """Hosts as a certificate has them: lower case, each once, localhost and 127.0.0.1 last.

    Raises:
      ConfigError: one of them is neither a host's name nor an address.

    >>> check_hosts(["Market.example", "10.0.0.7", "localhost"])
    ['market.example', '10.0.0.7', 'localhost', '127.0.0.1']
    """
    return list(dict.fromkeys([*map(check_host, hosts), *ALWAYS]))


def check_host(host: str) -> str:
    """One host, lower case.

    Raises:
      ConfigError: it is neither a host's name nor an address.
    """
    try:
        if "%" not in host:
            return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.match(host.lower()):
        raise ConfigError(
            f"host {host!r} is neither a name nor an address: give it alone (market.example, 192.0.2.7), "
            "without https:// and port, and letters beyond a to z as xn--"
        )
    return host.lower()


def key_pem(key: "EllipticCurvePrivateKey") -> bytes:
    """The content of a private key's file, without a passphrase."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate_pem(certificate: "x509.Certificate") -> bytes:
    """The content of a certificate's file."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    key: "EllipticCurvePrivateKey",
    start: datetime,
    end: datetime,
) -> "x509.CertificateBuilder":
    from cryptography import x509

    public = key.public_key()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _signed(
    builder: "x509.CertificateBuilder", key: "EllipticCurvePrivateKey", issuer: "x509.SubjectKeyIdentifier"
) -> "x509.Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    link = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
    return builder.add_extension(link, critical=False).sign(key, SHA256())


def _usage(*used: str) -> "x509.KeyUsage":
    from cryptography import x509

    uses = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: use in used for use in uses})


def _named(name: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

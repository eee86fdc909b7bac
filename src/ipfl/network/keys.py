"""Keys: what a participant signs with, what others know it by, and whether the operator signed.

A participant's key is an ECDSA key on the curve P-384 in OpenSSH's format, as `ssh-keygen -t ecdsa -b 384` makes it and
Flower reads it, so one file serves for the connection and for what the participant signs. It is known by its
fingerprint: SHA-256 of the public key as a DER SubjectPublicKeyInfo with the point written out, which one key has
exactly one of. The operator signs with the Ed25519 key of `ipfl.ledger.receipts`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfl.errors import KeyFileError
from ipfl.network.key_files import (
    check_rights,
    is_private,
    is_public,
    is_public_line,
    public_der,
    quoted,
    read_key_file,
    write_key_pair,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KIND = "ecdsa-sha2-nistp384"
"""The first word of a participant's public key."""


@dataclass(frozen=True)
class PublicKey:
    """What others know a participant by. Made by `from_der`, `from_pem` or `read_public_key`, which check the kind."""

    der: bytes

    @classmethod
    def from_der(cls, der: bytes, where: str = "the public key") -> "PublicKey":
        """The key of a DER SubjectPublicKeyInfo.

        Raises:
          KeyFileError: it is none, or one of another kind; `where` begins the sentence.
        """
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        return cls._checked(_loaded(load_der_public_key, der, where), where)

    @classmethod
    def from_pem(cls, pem: bytes, where: str = "the public key") -> "PublicKey":
        """The key of a PEM SubjectPublicKeyInfo, which is how Flower keeps and sends the keys of its SuperNodes.

        Raises:
          KeyFileError: as `from_der`.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        return cls._checked(_loaded(load_pem_public_key, pem, where), where)

    @classmethod
    def _checked(cls, key: Any, where: str) -> "PublicKey":
        _check_kind(key, where)
        return cls(public_der(key))

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that stand for the key."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def text(self) -> str:
        """OpenSSH's line, without a comment."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return str(self._key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature over the data is this key's."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA384

        try:
            self._key.verify(signature, data, ECDSA(SHA384()))
        except InvalidSignature:
            return False
        return True

    @property
    def _key(self) -> Any:
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        return load_der_public_key(self.der)


class ParticipantKey:
    """The key that a participant connects and signs with; others know it by `public`."""

    def __init__(self, private: "EllipticCurvePrivateKey"):
        self._private = private
        self.public = PublicKey.from_der(public_der(private.public_key()))
        self.fingerprint = self.public.fingerprint
        self.public_text = self.public.text

    def sign(self, data: bytes) -> bytes:
        """The signature over the data: ECDSA with SHA-384, in DER.

        Signing twice gives two signatures, and others can derive a third: never tell messages apart by signatures.
        """
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA384

        return self._private.sign(data, ECDSA(SHA384()))


def read_participant_key(path: Path) -> ParticipantKey:
    """The participant's key in a file of OpenSSH's format without a passphrase.

    Raises:
      KeyFileError: the file is missing, others may read it, or it holds something else, and what.
    """
    content, mode = read_key_file(
        path, "the participant's key", f"`ipfl keys participant {quoted(path)}` makes it"
    )
    if is_public(content):
        raise KeyFileError(
            f"{path} holds a public key, expected the private one, which is the file without .pub"
        )
    check_rights(path, mode)
    return participant_key(content, path)


def participant_key(content: bytes, path: Path) -> ParticipantKey:
    """The participant's key in what was read from a file; the file's rights are not looked at.

    Raises:
      KeyFileError: it is no key, is locked, or is of another kind or format.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    unlock = f"`ssh-keygen -p -N '' -f {quoted(path)}`"
    if is_private(content) and b"BEGIN OPENSSH" not in content:
        raise KeyFileError(f"{path} holds a key in another format than OpenSSH's: {unlock} writes it anew")
    try:
        private = load_ssh_private_key(content, password=None)
    except TypeError:
        raise KeyFileError(
            f"{path} is locked with a passphrase, which nobody can type in for a service: {unlock} takes it away"
        ) from None
    except UnsupportedAlgorithm as error:
        raise KeyFileError(f"{path} holds a key of another kind ({error}), {_expected()}") from None
    except (ValueError, NotImplementedError):
        raise KeyFileError(f"{path} holds no private key, {_expected()}") from None
    _check_kind(private.public_key(), str(path))
    return ParticipantKey(private)  # type: ignore[arg-type]


def make_participant_key(path: Path, comment: str = "") -> ParticipantKey:
    """Make a participant's key: its file, for its owner alone, and beside it the public half, named .pub.

    Args:
      path: of the private half; the folder is made where needed.
      comment: ends the public half's line, for people to tell keys apart by; only what can be printed of it is kept.
    Raises:
      KeyFileError: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = generate_private_key(SECP384R1())
    key = ParticipantKey(private)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    shown = "".join(letter for letter in comment if letter.isprintable()).strip()
    line = f"{key.public_text} {shown}".rstrip() + "\n"
    write_key_pair(path, secret, path.with_name(f"{path.name}.pub"), line.encode())
    return key


def read_public_key(text_or_path: str | Path, where: str) -> PublicKey:
    """A participant's public key, given as OpenSSH's line or as the file that holds it.

    Args:
      text_or_path: `ecdsa-sha2-nistp384 AAAA... comment`, or a path.
      where: who says so; begins every error's sentence.
    Raises:
      KeyFileError: the file is missing, or what is there is no such key.
    """
    content = str(text_or_path).strip()
    if not (isinstance(text_or_path, str) and (is_public_line(content) or "-----BEGIN " in content)):
        path = Path(text_or_path)
        try:
            content = read_key_file(path, "the public key")[0].decode()
        except KeyFileError as error:
            raise KeyFileError(f"{where}: {error}") from None
        except UnicodeDecodeError:
            raise KeyFileError(f"{where}: {path} holds no public key, {_expected()}") from None
        where = where if str(path) == where else f"{where}: {path}"
    if is_private(content.encode()):
        raise KeyFileError(
            f"{where}: this is a private key, to be shown to nobody; give the public one, named .pub"
        )
    lines = [line for line in content.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise KeyFileError(f"{where}: this is not one line with one public key, {_expected()}")
    return _public_of_line(lines[0].strip(), where)


def fingerprint_of_der(der: bytes) -> str:
    """The fingerprint of a public key of any kind, given as a DER SubjectPublicKeyInfo.

    Raises:
      KeyFileError: it is no public key.
    """
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return hashlib.sha256(public_der(_loaded(load_der_public_key, der, "the public key"))).hexdigest()


def operator_signed(public_hex: str, signature: bytes, data: bytes) -> bool:
    """Whether the signature over the data is that of the operator's key, given as 64 hexadecimal digits."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _public_of_line(line: str, where: str) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    kind = line.split()[0]
    if kind != KIND and is_public_line(f"{line} "):
        raise KeyFileError(f"{where}: this is a public key of another kind ({kind}), {_expected()}")
    return PublicKey._checked(_loaded(load_ssh_public_key, line.encode(), where), where)


def _loaded(load: Any, content: bytes, where: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(content)
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise KeyFileError(f"{where}: this is no public key, {_expected()}") from None


def _check_kind(public: Any, where: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey

    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP384R1):
        return
    curve = f" on {public.curve.name}" if isinstance(public, EllipticCurvePublicKey) else ""
    kind = type(public).__name__.removesuffix("PublicKey") + curve
    raise KeyFileError(f"{where}: this is a key of another kind ({kind}), {_expected()}")


def _expected() -> str:
    return f"expected {KIND} as `ipfl keys participant FILE` makes it"

"""The files of keys and certificates: read with their rights, written for good, never over one another."""

import os
import re
import shlex
from pathlib import Path
from stat import S_IMODE
from typing import Any

from ipfl.disk import sync_folder
from ipfl.errors import KeyFileError

SECRET, PUBLIC = 0o600, 0o644
"""The rights of a file that its owner alone may read, and of one to give away."""
_SIZE_MAX = 1_000_000
_PUBLIC_LINE = re.compile(r"(ecdsa|ssh|sk)-[\w@.-]+\s")
_PRIVATE_PEM = re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")


def read_key_file(path: Path, what: str, advice: str = "") -> tuple[bytes, int]:
    """Content and rights of a file.

    Args:
      path: of the file.
      what: it should be, for the error's sentence.
      advice: what to do where it is missing.
    Raises:
      KeyFileError: there is no such file, or it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise KeyFileError(f"{what} {path} is not a file")
        with path.open("rb") as file:
            mode = S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_SIZE_MAX + 1)
    except FileNotFoundError:
        raise KeyFileError(f"{what} {path} is not there" + (f": {advice}" if advice else "")) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise KeyFileError(f"cannot read {what} {path}: {reason}") from None
    if len(content) > _SIZE_MAX:
        raise KeyFileError(f"{path} is larger than {_SIZE_MAX // 1_000_000} MB: it cannot be {what}")
    return content, mode


def check_rights(path: Path, mode: int) -> None:
    """Refuse a private key that others than its owner have any right to."""
    if mode & 0o077:
        raise KeyFileError(f"others may read the private key {path}: `chmod 600 {quoted(path)}`")


def write_key_pair(secret_path: Path, secret: bytes, public_path: Path, public: bytes) -> None:
    """Write a secret file and the public one that belongs to it: both or neither, never over anything.

    Raises:
      KeyFileError: one is there already, or cannot be written.
    """
    for path in (secret_path, public_path):
        if os.path.lexists(path):
            raise _taken(path)
    _link_new(secret_path, secret, SECRET)
    try:
        _link_new(public_path, public, PUBLIC)
    except BaseException:
        secret_path.unlink()
        raise


def replace_key_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file in place of what is there: a reader finds the old one or the new one, whole.

    Raises:
      KeyFileError: it cannot be written.
    """
    try:
        temporary = _written(path, content, mode)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None


def is_private(content: bytes) -> bool:
    """Whether a file holds a private key, of whatever kind."""
    return _PRIVATE_PEM.search(content) is not None


def is_public(content: bytes) -> bool:
    """Whether a file holds a public key, of whatever kind."""
    text = content.decode(errors="replace").lstrip()
    return is_public_line(text) or text.startswith("-----BEGIN PUBLIC KEY-----")


def is_public_line(text: str) -> bool:
    """Whether a text begins as OpenSSH's line for a public key does."""
    return _PUBLIC_LINE.match(text) is not None


def public_der(public: Any) -> bytes:
    """A public key of any kind as it is kept and hashed: a DER SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def quoted(path: Path) -> str:
    """A path as it can be pasted into a shell."""
    return shlex.quote(str(path))


def _link_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = _written(path, content, mode)
        try:
            os.link(temporary, path)  # unlike a rename, it leaves alone what another process made meanwhile
        except FileExistsError:
            raise _taken(path) from None
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None


def _written(path: Path, content: bytes, mode: int) -> Path:
    """A file beside `path` with the content, safe from a loss of power."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def _taken(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} is there already and is never overwritten: give another name, or move it away"
    )

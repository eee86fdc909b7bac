"""Receipts: what a participant keeps so that history cannot be changed behind its back.

After every round the operator signs, for each participant: the run, the round, number and hash of the ledger's newest
entry, and the participant's balance. The hash chains all that was booked until then, so one receipt, kept by anybody,
gives away any change of what is older, a ledger cut off before it, and two ledgers of one run. Without a receipt the
chain alone cannot tell a ledger whose newest entries were taken away. Signatures: Ed25519 (RFC 8032), which sign the
same text the same way every time.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfl.disk import sync_folder
from ipfl.errors import LedgerError
from ipfl.ledger.entries import canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_VARIABLE = "IPFL_OPERATOR_KEY"
"""The environment variable that says where the operator's key is."""
_SIZE_MAX = 100_000_000


@dataclass(frozen=True)
class Receipt:
    """What the operator signs; `balance` in units, `key` and `signature` hexadecimal."""

    run: str
    round_index: int
    seq: int
    head: str
    participant_id: str
    balance: int
    key: str
    signature: str

    @property
    def claim(self) -> bytes:
        """The text that is signed."""
        content = asdict(self)
        del content["signature"]
        return canonical(content).encode()

    def to_json(self) -> str:
        """One line."""
        return canonical(asdict(self))

    def genuine(self) -> bool:
        """Whether the signature is the key's."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            public.verify(bytes.fromhex(self.signature), self.claim)
        except (InvalidSignature, ValueError):
            return False
        return True


class OperatorKey:
    """The key that an operator signs receipts with; participants know it by `public`, its other half (hexadecimal)."""

    def __init__(self, private: "Ed25519PrivateKey"):
        self._private = private
        self.public = private.public_key().public_bytes_raw().hex()

    def receipts(
        self, run: str, round_index: int, head: tuple[int, str], balances: Mapping[str, int]
    ) -> list[Receipt]:
        """A receipt of a round for each account."""
        return [self._signed(run, round_index, head, name, balance) for name, balance in balances.items()]

    def sign(self, data: bytes) -> bytes:
        """The signature over the data, which has to say what it is: it must not read as a receipt by chance."""
        return self._private.sign(data)

    def _signed(self, run: str, round_index: int, head: tuple[int, str], name: str, balance: int) -> Receipt:
        unsigned = Receipt(run, round_index, *head, name, balance, self.public, "")
        signature = self._private.sign(unsigned.claim).hex()
        return Receipt(run, round_index, *head, name, balance, self.public, signature)


def key_path() -> Path:
    """Where the operator's key is: as the environment says, else in the user's configuration folder."""
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return Path(given)
    from platformdirs import user_config_path

    return user_config_path("ipfl") / "operator.key"


def operator_key(path: Path | None = None) -> OperatorKey:
    """The operator's key, made at first use (readable by its owner alone).

    Raises:
      LedgerError: the file holds no Ed25519 key, others may read it, or it cannot be made.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = path or key_path()
    try:
        if not path.exists():
            _make_key(path)
        mode = path.stat().st_mode & 0o077
        content = path.read_bytes()
    except OSError as error:
        raise LedgerError(
            f"cannot read or make the operator's key {path}: {error.strerror}; say where it may be by {KEY_VARIABLE}"
        ) from error
    if mode:
        raise LedgerError(f"others may read the operator's key {path}: `chmod 600 {path}`")
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise LedgerError(
            f"{path} holds no key (an unencrypted PEM file of an Ed25519 key): {error}"
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise LedgerError(f"{path} holds a key of another kind, expected Ed25519")
    return OperatorKey(private)


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, it keeps a key that another process made meanwhile
        except FileExistsError:
            return
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def read_receipts(where: Path) -> list[Receipt]:
    """The receipts of a file, or of all files *.jsonl of a folder and the folders in it, one a line.

    Raises:
      LedgerError: there are none, or a line is no receipt (with file and line).
    """
    if where.is_dir():
        paths = sorted(path for path in where.rglob("*.jsonl") if path.name != "rounds.jsonl")
    else:
        paths = [where]
    found = [receipt for path in paths for receipt in _read_file(path)]
    if not found:
        raise LedgerError(
            f"no receipts at {where}: give a file of receipts (.jsonl) or a folder with such files"
        )
    return found


def _read_file(path: Path) -> Iterable[Receipt]:
    try:
        if path.stat().st_size > _SIZE_MAX:
            raise LedgerError(f"{path} is larger than {_SIZE_MAX // 1_000_000} MB: it is no file of receipts")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"cannot read receipts {path}: {error}") from None
    return [_receipt(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _receipt(line: str, where: str) -> Receipt:
    kinds = {
        name: int if name in ("round_index", "seq", "balance") else str for name in Receipt.__annotations__
    }
    try:
        content: Any = json.loads(line)
        if not isinstance(content, dict) or set(content) != set(kinds):
            raise ValueError(f"expected the fields {', '.join(kinds)}")
        for name, kind in kinds.items():
            if type(content[name]) is not kind:
                raise ValueError(f"{name} is {content[name]!r}")
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"{where} is no receipt: {error}") from None
    return Receipt(**content)

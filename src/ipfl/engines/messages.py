"""What passes between an operator and a participant: signed bytes that anybody may have written.

A message is a magic line, the length of a signature, the signature, and a body. The body is a safetensors file in
memory: named vectors, and a JSON object in its metadata. Nothing in a message is believed before its signature is that
of the key it should be, and nothing is unpickled.

Laws: `opened(sealed(content, arrays)) == (content, arrays)`; a change of any byte is refused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import save

from ipfl.errors import IpflError, ReplyError
from ipfl.tensor_file import read_content

MAGIC = b"ipfl message 1\n"
SIGNATURE_MAX = 512
HEADER_MAX = 16 << 20
"""Bytes of text in a message: bills of many rounds, with what they were reckoned from."""
REQUEST, REPLY = b"request\n", b"reply\n"
"""What is signed begins with one of these, so that neither can be taken for the other."""

Arrays = Mapping[str, np.ndarray]
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]
"""Called with a signature and the text that it should be of."""


@dataclass(frozen=True, eq=False)
class Message:
    """A message whose signature was right: its text, its vectors, and the digest by which it is answered."""

    content: dict[str, Any]
    arrays: dict[str, np.ndarray]
    digest: str


def sealed(kind: bytes, content: Mapping[str, Any], arrays: Arrays, sign: Sign) -> bytes:
    """A message, signed.

    Args:
      kind: REQUEST or REPLY.
      content: whatever JSON can say, NaN and infinities excepted.
      arrays: vectors by name.
      sign: makes the signature of bytes.
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)
    body = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"content": text})
    signature = sign(kind + hashlib.sha256(body).digest())
    return MAGIC + len(signature).to_bytes(2, "big") + signature + body


def opened(kind: bytes, message: bytes, verify: Verify, bytes_max: int) -> Message:
    """A message taken apart, once its signature is right.

    Raises:
      ReplyError: it is too large, damaged, something else, or signed by another key; the text begins with "it".
    """
    if len(message) > bytes_max:
        raise ReplyError(f"it has {len(message):,} bytes, expected at most {bytes_max:,}")
    start = len(MAGIC) + 2
    if len(message) < start or not message.startswith(MAGIC):
        raise ReplyError("it is no message of ipfl's, or of another version")
    length = int.from_bytes(message[len(MAGIC) : start], "big")
    signature, body = message[start : start + length], message[start + length :]
    digest = hashlib.sha256(body)
    if not 0 < length <= SIGNATURE_MAX or not verify(signature, kind + digest.digest()):
        raise ReplyError("it is not signed by the key that it should be signed by")
    try:
        arrays, texts = read_content(body, "it", what_to_do="send it again", header_max=HEADER_MAX)
        content = json.loads(texts["content"])
    except (IpflError, ValueError, KeyError, RecursionError) as error:
        raise ReplyError(f"it cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ReplyError("it cannot be read: its text is no JSON object")
    return Message(content, arrays, digest.hexdigest())


def request_digest(message: bytes) -> str:
    """The digest by which a request of one's own is answered."""
    start = len(MAGIC) + 2
    length = int.from_bytes(message[len(MAGIC) : start], "big")
    return hashlib.sha256(memoryview(message)[start + length :]).hexdigest()


def array_digest(*arrays: np.ndarray) -> str:
    """What a model is known by: SHA-256 of its numbers."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

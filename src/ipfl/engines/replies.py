"""What a participant's reply has to be: its own, to what it was asked, with a model or figures of the right shapes.

Anybody may have written the bytes. Whatever is wrong is a `ReplyError` whose text begins with "it" or "its".
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from ipfl.engines.exchange import Member, shown
from ipfl.engines.messages import REPLY, Message, opened
from ipfl.errors import ReplyError
from ipfl.types import EvaluateReply, TrainReply

TEXT_ROOM = 16 << 20
"""Bytes that a reply may have beside its vectors."""
REASON_MAX = 300


class RefusalError(ReplyError):
    """The participant does not do what it was asked, and says why."""


class Asked(NamedTuple):
    """Who was asked, in which market, and the digest of the request."""

    member: Member
    market: str
    digest: str


def reply_bytes_max(theta_0: Float32[np.ndarray, "p"], buffers_0: Float32[np.ndarray, "b"]) -> int:
    """How large a reply may be in a market of such models."""
    return 4 * (theta_0.nbytes + buffers_0.nbytes) + TEXT_ROOM


def own_reply(
    content: bytes, asked: Asked, theta_0: Float32[np.ndarray, "p"], buffers_0: Float32[np.ndarray, "b"]
) -> Message:
    """A reply, once it is known to be this participant's, to this request.

    Args:
      content: as it came.
      asked: what it should answer.
      theta_0, buffers_0: a model of the market's, which says how large a reply may be.
    Raises:
      ReplyError: it is too large, damaged, somebody else's, or the answer to something else.
    """
    reply = opened(REPLY, content, asked.member.verify, reply_bytes_max(theta_0, buffers_0))
    told = reply.content
    if (told.get("from"), told.get("participant_id")) != (
        asked.member.fingerprint,
        asked.member.participant_id,
    ):
        raise ReplyError(f"it is in the name of {shown(told.get('participant_id'))}")
    if told.get("market") != asked.market:
        raise ReplyError("it belongs to another market")
    if told.get("answers") != asked.digest:
        raise ReplyError("it answers another request: it is late, or was sent again")
    return reply


def trained(
    reply: Message,
    index: int,
    theta_0: Float32[np.ndarray, "p"],
    buffers_0: Float32[np.ndarray, "b"],
) -> TrainReply:
    """The model in a reply, of the market's shape.

    Raises:
      ReplyError: it is missing, or of another shape or type, or its loss is no number.
    """
    params = _vector(reply, "params", theta_0, "model")
    buffers = _vector(reply, "buffers", buffers_0, "buffers")
    loss = reply.content.get("loss")
    if loss is not None and not (type(loss) is float and math.isfinite(loss)):
        raise ReplyError(f"its loss is {shown(loss)}, expected a finite number with a decimal point, or none")
    return TrainReply(index, params, buffers, math.nan if loss is None else loss)


def _vector(reply: Message, name: str, like: np.ndarray, what: str) -> np.ndarray:
    array = reply.arrays.get(name)
    if array is None or array.dtype != np.float32 or array.shape != like.shape:
        has = "is missing" if array is None else f"has {array.size} numbers of type {array.dtype}"
        raise ReplyError(f"its {what} {has}, expected {like.size} of type float32")
    return array


def evaluation(reply: Message, index: int, models: int, splits: Sequence[str]) -> EvaluateReply:
    """What a reply says of some models on some splits, [model, split] each.

    Raises:
      ReplyError: figures are missing, or are not what they can be.
    """
    found: dict[str, np.ndarray | None] = {}
    for name in ("loss", "accuracy", "choice", "loss_error"):
        array = reply.arrays.get(f"judged/{name}")
        if array is None and name in ("choice", "loss_error"):
            found[name] = None
        elif array is None or array.dtype != np.float64 or array.shape != (models, len(splits)):
            raise ReplyError(f"{name} of its models is not {models} by {len(splits)} numbers")
        else:
            found[name] = array
    loss, accuracy = found["loss"], found["accuracy"]
    assert loss is not None
    assert accuracy is not None
    if np.any((accuracy < 0) | (accuracy > 1)):
        raise ReplyError("an accuracy of its models is not between 0 and 1")
    return EvaluateReply(index, loss, accuracy, found["choice"], found["loss_error"])


def in_plain_letters(error: ReplyError) -> str:
    """A sentence with a stranger's words in it, so that nothing in them moves a cursor or begins a line of its own."""
    text = str(error)[:REASON_MAX]
    return "".join(letter if letter.isprintable() else "?" for letter in text)

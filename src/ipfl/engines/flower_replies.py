"""Replies brought in from Flower piece by piece: none larger than is allowed, and none that keeps others waiting.

`Grid.pull_messages` would take in whatever is sent, and would wait for the last piece of one reply, for hours if need
be, before it looks at the next. So what it asks the SuperLink for is asked for here, a piece at a time; that is
internal to flwr: hence a few versions alone.

This file belongs to `flower.py` and is copied with it to where the SuperLink runs them.
"""

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Array, Message
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

ROOM = 1 << 20
"""Bytes that a reply may have in its pieces beside those of its answer: what Flower writes on them."""
PIECE_BYTES, PIECES_BESIDE = 1 << 20, 64
"""Pieces smaller than this on average, of which Flower makes them several times larger, are not fetched."""
TRIES = 4
"""After so many pieces that are not there yet a reply is left until the next look: pieces come in any order."""
LOST = "lost its connection before its answer was there"
STRANGE = "answered with a record that is not of this market"


@dataclass
class _Coming:
    """A reply of which pieces are still to come."""

    reply_id: str
    missing: deque[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    num_bytes: int = 0


class Incoming:
    """The replies to what a relay has sent.

    Args:
      grid: Flower's own, as an app is given it.
      bytes_max: that an answer may have.
      deadline: on the monotonic clock; no piece is fetched after it.
    """

    def __init__(self, grid: Grid, bytes_max: int, deadline: float):
        self._grid: Any = grid
        self._bytes_max, self._deadline = bytes_max, deadline
        self._coming: dict[str, _Coming] = {}

    def look(self, waiting: Iterable[str]) -> Iterator[tuple[str, Message | str]]:
        """Replies that have come in as a whole since the last look, and why others never will.

        Args:
          waiting: ids of the messages that have not been answered.
        Returns:
          By the id of the message that is answered.
        """
        unclaimed = [message_id for message_id in waiting if message_id not in self._coming]
        if unclaimed:
            found = self._client.PullMessages(PullAppMessagesRequest(message_ids=unclaimed))
            for reply, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                pieces = deque(dict.fromkeys(node.object_id for node in iterate_object_tree(tree)))
                answers = reply.metadata.reply_to_message_id
                if answers in self._coming:
                    self._forget(answers)
                self._coming[answers] = _Coming(reply.metadata.message_id, pieces)
        for answers, coming in list(self._coming.items()):
            outcome = self._go_on(coming)
            if outcome is not None:
                self._forget(answers)
                yield answers, outcome

    def drop(self) -> None:
        """Have Flower delete what it holds of replies that are not whole, and take no more of them."""
        for answers in list(self._coming):
            self._forget(answers)

    @property
    def _client(self) -> Any:
        return self._grid._runtime_client

    def _go_on(self, coming: _Coming) -> Message | str | None:
        """Fetch the pieces that are there; None while others are to come."""
        pieces = len(coming.missing) + len(coming.contents)
        pieces_max = PIECES_BESIDE + self._bytes_max // PIECE_BYTES
        if pieces > pieces_max:
            return f"its answer is in {pieces} pieces, allowed are {pieces_max}"
        tries = 0
        while coming.missing:
            if time.monotonic() >= self._deadline or tries >= min(TRIES, len(coming.missing)):
                return None
            piece = coming.missing[0]
            got = self._client.PullObject(
                PullObjectRequest(node=self._grid.node, run_id=self._grid.run.run_id, object_id=piece)
            )
            if not got.object_found:
                return LOST
            if not got.object_available:
                coming.missing.rotate(-1)
                tries += 1
                continue
            coming.contents[piece] = got.object_content
            coming.num_bytes += len(got.object_content)
            if coming.num_bytes > self._bytes_max + ROOM:
                return self._too_large(coming.num_bytes)
            coming.missing.popleft()
        return self._whole(coming)

    def _whole(self, coming: _Coming) -> Message | str:
        """The message that the pieces are; anybody may have made them."""
        try:
            num_bytes = _unfolded(coming.contents)
            if num_bytes > self._bytes_max + ROOM:
                return self._too_large(num_bytes)
            message = inflate_object_from_contents(coming.reply_id, coming.contents)
        except Exception:  # whatever Flower stumbles over in what it was sent
            return STRANGE
        return message if isinstance(message, Message) else STRANGE

    def _too_large(self, num_bytes: int) -> str:
        return f"its answer has {num_bytes:,} bytes or more, allowed are {self._bytes_max:,}"

    def _forget(self, answers: str) -> None:
        """Flower keeps a reply until it is told that it has arrived; of one that it has not, it then takes no more."""
        coming = self._coming.pop(answers)
        self._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._grid.node,
                run_id=self._grid.run.run_id,
                message_object_id=coming.reply_id,
            )
        )


def _unfolded(contents: dict[str, bytes]) -> int:
    """Bytes of all arrays together, which may name one piece many times."""
    num_bytes = 0
    for content in contents.values():
        kind, children, _ = get_object_head_values_from_object_content(content)
        if kind == Array.__qualname__:
            named = json.loads(get_object_body(content, Array))["arraychunk_ids"]
            num_bytes += sum(len(contents[children[index]]) for index in named)
    return num_bytes

"""Flower's grid as the relay sees it, without a SuperLink: it holds replies in pieces, as a SuperLink does."""

import base64
from collections.abc import Callable, Iterable
from typing import Any

import pytest

pytest.importorskip("flwr")
from flwr.app import Error, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.node_pb2 import Node, NodeInfo
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)

from ipfl.engines import flower

Said = bytes | int | RecordDict
"""Bytes of an answer, a code of Flower's, or any record."""


@pytest.fixture(autouse=True)
def in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages can be made in a task of Flower's only."""
    for name in ("task_id", "run_id", "node_id"):
        monkeypatch.setattr(f"flwr.supercore.task_identity.TaskIdentity._{name}", 1)


def pem(body: bytes) -> bytes:
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(body) + b"\n-----END PUBLIC KEY-----\n"


class FakeClient:
    """Holds the pieces of replies; those of the nodes in `unavailable` stay on their way, but for the first."""

    def __init__(self, looked: Callable[[], None] = lambda: None) -> None:
        self._looked = looked
        self.replies: list[tuple[int, Message]] = []
        self.objects: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.lost = False
        self.pulled: list[str] = []
        self.unavailable: set[int] = set()
        self._on_their_way: set[str] = set()
        self._trees: dict[str, list[str]] = {}

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        self._looked()
        found = PullAppMessagesResponse()
        for node_id, reply in self.replies:
            if reply.metadata.reply_to_message_id in request.message_ids:
                tree = get_object_tree(reply)
                pieces = [node.object_id for node in iterate_object_tree(tree)]
                self.objects |= {key: held.deflate() for key, held in get_all_nested_objects(reply).items()}
                self._trees[reply.object_id] = pieces
                if node_id in self.unavailable:
                    self._on_their_way.update(pieces[1:])
                reply.metadata.__dict__["_message_id"] = reply.object_id
                proto = message_to_proto(reply)
                found.messages_list.append(proto)
                found.message_object_trees.append(tree)
        self.replies.clear()
        return found

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        if request.object_id in self._on_their_way:
            return PullObjectResponse(object_found=True, object_available=False)
        content = self.objects.get(request.object_id)
        if content is None or self.lost:
            return PullObjectResponse(object_found=False, object_available=False)
        self.pulled.append(request.object_id)
        self.sizes[request.object_id] = len(content)
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(  # noqa: N802
        self, request: ConfirmMessageReceivedRequest
    ) -> ConfirmMessageReceivedResponse:
        for piece in self._trees[request.message_object_id]:
            self.objects.pop(piece, None)
        return ConfirmMessageReceivedResponse()


class FakeRun:
    run_id = 1


class FakeGrid(Grid):
    """Answers as `answers` says, by the node's number, each so many looks after its message was pushed."""

    def __init__(self, keys: dict[str, bytes], answers: dict[int, list[tuple[int, Said]]]):
        self._keys, self._answers = keys, answers
        self._looks = 0
        self.pushed: list[Message] = []
        self.client = FakeClient(self._arrive)
        self.node = Node(node_id=1)

    def get_nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(node_id=node_id + 1, public_key=pem, status="online")
            for node_id, pem in enumerate(self._keys.values())
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        message.metadata.__dict__["_message_id"] = f"message {message.metadata.dst_node_id}"
        self.pushed.append(message)
        return [message.metadata.message_id]

    @property
    def _runtime_client(self) -> FakeClient:
        return self.client

    def _arrive(self) -> None:
        self._looks += 1
        for message in self.pushed:
            node_id = message.metadata.dst_node_id
            for looks, what in self._answers.get(node_id - 1, []):
                if looks == self._looks:
                    content = flower.to_record(what) if isinstance(what, bytes) else what
                    told = Error(content) if isinstance(content, int) else content
                    self.client.replies.append((node_id, Message(told, reply_to=message)))

    def pull_messages(self, *_: Any) -> Any:
        raise AssertionError("it waits for the last piece of every reply")

    def set_run(self, *_: Any) -> None: ...
    def create_message(self, *_: Any) -> Any: ...
    def get_node_ids(self) -> Any: ...
    def send_and_receive(self, *_: Any, **__: Any) -> Any: ...

    @property
    def run(self) -> Any:
        return FakeRun

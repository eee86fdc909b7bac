"""Bytes over Flower: the operator's relay, and what takes a participant's messages.

Only the files flower*.py of this folder import flwr. The operator's side is an app that the SuperLink runs: this file
and `flower_replies.py`, copied as they are. So they import the standard library and flwr alone, and import quickly.
The relay that it is takes messages from the operator's process, hands them to Flower and brings back the replies; it
holds no logic of the market's.

The participant's side never runs an app that the SuperLink sends. Its SuperNode is told to start no app by itself,
and `serve_tasks` fetches the messages from it and answers them with the participant's own installed code. For that it
takes the same requests as Flower's own `flwr-clientapp` does, which are internal to flwr: hence a few versions alone.
"""

import base64
import hashlib
import json
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from .flower_replies import LOST, STRANGE, Incoming

MESSAGE_TYPE = "query.market"
RELAY_POLL_S, NODE_POLL_S = 0.1, 0.25
"""Between two looks of the relay whether replies are there, and of a participant whether a message is."""
NODE_UNAVAILABLE = 5
"""Flower's code for one that has left, or has not been heard of for a minute."""
MESSAGE_UNAVAILABLE = 3
"""Flower's code for a message that it does not hold any more, which here means that its time is over."""
ORPHAN_POLL_S = 5.0
FETCH_S = 30
"""So long a SuperNode may take to hand over a message that it has."""
SILENT = "did not answer in time"
ABSENT = "is not connected to the market"
HEAD_BYTES_MAX = 1 << 24
"""Of a frame's head, which names every participant at most."""
REASON_MAX = 300
"""Letters of the reason that a participant gives for not answering."""

if TYPE_CHECKING:
    from flwr.supercore.protobuf.client import ProtobufClientInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

Fetched = TypeVar("Fetched")


class NotHandedOverError(ConnectionError):
    """A SuperNode has a message and does not hand it over: nothing was answered."""


server_app = ServerApp()
client_app = ClientApp()


# ---------------------------------------------------------------- bytes as records


def to_record(body: bytes) -> RecordDict:
    """Bytes as a record that Flower carries in pieces of a few megabytes.

    >>> from_record(to_record(b"any bytes"))
    b'any bytes'
    """
    array = Array(dtype="uint8", shape=(len(body),), stype="bytes", data=body)
    return RecordDict({"body": ArrayRecord({"body": array})})


def to_error(reason: str) -> RecordDict:
    """A record that says why there is no answer."""
    return RecordDict({"error": ConfigRecord({"reason": reason})})


def from_record(record: RecordDict) -> bytes:
    """The bytes of a record.

    Raises:
      ValueError: it holds none; the message is its reason, where it gives one.
    """
    if "error" in record.config_records:
        raise ValueError(str(record.config_records["error"].get("reason", "gave no reason")))
    try:
        return bytes(record.array_records["body"]["body"].data)
    except KeyError:
        raise ValueError(STRANGE) from None


def fingerprint(public_key: bytes) -> str:
    """SHA-256 of a public key, in hexadecimal: of what stands between the lines of its PEM text."""
    lines = public_key.decode("ascii").split("\n")
    return hashlib.sha256(
        base64.b64decode("".join(line for line in lines if "-----" not in line))
    ).hexdigest()


# ---------------------------------------------------------------- frames between the operator and the relay


def send_frame(connection: Connection, head: dict[str, object], body: bytes | None = None) -> None:
    """Send a head, as JSON, and the bytes that belong to it. Nothing is ever pickled."""
    connection.send_bytes(json.dumps({**head, "body": body is not None}).encode())
    if body is not None:
        connection.send_bytes(body)


def receive_frame(connection: Connection, bytes_max: int | None = None) -> tuple[dict[str, object], bytes]:
    """The head of the next frame, and its bytes: none where it has none.

    Args:
      connection: to the other end.
      bytes_max: more bytes than these are not taken in; None for as many as come.
    Raises:
      EOFError: the other end has closed.
      OSError: there are more bytes; the connection is closed then.
      ValueError: what comes is no frame.
    """
    head = json.loads(connection.recv_bytes(HEAD_BYTES_MAX))
    if not isinstance(head, dict):
        raise ValueError("a frame's head is an object")
    return head, connection.recv_bytes(bytes_max) if head.pop("body", False) else b""


# ---------------------------------------------------------------- the operator's relay


@server_app.main()
def relay(grid: Grid, context: Context) -> None:
    """Serve the operator's process until it closes the socket."""
    place = Path(str(context.run_config["place"]))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        with Client(str(place / "relay"), "AF_UNIX", authkey=(place / "key").read_bytes()) as connection:
            send_frame(connection, {"pid": os.getpid()})
            serve_operator(grid, connection)
    except (EOFError, ConnectionError):
        os._exit(0)  # Flower would go on telling a SuperLink that may be gone, for ever
    except Exception:
        with (place / "log").open("a") as log:  # Flower shows nobody what an app prints
            traceback.print_exc(file=log)
        raise


def _end_with(parent: int) -> None:
    """End when the program that started this one has: Flower would go on asking a SuperLink that is gone, for ever."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_POLL_S)
    os._exit(1)


def serve_operator(grid: Grid, connection: Connection) -> None:
    """Answer the operator's frames, one after the other.

    Raises:
      EOFError: the operator's process has closed.
    """
    while True:
        head, _ = receive_frame(connection)
        if head["do"] == "nodes":
            online = sorted(_nodes(grid))
            send_frame(connection, {"nodes": online})
            continue
        deadline = time.monotonic() + float(str(head["deadline_s"]))
        messages = {}
        for _ in range(int(str(head["count"]))):
            one, body = receive_frame(connection)
            messages[str(one["to"])] = body
        for name, outcome in exchange(grid, messages, deadline, int(str(head["bytes_max"]))):
            if isinstance(outcome, bytes):
                send_frame(connection, {"from": name}, outcome)
            else:
                send_frame(connection, {"from": name, "reason": outcome})
        send_frame(connection, {"end": True})


def exchange(
    grid: Grid, messages: dict[str, bytes], deadline: float, bytes_max: int
) -> Iterator[tuple[str, bytes | str]]:
    """Send each its message and give what comes of it, as it comes: the bytes of a reply, or why there is none.

    Args:
      grid: of Flower.
      messages: by the fingerprint of a key; emptied as they are sent, for they may be large.
      deadline: on the monotonic clock; no message is delivered after it.
      bytes_max: that a reply may have; of a larger one no more is taken in.
    """
    nodes, incoming = _nodes(grid), Incoming(grid, bytes_max, deadline)
    waiting = {}
    for name in list(messages):
        body = messages.pop(name)
        left_s = deadline - time.monotonic()
        if name not in nodes:
            yield name, ABSENT
        elif left_s <= 0:
            yield name, "was not asked: the time was over before its message could be sent"
        else:
            message = Message(to_record(body), dst_node_id=nodes[name], message_type=MESSAGE_TYPE, ttl=left_s)
            (message_id,) = grid.push_messages([message]) or (None,)
            if message_id:
                waiting[message_id] = name
            else:
                yield name, "was not asked: Flower did not take its message"
    while waiting and time.monotonic() < deadline:
        for message_id, reply in incoming.look(list(waiting)):
            # what answers nothing that is open has been answered already
            if name := waiting.pop(message_id, ""):
                yield name, reply if isinstance(reply, str) else _outcome(reply, bytes_max)
        if waiting:
            time.sleep(min(RELAY_POLL_S, max(0.0, deadline - time.monotonic())))
    incoming.drop()
    for name in waiting.values():
        yield name, SILENT


def _nodes(grid: Grid) -> dict[str, int]:
    """Those that are connected, or were until a minute ago: node id by fingerprint."""
    return {
        fingerprint(node.public_key): node.node_id for node in grid.get_nodes() if node.status == "online"
    }


def _outcome(reply: Message, bytes_max: int) -> bytes | str:
    if reply.has_error():
        if reply.error.code == NODE_UNAVAILABLE:
            return LOST
        if reply.error.code == MESSAGE_UNAVAILABLE:
            return SILENT
        reason = reply.error.reason or "no reason given"
        return f"Flower could not bring its answer (error {reply.error.code}): {reason}"
    try:
        body = from_record(reply.content)
    except ValueError as error:
        return str(error)[:REASON_MAX]
    if len(body) > bytes_max:
        return f"its answer has {len(body):,} bytes, allowed are {bytes_max:,}"
    return body


# ---------------------------------------------------------------- the participant's side


@client_app.query("market")
def refuse(message: Message, _: Context) -> Message:
    """What a SuperNode answers that was started by hand: the market is not in the app, but with the participant."""
    return Message(to_error("runs Flower by itself: it has to join with ipfl"), reply_to=message)


def serve_tasks(
    address: str, secret: bytes, answer: Callable[[bytes], bytes], stop: Callable[[], bool]
) -> None:
    """Answer the messages that a SuperNode holds, one at a time, until `stop`.

    Of what the SuperLink sends only the bytes of messages are looked at; its app is neither unpacked nor run.

    Args:
      address: of the SuperNode's runtime interface, on this machine.
      secret: that the SuperNode was started with; without it no process may fetch its messages.
      answer: gets the bytes of a message and gives those of the reply.
      stop: asked before each look.
    Raises:
      Exception: whatever `answer` raised, once the other side has been told that there is no answer.
      ConnectionError: the SuperNode does not answer; NotHandedOverError: nor was anything answered.
    """
    import httpx
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    acquire = "/flwr.proto.Runtime/AcquireTask"
    signing = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=[acquire])

    def client(interceptor: "ProtobufClientInterceptor") -> RuntimeHttpClient:
        # no retries of Flower's own: those end the whole process when they are refused
        return RuntimeHttpClient.from_server_address(address, True, None, [interceptor])

    tasks = client(signing)
    try:
        while not stop():
            task = tasks.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
            if task.token:
                one = client(RuntimeTokenHttpInterceptor(task.token))
                try:
                    _do_task(one, answer)
                finally:
                    one.close()
            else:
                time.sleep(NODE_POLL_S)
    except httpx.HTTPError as error:
        raise ConnectionError(f"the SuperNode at {address} did not answer: {error}") from error
    finally:
        tasks.close()


def _do_task(client: "RuntimeHttpClient", answer: Callable[[bytes], bytes]) -> None:
    """Fetch one message, and push what is answered or that nothing is."""
    from flwr.supernode.runtime import run_clientapp as flower

    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(client, done), daemon=True)
    beating.start()
    try:
        message, context, _, _ = _in_time(lambda: flower.pull_task_input(client))
    except BaseException:
        done.set()
        raise
    failed: BaseException | None = None
    try:
        try:
            record = to_record(answer(from_record(message.content)))
        except ValueError as error:
            record = to_error(str(error))
        except BaseException as error:
            failed, record = error, to_error("could not answer: its own process failed")
        flower.push_message(client, Message(record, reply_to=message), context)
    finally:
        done.set()
        beating.join()
        flower.push_task_output(client, context, "failed" if failed else "completed", "")
    if failed:
        raise failed


def _in_time(fetch: Callable[[], Fetched]) -> Fetched:
    """What is fetched, if it comes soon.

    A SuperNode that reconnects may drop parts of a message that it still has on offer; flwr would ask for them for an
    hour. A new SuperNode has a fresh start.

    Raises:
      ConnectionError: it did not come.
    """
    found: queue.SimpleQueue[Fetched | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put(fetch())
        except BaseException as error:
            found.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        outcome = found.get(timeout=FETCH_S)
    except queue.Empty:
        raise NotHandedOverError(f"the SuperNode did not hand over a message within {FETCH_S} s") from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _beat(client: "RuntimeHttpClient", done: threading.Event) -> None:
    """Tell the SuperNode that the task is being worked at, until it is done."""
    from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest

    while not done.wait(10):
        try:
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except Exception:  # the next one may pass; if none does, pushing the answer will say why
            continue

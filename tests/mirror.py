"""A local HTTP server that serves one file as well or as badly as a test wants, and counts what it sends."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mirror:
    """Serves `content` under every path.

    `cut_after` closes the connection after so many bytes of an answer; `cuts` is how often it does so. `ranges`:
    whether it takes HTTP ranges. `sent` are the bytes of each answer's body.
    """

    def __init__(self, content: bytes):
        self.content = content
        self.cut_after: int | None = None
        self.cuts = 10**9
        self.ranges = True
        self.status: int | None = None
        self.lengths = True
        self.shift = 0
        self.asked: list[tuple[str, str | None]] = []
        self.sent: list[int] = []
        self.url = ""


@contextmanager
def serving(content: bytes) -> Iterator[Mirror]:
    mirror = Mirror(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, mirror)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.url = f"http://127.0.0.1:{server.server_port}/files"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, mirror: Mirror) -> None:
    asked = handler.headers.get("Range")
    mirror.asked.append((handler.path, asked))
    if mirror.status is not None:
        handler.send_error(mirror.status)
        return
    begin = 0
    if asked and mirror.ranges:
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if begin >= len(mirror.content):
            handler.send_error(416)
            return
        handler.send_response(206)
        end = len(mirror.content)
        handler.send_header("Content-Range", f"bytes {begin + mirror.shift}-{end - 1}/{end}")
    else:
        handler.send_response(200)
    body = mirror.content[begin:]
    if mirror.lengths:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if mirror.cut_after is not None and mirror.cuts > 0 and len(body) > mirror.cut_after:
        mirror.cuts -= 1
        body = body[: mirror.cut_after]
    handler.wfile.write(body)
    handler.wfile.flush()
    mirror.sent.append(len(body))
    handler.close_connection = True

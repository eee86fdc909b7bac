"""Who may look: what stands before every answer, and the headers that go with it.

Without a token only this machine is served, by a name of its own: a page elsewhere whose name was made to point here
(DNS rebinding) names another host. With a token whoever shows it is served, under any name.
"""

import hashlib
import hmac
import ipaddress
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The content security policy of whatever is no page."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
PARAMETER = "token"


class Guard:
    """The outermost layer: methods, host, token, headers. HEAD is answered as GET, without its body."""

    def __init__(self, app: ASGIApp, token: str | None):
        self._app = app
        self._secret = None if token is None else Secret(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer: ASGIApp = self._refusal(scope) or self._app
        head = scope["method"] == "HEAD"

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", NOTHING)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await answer({**scope, "method": "GET"} if head else scope, receive, sent)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer that is not the application's; None if it may answer."""
        if scope["method"] not in ("GET", "HEAD"):
            return _problem(405, "this server only shows: ask with GET or HEAD", {"Allow": "GET, HEAD"})
        headers = Headers(scope=scope)
        if self._secret is None:
            if is_loopback(host_of(headers.get("host", ""))):
                return None
            return _problem(
                400,
                "this server answers to localhost and 127.0.0.1 only: with --token-file it answers to any name",
            )
        return self._secret.refusal(scope, headers)


class Secret:
    """The token, and the cookie that a browser keeps in its place: it follows from the token, not the token from it.

    Cookies of all ports of a host are one store, so each token's cookie has a name of its own.
    """

    def __init__(self, token: str):
        self._token = token
        self._value = hmac.new(token.encode(), b"ipfl serve: cookie", hashlib.sha256).hexdigest()
        self._name = f"ipfl-{hashlib.sha256(self._value.encode()).hexdigest()[:12]}"

    def refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """None if the request shows the token or its cookie; a token in the address is taken out of it."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in query if key == PARAMETER]
        if given and _same(given[-1], self._token):
            return self._let_in(
                scope["path"], [pair for pair in query if pair[0] != PARAMETER], scope["scheme"]
            )
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        bears = kind.lower() == "bearer" and _same(credentials.strip(), self._token)
        if not given and (
            bears or _same(cookie_parser(headers.get("cookie", "")).get(self._name, ""), self._value)
        ):
            return None
        what = "this is not the token" if given or credentials else "this server asks for a token"
        return _problem(
            401,
            f"{what}: open its address with ?token=TOKEN once, or send the header Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )

    def _let_in(self, path: str, query: list[tuple[str, str]], scheme: str) -> Response:
        """The cookie, and the same address without the token; relative, so that a proxy may put it elsewhere."""
        address = f"./{quote(path.rpartition('/')[2])}" + (f"?{urlencode(query)}" if query else "")
        response = Response(status_code=303, headers={"Location": address})
        secure = scheme == "https"
        response.set_cookie(self._name, self._value, httponly=True, samesite="strict", secure=secure)
        return response


def host_of(header: str) -> str:
    """A Host header without its port.

    >>> host_of("127.0.0.1:8321"), host_of("[::1]:8321"), host_of("localhost")
    ('127.0.0.1', '::1', 'localhost')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as seen from itself.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org", "")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)

"""The session's server: who may ask, which path means what, and what a client is told when something breaks.

GraphQL errors are answered with 200 and internal failures become GraphQL errors: the SDK sends anything else
again, and a publish must not happen twice. The meaning of a query is left to `query`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from pipeline.engine.events import current_span
from pipeline.session.http import (
    HttpConnection,
    HttpLimits,
    Reply,
    Request,
    error_reply,
    raw_json_reply,
)

CLOSE_LIMIT_S: Final = 10.0
"""Longest wait for cancelled requests to undo what they did, in seconds."""

Answer = Callable[[bytes], Awaitable[bytes]]
"""Turns the JSON body of a query into the JSON body of its answer; never raises but to be cancelled."""

_LOCAL_HOST: Final = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}")
_log = logging.getLogger(__name__)


class Server:
    """Serves one session on a random port of the loopback address."""

    def __init__(self, answer: Answer, *, token: str, limits: HttpLimits | None = None) -> None:
        self._answer = answer
        self._limits = limits or HttpLimits()
        self._expected = b"Basic " + base64.b64encode(token.encode() + b":")
        self._token = token.encode()
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._closing = False
        self.shutdown_asked = asyncio.Event()

    async def open(self) -> int:
        """Start listening and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, "127.0.0.1", 0, backlog=1024)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def refuse(self) -> None:
        """Answer every new request with 503 from now on; those in progress go on."""
        self._closing = True

    async def close(self) -> None:
        """Cancel what is in progress, wait for it at most `CLOSE_LIMIT_S`, and stop listening."""
        self.refuse()
        if self._server is not None:
            self._server.close()
        tasks = [c.task for c in self._connections if c.task is not None]
        for connection in list(self._connections):
            connection.close()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=CLOSE_LIMIT_S)
            for task in pending:
                _log.error("cannot end a request within %s s: %r", CLOSE_LIMIT_S, task)

    def _connection(self) -> HttpConnection:
        return HttpConnection(self.respond, self._connections, self.guard, self._limits)

    def guard(self, headers: dict[bytes, bytes]) -> Reply | None:
        """Refuse who has no token, and whatever a browser sends: a page elsewhere may have made it do so."""
        # A name that was made to lead here (DNS rebinding) is in `Host`; no SDK sends the other two.
        is_local = _LOCAL_HOST.fullmatch(headers.get(b"host", b"")) is not None
        if not is_local or b"origin" in headers or b"sec-fetch-site" in headers:
            return error_reply("cannot answer: requests come from programs of this machine", status=403)
        if not self._is_authorized(headers.get(b"authorization", b"")):
            challenge = (b"WWW-Authenticate", b'Basic realm="Access to the engine session"')
            return Reply(status=401, headers=[challenge])
        return None

    async def respond(self, request: Request) -> Reply:
        """Answer one request that was let in."""
        if request.path.startswith("/v1/"):
            return Reply(status=200)
        if self._closing:
            return error_reply("cannot answer: the session has ended", status=503)
        if request.path == "/shutdown":
            self.shutdown_asked.set()
            return Reply(status=200)
        if request.path != "/query":
            return error_reply(f"cannot answer `{request.path}`: there is no such path", status=404)
        return await self._query(request)

    async def _query(self, request: Request) -> Reply:
        if request.method != "POST":
            return error_reply("cannot answer the query: it has to be posted", status=405)
        kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            return error_reply("cannot read the query: its content type is not application/json", status=400)
        if match := _TRACEPARENT.fullmatch(request.headers.get(b"traceparent", b"")):
            current_span.set(match[1].decode())
        try:
            return raw_json_reply(await self._answer(request.body))
        except Exception as problem:  # noqa: BLE001 - the border: a client would retry a broken answer
            _log.exception("cannot answer a query")
            return error_reply(f"internal error: {type(problem).__name__}: {problem}", status=200)

    def _is_authorized(self, header: bytes) -> bool:
        if hmac.compare_digest(header, self._expected):
            return True
        scheme, _, credentials = header.partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            user = base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
        except ValueError:
            return False
        return hmac.compare_digest(user, self._token)

"""The HTTP/1.1 side of a session: one connection, its requests in order, and the end of it noticed at once.

Built on h11 and asyncio's transports, since importing an ASGI server costs more than the whole start-up
budget of the engine. What a request means is left to `server`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import h11

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer; length and connection headers are added when it is sent."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)


Handler = Callable[[Request], Awaitable[Reply]]
Guard = Callable[[dict[bytes, bytes]], Reply | None]
"""Says from its headers alone what a request is refused with; None lets it in."""

LINGER_S: Final = 2.0
"""How long what a refused client still sends is read, in seconds: to close at once would take its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a client may take: seconds until its first request that is let in, and bytes of a body."""

    first_request_s: float = 30.0
    body_bytes: int = 256 << 20


def json_reply(value: object, *, status: int = 200) -> Reply:
    """Answer with JSON."""
    return raw_json_reply(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), status=status)


def raw_json_reply(body: bytes, *, status: int = 200) -> Reply:
    """Answer with JSON text."""
    return Reply(status=status, body=body, headers=[(b"Content-Type", b"application/json")])


def error_reply(message: str, *, status: int) -> Reply:
    """Answer with a list of one GraphQL error, so that no client takes it for a broken server."""
    return json_reply({"data": None, "errors": [{"message": message}]}, status=status)


class HttpConnection(asyncio.Protocol):
    """Reads requests and writes answers; a client that leaves cancels the request it asked for."""

    def __init__(
        self, handler: Handler, connections: set[HttpConnection], guard: Guard, limits: HttpLimits
    ) -> None:
        self._handler = handler
        self._guard = guard
        self._limits = limits
        self._is_over = False  # what comes now is not read any more
        self._giving_up: asyncio.TimerHandle | None = None
        self._body_bytes = 0
        self._is_head = False  # the request in hand asks for no body
        self._connections = connections
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self._task: asyncio.Task[Reply] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP servers make no other
        self._transport = transport
        self._connections.add(self)
        self._close_in(self._limits.first_request_s)

    def data_received(self, data: bytes) -> None:
        """Feed the parser and act on what is complete."""
        if self._is_over:
            return
        self._http.receive_data(data)
        if self._task is None:
            self._advance()

    def eof_received(self) -> bool:
        """Drop the request in progress: nobody will read its answer."""
        self._cancel()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the request in progress."""
        self._connections.discard(self)
        self._stay()
        self._cancel()

    def _close_in(self, wait_s: float) -> None:
        self._stay()
        self._giving_up = asyncio.get_running_loop().call_later(wait_s, self.close)

    def _stay(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()

    def close(self) -> None:
        """Cancel the request in progress and close the connection."""
        self._cancel()
        if self._transport is not None:
            self._transport.close()

    @property
    def task(self) -> asyncio.Task[Reply] | None:
        """The request in progress."""
        return self._task

    def _cancel(self) -> None:
        # Once only: a second cancellation would cut the undoing that the first has begun.
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    def _advance(self) -> None:
        try:
            while self._task is None:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._continue()
                    return
                if event is h11.PAUSED:
                    return
                if isinstance(event, h11.Request):
                    if refusal := self._refuse(event):
                        self._send(refusal)
                        return
                    self._head, self._body, self._body_bytes = event, [], 0
                elif isinstance(event, h11.Data):
                    self._body_bytes += len(event.data)
                    if self._body_bytes > self._limits.body_bytes:
                        self._send(error_reply("cannot read the request: it is too long", status=413))
                        return
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._begin()
                else:
                    self.close()
                    return
        except h11.RemoteProtocolError as problem:
            self._send(error_reply(f"cannot read the request: {problem}", status=problem.error_status_hint))

    def _refuse(self, head: h11.Request) -> Reply | None:
        """Return the answer to a request that is not let in; its body is not read."""
        headers = dict(head.headers)
        self._is_head = head.method == b"HEAD"
        if (refusal := self._guard(headers)) is not None:
            return refusal
        self._stay()
        if int(headers.get(b"content-length", b"0")) > self._limits.body_bytes:
            return error_reply("cannot read the request: it is too long", status=413)
        return None

    def _continue(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))

    def _begin(self) -> None:
        head = self._head
        assert head is not None  # noqa: S101 - h11 ends no message that it did not begin
        request = Request(
            method=head.method.decode("ascii"),
            path=head.target.decode("latin-1").partition("?")[0],
            headers=dict(head.headers),
            body=b"".join(self._body),
        )
        self._head, self._body = None, []
        self._task = asyncio.get_running_loop().create_task(self._answer(request))
        self._task.add_done_callback(self._done)

    async def _answer(self, request: Request) -> Reply:
        return await self._handler(request)

    def _done(self, task: asyncio.Task[Reply]) -> None:
        self._task = None
        if task.cancelled():
            if self._transport is not None:
                self._transport.close()
            return
        self._send(task.result())

    def _send(self, reply: Reply) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [*reply.headers, (b"Content-Length", str(len(reply.body)).encode())]
            self._write(self._http.send(h11.Response(status_code=reply.status, headers=headers)))
            if not self._is_head:
                self._write(self._http.send(h11.Data(data=reply.body)))
            self._write(self._http.send(h11.EndOfMessage()))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._is_head = False
            self._advance()
        elif self._http.their_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._is_over = True
            self._transport.write_eof()
            self._close_in(LINGER_S)

    def _write(self, data: bytes | None) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

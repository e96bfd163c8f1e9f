"""One kept connection of the generator, the requests it carries, and a selector that wakes up in time.

Runs inside containers: standard library only.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.scan.load.http1 import BadResponse, ResponseReader

if TYPE_CHECKING:
    from pipeline.scan.load.histogram import Histogram


@dataclass(slots=True)
class Endpoint:
    """One kind of request, its bytes in each variant, and what came of it by second."""

    name: str
    messages: list[bytes]
    is_head: bool
    is_safe: bool
    expected: frozenset[int]  # statuses that count as good; empty: all below 400
    windows: list[Histogram]
    failed: list[int]  # by second
    errors: dict[str, int] = field(default_factory=dict)


class Job:
    """One request: when it was due, and whether it is over."""

    __slots__ = ("connection", "due", "endpoint", "is_over", "is_retried", "message", "sent_at", "window")

    def __init__(self, endpoint: Endpoint, message: bytes, due: float, window: int) -> None:
        self.endpoint = endpoint
        self.message = message
        self.due = due
        self.window = window  # -1: warm-up, not counted
        self.sent_at = 0.0
        self.is_over = False
        self.is_retried = False
        self.connection: Connection | None = None


class FineSelector(selectors.EpollSelector):
    """Epoll that wakes up in time: its own timeouts are rounded up to whole milliseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, to the microsecond; an epoll descriptor can itself be waited for."""
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


class Owner(Protocol):
    """What a connection tells of: the run it belongs to."""

    heads: dict[bytes, tuple[int, int, bool]]

    def free(self, connection: Connection) -> None:
        """The connection can carry a request."""

    def gone(self, connection: Connection) -> None:
        """The connection was closed."""

    def again(self, job: Job) -> None:
        """The request must be sent once more."""

    def answered(self, job: Job, status: int) -> None:
        """The answer is complete."""

    def failed(self, job: Job, kind: str) -> None:
        """There will be no answer."""


class Connection(asyncio.Protocol):
    """One kept connection; carries one request at a time."""

    __slots__ = ("_owner", "_reader", "_transport", "job", "served")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = ResponseReader(owner.heads)
        self._transport: Any = None
        self.job: Job | None = None
        self.served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a request on, or wait for one."""
        self._transport = transport
        self._owner.free(self)

    def send(self, job: Job, now: float) -> None:
        """Send a request."""
        self.job = job
        job.connection = self
        job.sent_at = now
        self._reader.begin(is_head=job.endpoint.is_head)
        self._transport.write(job.message)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer."""
        job = self.job
        if job is None:
            self._transport.abort()  # nothing was asked for
            return
        try:
            is_complete = self._reader.feed(data)
        except BadResponse:
            self._owner.failed(job, "bad response")
            self._transport.abort()
            return
        if is_complete:
            self._finish(job)

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer, send the request again, or tell that it failed."""
        job = self.job
        if job is not None:
            if error is None and self._reader.end():
                self._finish(job)
            elif self.served and not self._reader.has_begun and job.endpoint.is_safe and not job.is_retried:
                # It closed an idle connection while the request was on its way: any client repeats that.
                job.is_retried = True
                self.job = None
                self._owner.again(job)
            else:
                self._owner.failed(job, "reset")
        self._owner.gone(self)

    def abort(self) -> None:
        """Give the connection up."""
        self.job = None
        self._transport.abort()

    def _finish(self, job: Job) -> None:
        self.job = None
        self.served += 1
        self._owner.answered(job, self._reader.status)
        if self._reader.keeps_alive:
            self._owner.free(self)
        else:
            self._transport.close()

"""Requests to one address, and no other: within a rate, a time and a size."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Final

BODY_BYTES: Final = 512 * 1024  # of one answer that are read
IN_A_ROW: Final = 5  # requests without an answer, then the service counts as gone
AGENT: Final = "pipeline-dast"


class Stopped(Exception):
    """There is no more time, or nobody answers any more; `why` is one word."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    is_cut: bool = False  # there is more than `body`

    def header(self, name: str) -> str:
        """The first header of a name; "" without one."""
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        """Every header of a name."""
        return [value for key, value in self.headers if key == name]

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")


@dataclass(slots=True)
class Client:
    """Sends requests to `base`; follows no redirect.

    Args:
        rate: Most requests a second.
        limit_s: Seconds for all requests together; then `Stopped` is raised.
        timeout_s: Seconds for one answer.
        most_bytes: Of one body that are read.
    """

    base: str
    rate: float = 100.0
    limit_s: float = 60.0
    timeout_s: float = 5.0
    most_bytes: int = BODY_BYTES
    count: int = 0
    unanswered: int = 0  # in a row
    began: float = field(default_factory=time.monotonic)
    _next: float = 0.0
    _connection: http.client.HTTPConnection | None = None

    def send(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer | None:
        """Send one request; None when there is no answer in time.

        Args:
            target: Path and query.

        Raises:
            Stopped: The time is over, or there was no answer several times in a row.
        """
        self._wait()
        self.count += 1
        for is_again in (False, True):
            is_used = self._connection is not None
            try:
                answer = self._exchange(method, target, headers or {}, body)
            except (TimeoutError, UnicodeError):
                self.close()
                break
            except (OSError, http.client.HTTPException):
                self.close()
                if is_again or not is_used:
                    break
                continue  # a kept connection may have been closed meanwhile: that is no answer of the service
            self.unanswered = 0
            return answer
        self.unanswered += 1
        if self.unanswered >= IN_A_ROW:
            raise Stopped("gone")
        return None

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _wait(self) -> None:
        now = time.monotonic()
        if now - self.began > self.limit_s:
            raise Stopped("time")
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.rate

    def _exchange(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> Answer:
        if self._connection is None:
            self._connection = connect(self.base, self.timeout_s)
        self._connection.request(method, target, body, {"User-Agent": AGENT, "Accept": "*/*", **headers})
        response = self._connection.getresponse()
        data, is_cut = self._read(response)
        if is_cut or response.will_close:
            self.close()
        pairs = tuple((name.lower(), value) for name, value in response.getheaders())
        return Answer(status=response.status, headers=pairs, body=data, is_cut=is_cut)

    def _read(self, response: http.client.HTTPResponse) -> tuple[bytes, bool]:
        until = time.monotonic() + self.timeout_s
        parts: list[bytes] = []
        size = 0
        while part := response.read1(65536):
            parts.append(part)
            size += len(part)
            if size > self.most_bytes or time.monotonic() > until:
                return b"".join(parts)[: self.most_bytes], True
        return b"".join(parts), False


def connect(base: str, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the host of an address."""
    address = urllib.parse.urlsplit(base)
    host = str(address.hostname)
    if address.scheme == "https":
        # Whether the certificate is good is not what is asked here, and test hosts often sign their own.
        context = ssl._create_unverified_context()  # noqa: S323
        return http.client.HTTPSConnection(host, address.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(host, address.port, timeout=timeout_s)

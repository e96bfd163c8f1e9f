"""Requests to an HTTP API that may be busy, limit us, or refuse: each answer is a value or one error."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from pipeline.config import redact_url
from pipeline.errors import EXIT_WAITING, PipelineError, UsageError
from pipeline.text import clean

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    import httpx

ATTEMPTS: Final = 4
PAUSE_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0  # for a limit on requests to pass
TIMEOUT_S: Final = 60.0
SAFE: Final = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})  # twice is as good as once


class ApiDenied(PipelineError):
    """The API does not know who asks, or does not let them."""

    def __init__(self, what: str, status: int, said: str, hint: str) -> None:
        super().__init__(f"cannot {what}: the answer is {status}: {said}")
        self.hint = hint
        self.status = status


class ApiBusy(PipelineError):
    """The API did not answer, or could not work, however often it was asked."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"cannot {what}: {why}")


class ApiLimited(PipelineError):
    """So many requests were made that the API wants a longer pause."""

    exit_code: ClassVar[int] = EXIT_WAITING

    def __init__(self, what: str, wait_s: float) -> None:
        super().__init__(f"cannot {what} now: the limit on requests is reached, for {wait_s:.0f} s more")
        self.hint = "run the release again after that: it goes on where it stopped"


class ApiRefused(PipelineError):
    """The API understood and would not; `status` and `codes` tell why."""

    def __init__(self, what: str, status: int, said: str, codes: frozenset[str]) -> None:
        super().__init__(f"cannot {what}: the answer is {status}: {said}")
        self.status = status
        self.codes = codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """An API below one address; `access_hint` says how to get in."""

    address: str  # URL without a slash at its end
    headers: Mapping[str, str] = field(repr=False)
    access_hint: str
    ca_bundle: str = ""  # path of a PEM file; "" for the certificates of the system
    pause_s: float = PAUSE_S  # before the second attempt; doubles
    longest_wait_s: float = LONGEST_WAIT_S

    @contextlib.contextmanager
    def open(self) -> Iterator[Session]:
        """Lend a session."""
        import httpx

        timeout, headers = httpx.Timeout(TIMEOUT_S), dict(self.headers)
        trust = _trust(self.ca_bundle)
        with httpx.Client(headers=headers, timeout=timeout, follow_redirects=True, verify=trust) as client:
            yield Session(api=self, client=client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Requests over one client."""

    api: Api
    client: httpx.Client

    def ask(self, method: str, path: str, what: str, **more: Any) -> httpx.Response | None:
        """Return a good answer; None when what was asked for is not there.

        What may be asked twice is, when the API is busy; the rest is for the caller to find out about.

        Args:
            path: Below the API's address, or a whole URL.
            what: For messages: "list the releases".
            more: Arguments of `httpx.Client.request`; `content` may be a function that makes it.

        Raises:
            ApiDenied: 401, 403 for another reason than a limit, or something to change was not found.
            ApiLimited: A limit on requests that lasts longer than we wait.
            ApiBusy: No answer, or 5xx.
            ApiRefused: Any other 4xx.
        """
        attempts = ATTEMPTS if method in SAFE else 1
        waited = 0.0
        left = attempts
        while True:
            left -= 1
            try:
                answer = self._once(method, path, what, **more)
            except ApiBusy:
                if left <= 0:
                    raise
                time.sleep(self.api.pause_s * 2.0 ** (attempts - left - 1))
                continue
            pause = limit_of(answer)
            if pause is None:
                return self._judged(method, answer, what)
            waited += pause
            if waited > self.api.longest_wait_s:
                raise ApiLimited(what, pause)
            left += 1
            time.sleep(pause)

    def _once(self, method: str, path: str, what: str, **more: Any) -> httpx.Response:
        import httpx

        url = path if "://" in path else f"{self.api.address}{path}"
        content = more.pop("content", None)
        if callable(content):
            content = content()
        try:
            answer = self.client.request(method, url, content=content, **more)
        except httpx.HTTPError as error:
            raise ApiBusy(
                what, f"{_host(url)} does not answer: {str(error) or type(error).__name__}"
            ) from error
        if answer.status_code >= 500:
            raise ApiBusy(what, f"{_host(url)} answers {answer.status_code}: {said_by(answer)}")
        return answer

    def _judged(self, method: str, answer: httpx.Response, what: str) -> httpx.Response | None:
        status = answer.status_code
        if status < 400:
            return answer
        if status == 404 and method in ("GET", "HEAD", "DELETE"):
            return None
        if status in (401, 403, 404):  # what one may not change is not found
            raise ApiDenied(what, status, said_by(answer), self.api.access_hint)
        raise ApiRefused(what, status, said_by(answer), _codes(answer))

    def json(self, method: str, path: str, what: str, **more: Any) -> Any:
        """Return what a good answer says; None for "not found".

        Raises:
            ApiBusy: The answer is no JSON; and all that `ask` raises.
        """
        answer = self.ask(method, path, what, **more)
        if answer is None:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise ApiBusy(what, f"{_host(str(answer.url))} answers what is no JSON") from error

    def until(self, is_done: Callable[[], bool], do: Callable[[], object]) -> None:
        """Do what is not done; when the API was busy meanwhile, look again before doing it again.

        Raises:
            ApiBusy: It was, each time.
        """
        for attempt in range(ATTEMPTS):
            if is_done():
                return
            try:
                do()
            except ApiBusy:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(self.api.pause_s * 2.0**attempt)
            else:
                return


@functools.cache
def _trust(ca_bundle: str) -> ssl.SSLContext:
    """Return whose certificates count; reading them takes longer than many requests."""
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:  # `SSLError` is one
        raise UsageError(
            f"cannot read the certificates in `{ca_bundle}`: {error.strerror or error}"
        ) from error


def limit_of(answer: httpx.Response) -> float | None:
    """Return for how many seconds the API wants to be left alone; None when it does not."""
    if answer.status_code not in (403, 429):
        return None
    after = answer.headers.get("retry-after")
    if after is not None:
        return _seconds(after)
    if answer.headers.get("x-ratelimit-remaining") == "0" or answer.status_code == 429:
        reset = answer.headers.get("x-ratelimit-reset") or answer.headers.get("ratelimit-reset") or ""
        return max(1.0, float(reset) - time.time()) if reset.isdigit() else 60.0
    return None


def _seconds(after: str) -> float:
    if after.strip().isdigit():
        return float(after)
    moment = email.utils.parsedate_tz(after)
    return max(1.0, email.utils.mktime_tz(moment) - time.time()) if moment is not None else 60.0


def said_by(answer: httpx.Response) -> str:
    """Return in one line why an answer is bad."""
    try:
        table = answer.json()
        text = table.get("message") or table.get("error") or "" if isinstance(table, dict) else ""
        codes = ", ".join(sorted(_codes(answer)))
        text = f"{text} ({codes})" if codes else str(text)
    except ValueError:
        text = answer.text
    return redact_url(" ".join(clean(text).split()))[:300] or "nothing"


def _codes(answer: httpx.Response) -> frozenset[str]:
    """Return the codes that GitHub gives with 422."""
    try:
        table = answer.json()
        errors = table.get("errors", []) if isinstance(table, dict) else []
        return frozenset(str(one["code"]) for one in errors if isinstance(one, dict) and "code" in one)
    except (ValueError, TypeError):
        return frozenset()


def _host(url: str) -> str:
    return urlsplit(url).hostname or url

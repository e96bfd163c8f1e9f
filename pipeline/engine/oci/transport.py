"""HTTP to registries: which scheme, who we are, and when to try again. Knows nothing of images."""

from __future__ import annotations

import functools
import ipaddress
import logging
import ssl
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import anyio

from pipeline.engine.oci.errors import CertificatesUnusable, RegistryUnreachable
from pipeline.engine.oci.reference import DOCKER_HUB
from pipeline.engine.oci.tokens import Authorization, TokenRefused, answer, parse_challenge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from pathlib import Path

    import httpx

    from pipeline.engine.oci.credentials import Credentials

_HUB_SERVER: Final = "registry-1.docker.io"
_ATTEMPTS: Final = 5
_CONNECT_ATTEMPTS: Final = 3
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S: Final = 30.0
_SILENT_ATTEMPTS: Final = 2
_CONNECT_LIMIT_S: Final = 10.0
_SILENCE_LIMIT_S: Final = 60.0
_ANSWER_SILENCES: Final = 3  # an answer that trickles in may take as many silences till its body begins
_REDIRECTS: Final = 10
_REDIRECT_BODY_BYTES: Final = 1 << 16

_DISTRUST_HINT: Final = "give the certificate of the authority that signed the registry's own"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: `path` is below `/v2/` at `host`, or a whole address that the registry gave."""

    host: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH"]
    path: str
    scopes: tuple[str, ...]
    repository: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Callable[[], AsyncIterator[bytes]] | None = None
    may_repeat: bool = True  # a transient failure is tried again here; else it is the caller's to begin anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository at one server: the registry itself, or a mirror of it."""

    host: str
    name: str

    @property
    def pull_scope(self) -> str:
        """Return the scope to ask for to read."""
        return f"repository:{self.name}:pull"

    @property
    def push_scope(self) -> str:
        """Return the scope to ask for to write."""
        return f"repository:{self.name}:pull,push"


class CallFailed(Exception):
    """The registry's answer was no success; `what` completes a sentence about the image."""

    def __init__(self, what: str, status: int, host: str) -> None:
        super().__init__(what)
        self.what = what
        self.status = status
        self.host = host


class Transport:
    """Sends calls to any registry; keeps connections, tokens and what it learned about hosts."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        plain_http: Collection[str] = (),
        ca_file: Path | None = None,
        backoff_s: float = 0.25,
        silence_limit_s: float = _SILENCE_LIMIT_S,
    ) -> None:
        self.backoff_s = backoff_s
        self.silence_limit_s = silence_limit_s
        self._credentials = credentials
        self._plain_http = frozenset(plain_http)
        self._ca_file = ca_file
        self._schemes: dict[str, str] = {}
        self._routes: dict[str, str] = {}
        self._tokens: dict[tuple[int, str, tuple[str, ...]], Authorization] = {}
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    def route(self, host: str, address: str | None) -> None:
        """Connect to `address` (`host:port`) whenever `host` is meant; None ends that."""
        self._schemes.pop(host, None)
        if address is None:
            self._routes.pop(host, None)
        else:
            self._routes[host] = address

    async def send(self, call: Call) -> httpx.Response:
        """Return the response with its body unread; the caller closes it.

        Redirects of reads are followed; the authorization never goes to another host.

        Raises:
            CallFailed: It answered 4xx or 5xx, after the repetitions that make sense.
            RegistryUnreachable: No answer came.
        """
        import httpx

        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._send_in_time(call)
            except httpx.TransportError as error:
                if _is_distrust(error):
                    raise RegistryUnreachable(
                        call.host, "its certificate is not trusted", hint=_DISTRUST_HINT
                    ) from error
                if attempt >= _attempts_after(error) or not call.may_repeat:
                    raise RegistryUnreachable(call.host, self._describe(error)) from error
                await self.pause(attempt)
                continue
            if response.status_code < 400:
                return response
            if response.status_code in _TRANSIENT and attempt < _ATTEMPTS and call.may_repeat:
                await response.aclose()
                await self.pause(attempt, response.headers.get("Retry-After", ""))
                continue
            raise await _failure(call.host, response)

    async def pause(self, attempt: int, retry_after: str = "") -> None:
        """Wait before trying again: longer each time, or as long as the registry asks (30 s at most)."""
        asked = _parse_retry_after(retry_after)
        await anyio.sleep(min(_LONGEST_WAIT_S, max(asked, self.backoff_s * 2 ** (attempt - 1))))

    async def _send_in_time(self, call: Call) -> httpx.Response:
        """Send a call; each chunk of its body must be taken, and then it be answered, in bounded time."""
        limit_s = _ANSWER_SILENCES * self.silence_limit_s
        waiting = 0  # bytes that are to be taken before the deadline

        async def paced(body: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
            nonlocal waiting
            async for chunk in body():
                waiting = len(chunk)
                scope.deadline = anyio.current_time() + self.silence_limit_s
                yield chunk
            waiting = 0
            scope.deadline = anyio.current_time() + limit_s

        if callable(call.body):
            call = replace(call, body=functools.partial(paced, call.body))
        try:
            with anyio.fail_after(limit_s) as scope:
                return await self._send_authorized(call)
        except TimeoutError as error:
            import httpx

            if waiting:
                what = f"it did not take {waiting} bytes within {self.silence_limit_s:g} s"
                raise httpx.WriteTimeout(what) from error
            raise httpx.ReadTimeout(f"it did not answer within {limit_s:g} s") from error

    async def _send_authorized(self, call: Call) -> httpx.Response:
        key = (self._credentials.edition, call.host, call.scopes)
        known = self._tokens.get(key)
        header = known.header if known is not None and known.is_good() else ""
        response = await self._send_once(call, header)
        if response.status_code != 401:
            return response
        challenge = parse_challenge(response.headers.get_list("WWW-Authenticate"))
        if challenge is None:
            return response
        credential = await self._credentials.find(call.host, call.repository)
        plain = response.request.url.scheme == "http"
        try:
            found = await answer(
                self._client(call.host), challenge, credential, call.scopes, may_be_plain=plain
            )
        except TokenRefused as error:
            await response.aclose()
            raise CallFailed(str(error), error.status, call.host) from error
        if found is None or found.header == header:
            return response  # it has our answer already, or there is none: its 401 stands
        await response.aclose()
        self._tokens[key] = found
        return await self._send_once(call, found.header)

    async def _send_once(self, call: Call, authorization: str) -> httpx.Response:
        if "://" in call.path:
            return await self._send_to(call, call.path, authorization)
        scheme = self._schemes.get(call.host) or self._first_scheme(call.host)
        try:
            response = await self._send_to(call, self._address(scheme, call), authorization)
        except _connect_errors() as error:
            settled = scheme == "http" or call.host in self._schemes
            if settled or not self._is_near(call.host) or _is_distrust(error):
                raise
            _log.debug("no TLS at %s (%s): trying without", call.host, type(error).__name__)
            scheme = "http"
            response = await self._send_to(call, self._address(scheme, call), authorization)
        self._schemes[call.host] = scheme
        return response

    async def _send_to(self, call: Call, address: str, authorization: str) -> httpx.Response:
        headers = dict(call.headers)
        headers.setdefault("Accept-Encoding", "identity")
        if authorization and urlsplit(address).netloc == self._server(call.host):
            headers["Authorization"] = authorization
        body = call.body() if callable(call.body) else call.body
        client = self._client(call.host)
        request = client.build_request(call.method, address, headers=headers, content=body)
        if call.params:
            request.url = request.url.copy_merge_params(dict(call.params))
        response = await client.send(request, stream=True)
        redirects = 0
        while response.next_request is not None and call.method in {"GET", "HEAD"}:
            redirects += 1
            if redirects > _REDIRECTS:
                await response.aclose()
                raise CallFailed("it redirects without end", response.status_code, call.host)
            # Not left to httpx, which reads all that comes with a redirect, however long.
            await _finish_small(response)
            response = await client.send(response.next_request, stream=True)
        return response

    def _address(self, scheme: str, call: Call) -> str:
        return f"{scheme}://{self._server(call.host)}/v2/{call.path}"

    def _server(self, host: str) -> str:
        return self._routes.get(host) or (_HUB_SERVER if host == DOCKER_HUB else host)

    def _is_near(self, host: str) -> bool:
        return host in self._routes or is_loopback(host)

    def _first_scheme(self, host: str) -> str:
        return "http" if host in self._plain_http else "https"

    def _client(self, host: str) -> httpx.AsyncClient:
        # What is near is never behind the proxy that the environment names.
        local = self._is_near(host)
        if local not in self._clients:
            import httpx

            from pipeline.engine.handshakes import watch_handshakes

            self._clients[local] = httpx.AsyncClient(
                verify=self._tls(),
                trust_env=not local,
                # What is sent is timed by `_send_in_time`: httpx would time each chunk, however large.
                timeout=httpx.Timeout(self.silence_limit_s, connect=_CONNECT_LIMIT_S, write=None, pool=None),
                headers={"User-Agent": "dagger-pipeline"},
                event_hooks={"request": [watch_handshakes]},
            )
        return self._clients[local]

    def _describe(self, error: Exception) -> str:
        import httpx

        if isinstance(error, httpx.ConnectTimeout):
            return f"it took no connection within {_CONNECT_LIMIT_S:g} s"
        text = " ".join(str(error).split()).rstrip(".")
        if isinstance(error, httpx.TimeoutException) and not text:
            return f"it was silent for {self.silence_limit_s:g} s"
        return text[:200].lower() if text else "the connection broke off"

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        paths = ssl.get_default_verify_paths()
        if not (paths.cafile or paths.capath):
            import certifi

            context.load_verify_locations(certifi.where())
        if self._ca_file is not None:
            try:
                context.load_verify_locations(self._ca_file)
            except OSError as error:  # what OpenSSL says is one too
                raise CertificatesUnusable(self._ca_file, error) from error
        return context


def is_loopback(host: str) -> bool:
    """Tell whether a host (with or without a port) is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_distrust(error: BaseException | None) -> bool:
    """Tell whether a connection failed because of the server's certificate."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _connect_errors() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError)


def _parse_retry_after(text: str) -> float:
    if not text:
        return 0.0
    if text.isascii() and text.strip().isdigit():
        return float(text)
    import email.utils

    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0  # not there, or not understood: our own pause is good enough


def _attempts_after(error: Exception) -> int:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return _SILENT_ATTEMPTS
    return _CONNECT_ATTEMPTS if isinstance(error, httpx.ConnectError) else _ATTEMPTS


async def _finish_small(response: httpx.Response) -> None:
    """Read a short body to its end, so that the connection can be used again; close on a long one."""
    left = _REDIRECT_BODY_BYTES
    async for data in response.aiter_raw():
        left -= len(data)
        if left < 0:
            break
    await response.aclose()


async def _failure(host: str, response: httpx.Response) -> CallFailed:
    import httpx

    try:
        async for data in response.aiter_raw():
            body = data[:8192]
            break
        else:
            body = b""
    except httpx.HTTPError:
        body = b""
    finally:
        await response.aclose()
    detail = _parse_detail(body)
    what = f"the registry answered {response.status_code}" + (f" ({detail})" if detail else "")
    return CallFailed(what, response.status_code, host)


def _parse_detail(body: bytes) -> str:
    import json

    try:
        error = json.loads(body)["errors"][0]
        text = f"{error.get('code', '')}: {error.get('message', '')}"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ""
    return " ".join(text.split()).strip(": ")[:200]

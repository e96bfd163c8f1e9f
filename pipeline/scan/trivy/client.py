"""A Trivy server's calls over HTTP (Twirp with JSON): typed, with what goes wrong told apart.

What the answers mean for packages is the work of `source`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx

from pipeline.scan.probe import Network, client_of
from pipeline.scan.trivy.answer import ScanAnswer, read_scan
from pipeline.scan.trivy.errors import (
    BlobsMissing,
    TrivyFailed,
    TrivyMisspoke,
    TrivyPanicked,
    TrivyRefused,
    TrivyRejected,
    TrivyRouteUnknown,
    TrivyUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

CACHE: Final = "trivy.cache.v1.Cache"
SCANNER: Final = "trivy.scanner.v1.Scanner"
PREFIX: Final = "/twirp"
TOKEN_HEADER: Final = "Trivy-Token"  # noqa: S105 - the name of a header
LIMIT_S: Final = 60.0
MOST_BYTES: Final = 128 * 1024**2  # of one answer
WAITS_S: Final = (0.5, 1.0, 2.0, 4.0)  # before the server that is not ready is asked again
LAYER_MISSING: Final = "layer cache missing"
PANIC: Final = "service panic"
# The server finds nothing where one of these is left out, and breaks without any.
OPTIONS: Final[Mapping[str, Any]] = {"pkg_types": ["os", "library"], "scanners": ["vuln"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyAddress:
    """Where a server is, and how it is spoken to."""

    url: str  # scheme, host and port; the name and password in it are used and never told
    token: str = field(default="", repr=False)
    prefix: str = PREFIX
    header: str = TOKEN_HEADER

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return self.bare.rstrip("/")

    @property
    def bare(self) -> str:
        """The URL that is asked; what is none is left for the client to say."""
        try:
            return str(httpx.URL(self.url).copy_with(userinfo=b""))
        except httpx.InvalidURL:
            return "an address that is no URL"

    @property
    def login(self) -> tuple[str, str] | None:
        """Name and password of the URL, which no log has to hold."""
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            return None
        return (url.username, url.password) if url.userinfo else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyVersion:
    """The server's version, and how old its database is."""

    version: str
    updated_at: str = ""  # ISO 8601; "" where it has no database


class TrivyClient:
    """Speaks to one server; an async context manager that holds its connections."""

    def __init__(
        self,
        address: TrivyAddress,
        network: Network | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._address = address
        self._network = network or Network()
        self._sleep = sleep
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> TrivyClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._drop()

    async def is_healthy(self) -> bool:
        """Whether the server says it is; asks for no token.

        Raises:
            TrivyUnreachable: Nothing answers.
        """
        status, body = await self._try("GET", self._url("/healthz"), None)
        return status == httpx.codes.OK and body.strip() == b"ok"

    async def version(self) -> TrivyVersion:
        """The server's version and the time of its newest data.

        Raises:
            TrivyFailed: It cannot be asked, or the answer is none.
        """
        table = await self._ask("GET", self._url("/version"), None)
        database = table.get("VulnerabilityDB") or {}
        if not isinstance(database, dict) or not isinstance(table.get("Version"), str):
            raise TrivyMisspoke(self._address.shown, "its version is none")
        return TrivyVersion(version=table["Version"], updated_at=str(database.get("UpdatedAt") or ""))

    async def missing_blobs(self, artifact_id: str, blob_ids: Sequence[str]) -> tuple[bool, list[str]]:
        """Whether the artifact is missing, and which blobs are.

        Raises:
            TrivyFailed: It cannot be asked, or the answer is none.
        """
        body = {"artifact_id": artifact_id, "blob_ids": list(blob_ids)}
        table = await self.call(CACHE, "MissingBlobs", body)
        missing = table.get("missing_blob_ids") or []
        if not isinstance(missing, list) or not set(missing) <= set(blob_ids):
            raise TrivyMisspoke(self._address.shown, "it names blobs that it was not asked for")
        return bool(table.get("missing_artifact")), [str(one) for one in missing]

    async def put_blob(self, blob_id: str, info: Mapping[str, Any]) -> None:
        """Store what a layer holds.

        Raises:
            TrivyFailed: The server did not take it.
        """
        await self.call(CACHE, "PutBlob", {"diff_id": blob_id, "blob_info": dict(info)})

    async def put_artifact(self, artifact_id: str, info: Mapping[str, Any]) -> None:
        """Store what an image says of itself.

        Raises:
            TrivyFailed: The server did not take it.
        """
        await self.call(CACHE, "PutArtifact", {"artifact_id": artifact_id, "artifact_info": dict(info)})

    async def delete_blobs(self, blob_ids: Sequence[str]) -> None:
        """Remove blobs.

        Raises:
            TrivyFailed: The server did not.
        """
        await self.call(CACHE, "DeleteBlobs", {"blob_ids": list(blob_ids)})

    async def scan(self, target: str, artifact_id: str, blob_ids: Sequence[str]) -> ScanAnswer:
        """What the server knows of an image whose blobs it has, base first.

        Raises:
            BlobsMissing: It does not have one of them.
            TrivyFailed: Anything else went wrong.
        """
        body = {
            "target": target,
            "artifact_id": artifact_id,
            "blob_ids": list(blob_ids),
            "options": dict(OPTIONS),
        }
        try:
            return read_scan(await self.call(SCANNER, "Scan", body))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"its answer to a scan is none: {type(error).__name__}: {str(error)[:200]}"
            raise TrivyMisspoke(self._address.shown, why) from error

    async def call(self, service: str, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call; what the server answers.

        Raises:
            TrivyFailed: One of its classes says what happened.
        """
        return await self._ask("POST", self._url(f"{self._address.prefix}/{service}/{method}"), body)

    def _url(self, path: str) -> str:
        return f"{self._address.shown}/{path.strip('/')}"

    async def _ask(self, verb: str, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Ask, and again after a while where the server is not ready."""
        for wait_s in (*WAITS_S, None):
            status, data = await self._try(verb, url, body)
            if status != httpx.codes.SERVICE_UNAVAILABLE:
                break
            if wait_s is None:
                raise TrivyUnreachable(self._address.shown, f"it is not ready: {self._said(data)}")
            await self._sleep(wait_s)
        if status != httpx.codes.OK:
            raise await self._failure(status, data)
        return self._table(data)

    async def _try(self, verb: str, url: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        """One request; once more on a new connection where the server dropped a kept one."""
        content = json.dumps(body).encode() if body is not None else None
        for is_last in (False, True):
            is_kept = self._client is not None
            try:
                return await self._send(verb, url, content)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                await self._drop()
                if is_last or not is_kept:
                    raise TrivyUnreachable(self._address.shown, "it dropped the connection") from error
            except httpx.HTTPError as error:
                await self._drop()
                why = self._scrubbed(str(error)) or type(error).__name__
                raise TrivyUnreachable(self._address.shown, why) from error
            except httpx.InvalidURL as error:
                raise TrivyFailed(self._address.shown, "the address is no URL") from error
        raise AssertionError(url)

    async def _send(self, verb: str, url: str, content: bytes | None) -> tuple[int, bytes]:
        if self._client is None:
            self._client = client_of(self._network, timeout_s=LIMIT_S)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if self._address.token and content is not None:
            headers[self._address.header] = self._address.token
        data = bytearray()
        login = self._address.login
        async with self._client.stream(verb, url, content=content, headers=headers, auth=login) as answer:
            async for chunk in answer.aiter_bytes():
                data += chunk
                if len(data) > MOST_BYTES:
                    why = f"it answers more than {MOST_BYTES // 1024**2} MiB"
                    raise TrivyMisspoke(self._address.shown, why)
        return answer.status_code, bytes(data)

    async def _failure(self, status: int, data: bytes) -> TrivyFailed:
        shown, said = self._address.shown, self._said(data)
        match status:
            case 401 | 403:
                return TrivyRefused(shown, said)
            case 404 | 405:
                return TrivyRouteUnknown(shown, said)
            case 400:
                return TrivyRejected(shown, f"it could not read the request: {said}")
        if LAYER_MISSING in said:
            return BlobsMissing(shown, said)
        if PANIC in said:
            await self._drop()  # the server closes this connection without a word
            return TrivyPanicked(shown, f"it broke on the request: {said}")
        return TrivyFailed(shown, f"it answered {status}: {said}")

    def _table(self, data: bytes) -> dict[str, Any]:
        try:
            table = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise TrivyMisspoke(self._address.shown, "its answer is no JSON") from error
        if not isinstance(table, dict):
            raise TrivyMisspoke(self._address.shown, "its answer is no table")
        return table

    def _said(self, data: bytes) -> str:
        """What an error's body says, on one line, without the token."""
        text = data.decode("utf-8", "replace")
        try:
            table = json.loads(text)
            text = str(table["msg"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # a proxy's page, perhaps: it is told as it is
        return " ".join(self._scrubbed(text).split())[:300] or "nothing"

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._address.token, "***") if self._address.token else text

    async def _drop(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            with anyio.move_on_after(5, shield=True):
                await client.aclose()

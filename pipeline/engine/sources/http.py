"""Files behind an address: fetched into the store, asked about again once a session.

What the server said of a file (its tag, its date) is kept, so that unchanged content is not sent again
and keeps its identity.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import anyio
import anyio.to_thread

from pipeline.digest import Digest, digest_json
from pipeline.engine.treehash import TreeEntry, digest_entries
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from pipeline.engine.store import Store

_CONNECT_LIMIT_S: Final = 30.0
_SILENCE_LIMIT_S: Final = 120.0
_CHUNK_BYTES: Final = 1 << 18
_ALGORITHMS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_NOTE: Final = "http"


class HttpFailed(EngineError):
    """An address could not be fetched."""

    def __init__(self, url: str, reason: str, *, status: int = 0) -> None:
        super().__init__(f"cannot fetch `{without_password(url)}`: {reason}")
        self.status = status


class ChecksumMismatch(EngineError):
    """What was fetched is not what was expected."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"http checksum mismatch: expected {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class InvalidChecksum(EngineError):
    """A checksum is not written as `algorithm:hexadecimal digits`."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f'invalid checksum "{text}": {reason}')


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFile:
    """A fetched file: a tree with it alone, and its name there."""

    content: Digest
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What is asked for. `auth_header` is the value of `Authorization`; `addresses` are IPs of host names."""

    url: str
    name: str = ""  # "" = the last part of the address's path
    permissions: int = 0o600
    checksum: str = ""
    auth_header: str = field(default="", repr=False)
    addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What is kept of a fetched address."""

    blob: str
    etag: str = ""
    last_modified: str = ""


class HttpSources:
    """What one session fetches; `offline` answers from what the store has."""

    def __init__(self, store: Store, *, offline: bool = False) -> None:
        self._store = store
        self._offline = offline
        self._fresh: dict[str, _Kept] = {}
        self._turns: dict[str, anyio.Lock] = {}

    async def fetch(self, request: HttpRequest) -> HttpFile:
        """Return the file, fetched or known to be unchanged.

        Raises:
            InvalidChecksum: The checksum is malformed.
            HttpFailed: The address is malformed, cannot be reached, or the server's answer is not a file.
            ChecksumMismatch: The content is not what the checksum says.
        """
        _check_checksum(request.checksum)
        name = request.name or _name_of(request.url)
        if "/" in name or name in (".", ".."):
            raise HttpFailed(request.url, f"`{name}` is no file name")
        key = digest_json([request.url, hashlib.sha256(request.auth_header.encode()).hexdigest()])
        async with self._turns.setdefault(key, anyio.Lock()):
            kept = self._fresh.get(key) or self._find_by_checksum(request.checksum)
            if kept is None:
                kept = self._fresh[key] = await self._ask(request, key)
        return await anyio.to_thread.run_sync(self._as_tree, request, kept, name)

    def _find_by_checksum(self, checksum: str) -> _Kept | None:
        """Answer from the store when the content is known by its digest already."""
        if checksum.startswith("sha256:") and self._store.blobs.has(Digest(checksum)):
            return _Kept(blob=checksum)
        return None

    async def _ask(self, request: HttpRequest, key: str) -> _Kept:
        known = self._known(key)
        if self._offline:
            if known is None:
                raise HttpFailed(request.url, "it is not in the store, and the engine is offline")
            return known
        import httpx

        from pipeline.engine.handshakes import watch_handshakes

        headers = _headers(request, known)
        url, extensions = _directed(request, headers)
        timeout = httpx.Timeout(_SILENCE_LIMIT_S, connect=_CONNECT_LIMIT_S)
        hooks = {"request": [watch_handshakes]}
        try:
            async with (
                httpx.AsyncClient(follow_redirects=True, timeout=timeout, event_hooks=hooks) as client,
                client.stream("GET", url, headers=headers, extensions=extensions) as response,
            ):
                if response.status_code == 304 and known is not None:
                    return known
                if response.status_code != 200:
                    status = f"{response.status_code} {response.reason_phrase}".strip()
                    reason = f"invalid response status {status}"
                    raise HttpFailed(request.url, reason, status=response.status_code)
                blob = await self._receive(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HttpFailed(request.url, _reason(error)) from error
        kept = _Kept(
            blob=blob,
            etag=response.headers.get("etag", ""),
            last_modified=response.headers.get("last-modified", ""),
        )
        self._store.index.save_note(_NOTE, key, json.dumps(asdict(kept)))
        return kept

    async def _receive(self, response: httpx.Response) -> Digest:
        """Stream the body into a blob, as it was sent."""
        stack = ExitStack()
        writer = stack.enter_context(self._store.blobs.writer())
        try:
            async for chunk in response.aiter_raw(_CHUNK_BYTES):
                writer.write(chunk)
        except BaseException:
            stack.__exit__(*sys.exc_info())
            raise
        digest = writer.so_far()
        # Leaving the writer flushes to the disk, which may take long.
        await anyio.to_thread.run_sync(stack.close)
        return digest

    def _known(self, key: str) -> _Kept | None:
        note = self._store.index.find_note(_NOTE, key)
        if note is None:
            return None
        try:
            kept = _Kept(**json.loads(note))
        except (ValueError, TypeError):
            return None
        return kept if self._store.blobs.has(Digest(kept.blob)) else None

    def _as_tree(self, request: HttpRequest, kept: _Kept, name: str) -> HttpFile:
        blob = self._store.blobs.path(Digest(kept.blob))
        if request.checksum:
            algorithm = request.checksum.partition(":")[0]
            with open(blob, "rb") as stream:
                actual = f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"
            if actual != request.checksum:
                raise ChecksumMismatch(request.checksum, actual)
        mode = request.permissions & 0o777
        entry = TreeEntry(path=name, kind="file", mode=mode, uid=0, gid=0, sha256=kept.blob[7:])
        content = digest_entries([entry])
        if self._store.index.find_content(content) is None:
            draft = self._store.snapshots.prepare(self._store.snapshots.empty)
            try:
                _copy(blob, draft.upper / name, mode, kept.last_modified)
                snapshot = self._store.snapshots.commit(draft, identity=content, kind="http")
            except BaseException:
                self._store.snapshots.discard(draft)
                raise
            self._store.index.save_content(content, snapshot)
        return HttpFile(content=content, name=name)


def without_password(url: str) -> str:
    """Return the address as it may be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return re.sub(r"//[^/@]*@", "//", url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _check_checksum(text: str) -> None:
    if not text:
        return
    algorithm, separator, digits = text.partition(":")
    if not separator or not algorithm or not digits:
        raise InvalidChecksum(text, "invalid checksum digest format")
    if algorithm not in _ALGORITHMS:
        raise InvalidChecksum(text, "unsupported digest algorithm")
    if len(digits) != _ALGORITHMS[algorithm]:
        raise InvalidChecksum(text, "invalid checksum digest length")
    if re.fullmatch("[0-9a-f]*", digits) is None:
        raise InvalidChecksum(text, "invalid checksum digest format")


def _name_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise HttpFailed(url, str(error).lower()) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HttpFailed(url, "it is no http or https address")
    return unquote(parts.path).rstrip("/").rpartition("/")[2] or "index"


def _headers(request: HttpRequest, known: _Kept | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if request.auth_header:
        headers["Authorization"] = request.auth_header
    if known is not None and known.etag:
        headers["If-None-Match"] = known.etag
    if known is not None and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    return headers


def _directed(request: HttpRequest, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Lead the request to the IP of a host name that only the engine knows."""
    parts = urlsplit(request.url)
    host = parts.hostname or ""
    address = request.addresses.get(host)
    if address is None:
        return request.url, {}
    headers["Host"] = parts.netloc.rpartition("@")[2]
    port = f":{parts.port}" if parts.port else ""
    literal = f"[{address}]" if ":" in address else address
    return urlunsplit(parts._replace(netloc=literal + port)), {"sni_hostname": host}


def _reason(error: Exception) -> str:
    text = re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip()) or type(error).__name__
    return text[:1].lower() + text[1:]


def _copy(blob: Path, target: Path, mode: int, last_modified: str) -> None:
    shutil.copyfile(blob, target)
    os.chmod(target, mode)
    modified = _seconds(last_modified)
    if modified is not None:
        os.utime(target, (modified, modified))


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, TypeError):
        return None

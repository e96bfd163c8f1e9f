"""Asking a service over HTTP, within limits: an answer that is not what was asked for is no answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from pipeline.scan.probe import Network

ANSWER_S: Final = 20.0  # of one answer
ALL_S: Final = 120.0  # of everything that one source is asked
LARGEST_ANSWER: Final = 64 * 1024**2
LARGEST_FILE: Final = 4 * 1024**3
FILE_S: Final = 1800.0
AT_ONCE: Final = 10


class ServiceFailed(PipelineError):
    """A service gave no answer that could be used; `status` is that of HTTP, 0 without an answer."""

    def __init__(self, address: str, why: str, *, status: int = 0) -> None:
        super().__init__(f"cannot ask `{without_user(address)}`: {why}")
        self.why = why
        self.status = status


def without_user(address: str) -> str:
    """An address without user and password."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else address


async def ask_json(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    body: object = None,
    *,
    accept: str = "application/json",
) -> Any:
    """The JSON a service answers with.

    Raises:
        ServiceFailed: No answer in time, another status than 200, or something else than JSON.
    """
    import httpx

    try:
        with anyio.fail_after(ANSWER_S):
            async with client.stream(
                method, url, json=body, headers={"Accept": accept}, follow_redirects=True
            ) as answer:
                data = b""
                async for part in answer.aiter_bytes():
                    data += part
                    if len(data) > LARGEST_ANSWER:
                        raise ServiceFailed(url, "it answers without end")
    except (httpx.HTTPError, TimeoutError) as error:
        raise ServiceFailed(url, str(error) or "no answer in time") from error
    if answer.status_code != 200:
        raise ServiceFailed(url, f"it answered {answer.status_code}", status=answer.status_code)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        kind = answer.headers.get("content-type", "nothing that says what it is").partition(";")[0]
        raise ServiceFailed(url, f"it answered with {kind}, which is no JSON", status=200) from error


async def download(network: Network, url: str, target: Path) -> None:
    """Bring a file here; what was at `target` is only replaced by a whole one.

    Raises:
        ServiceFailed: It cannot be had, or is cut off.
    """
    import httpx

    from pipeline.scan.probe import client_of

    fresh = target.with_name(f".{target.name}.part")
    try:
        with anyio.fail_after(FILE_S), fresh.open("wb") as file:
            async with client_of(network, timeout_s=ANSWER_S) as client:
                async for part in _parts(client, url):
                    file.write(part)
        fresh.replace(target)
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        raise ServiceFailed(url, str(error) or "no answer in time") from error
    finally:
        fresh.unlink(missing_ok=True)


async def _parts(client: httpx.AsyncClient, url: str) -> AsyncIterator[bytes]:
    size = 0
    async with client.stream("GET", url, follow_redirects=True) as answer:
        if answer.status_code != 200:
            raise ServiceFailed(url, f"it answered {answer.status_code}", status=answer.status_code)
        async for part in answer.aiter_bytes():
            size += len(part)
            if size > LARGEST_FILE:
                raise ServiceFailed(url, "the file has no end")
            yield part

"""Answers to a registry's challenge: Basic, or a bearer token from the server that it names."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from pipeline.engine.oci.credentials import Credential

_PARAMETER: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CLIENT_ID: Final = "dagger-pipeline"
_DEFAULT_LIFE_S: Final = 60.0
_SAFETY_S: Final = 5.0
_ANSWER_LIMIT_BYTES: Final = 1 << 20


class TokenRefused(Exception):
    """The token server gave no token; `status` is its answer, 0 when it was no HTTP answer."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What `WWW-Authenticate` asks for; `scheme` is in lower case."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The value of an `Authorization` header and until when (monotonic seconds) it is good."""

    header: str = field(repr=False)
    until_s: float

    def is_good(self) -> bool:
        """Tell whether it can still be used."""
        return time.monotonic() < self.until_s


def parse_challenge(headers: Sequence[str]) -> Challenge | None:
    """Return the challenge to answer: bearer before basic; None when neither is there."""
    found: dict[str, Challenge] = {}
    for header in headers:
        scheme, _, rest = header.strip().partition(" ")
        values = {key.lower(): quoted or plain for key, quoted, plain in _PARAMETER.findall(rest)}
        found.setdefault(
            scheme.lower(),
            Challenge(
                scheme=scheme.lower(),
                realm=values.get("realm", ""),
                service=values.get("service", ""),
                scope=values.get("scope", ""),
            ),
        )
    return found.get("bearer") or found.get("basic")


def basic_header(credential: Credential) -> str:
    """Return the header value for HTTP Basic authentication."""
    pair = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


async def answer(
    client: httpx.AsyncClient,
    challenge: Challenge,
    credential: Credential | None,
    scopes: Sequence[str],
    *,
    may_be_plain: bool,
) -> Authorization | None:
    """Return what to send next; None when the challenge cannot be answered.

    Args:
        scopes: `repository:NAME:ACTIONS`; the challenge's own scope is asked for when empty.
        may_be_plain: The registry itself is spoken to without TLS, so its token server may be, too.

    Raises:
        TokenRefused: The token server refused, could not be reached, or must not be sent a password.
    """
    if challenge.scheme == "basic":
        if credential is None or not credential.username:
            return None
        return Authorization(header=basic_header(credential), until_s=float("inf"))
    if not challenge.realm:
        return None
    if credential is not None and urlsplit(challenge.realm).scheme != "https" and not may_be_plain:
        raise TokenRefused("its token server is not reached over https, so no password is sent there")
    return await _fetch_token(client, challenge, credential, scopes)


async def _fetch_token(
    client: httpx.AsyncClient,
    challenge: Challenge,
    credential: Credential | None,
    scopes: Sequence[str],
) -> Authorization:
    import httpx

    wanted = list(scopes) or challenge.scope.split()
    began = time.monotonic()
    headers = {"Accept-Encoding": "identity"}
    if credential is not None and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": challenge.service,
            "scope": " ".join(wanted),
            "client_id": _CLIENT_ID,
            "refresh_token": credential.identity_token,
        }
        ask = partial(client.stream, "POST", challenge.realm, data=form)
    else:
        query: dict[str, list[str]] = {"scope": wanted}
        if challenge.service:
            query["service"] = [challenge.service]
        if credential is not None:
            headers["Authorization"] = basic_header(credential)
        params = httpx.QueryParams(query)
        ask = partial(client.stream, "GET", challenge.realm, params=params, follow_redirects=True)
    try:
        async with ask(headers=headers) as response:
            if response.status_code != 200:
                what = f"its token server answered {response.status_code}"
                raise TokenRefused(what, response.status_code)
            data = await _read_token(response)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise TokenRefused(f"its token server cannot be reached ({type(error).__name__})") from error
    return _parse_token(data, began)


async def _read_token(response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > _ANSWER_LIMIT_BYTES:
            raise TokenRefused("its token server's answer is longer than any token")
    return bytes(data)


def _parse_token(data: bytes, began: float) -> Authorization:
    try:
        table: Any = json.loads(data)
        token = table.get("token") or table.get("access_token")
        life = float(table.get("expires_in") or _DEFAULT_LIFE_S)
    except (ValueError, TypeError, AttributeError, RecursionError):
        token = None
        life = 0.0
    if not isinstance(token, str) or not token.isprintable():
        raise TokenRefused("its token server's answer holds no token")
    return Authorization(header=f"Bearer {token}", until_s=began + max(life - _SAFETY_S, life / 2))

"""Who we are to a registry: what the session was told, else what Docker's and Podman's files hold.

Values are never shown: not in `repr`, not in errors.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio.to_thread

from pipeline.engine.oci.errors import CredentialsUnreadable
from pipeline.engine.oci.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

V = TypeVar("V")

_HUB_NAMES: Final = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
_HUB_SERVER: Final = "https://index.docker.io/v1/"
_TOKEN_USER: Final = "<token>"  # noqa: S105 (the name that helpers use, no secret)
_HELPER_LIMIT_S: Final = 30.0
_NOT_FOUND: Final = "credentials not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A user name and password, or an identity token to be exchanged for access tokens."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Credentials:
    """Finds the credential for a repository; what was added here comes before any file."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Read files where `environ` (ours by default) says that they are, when they are needed."""
        self._environ = os.environ if environ is None else environ
        self._added: dict[str, Credential] = {}
        self.edition = 0  # grows with each change, so that what was granted before is not used after it

    def add(self, address: str, credential: Credential) -> None:
        """Use `credential` for a registry host, or for one repository (`host/name`) and those below it."""
        self._added[_normal(address)] = credential
        self.edition += 1

    def remove(self, address: str) -> None:
        """Forget what was added for exactly this address; nothing there is no error."""
        self._added.pop(_normal(address), None)
        self.edition += 1

    async def find(self, host: str, name: str) -> Credential | None:
        """Return the credential for repository `name` at `host`; None means to stay anonymous.

        Raises:
            CredentialsUnreadable: A file or a helper program is there but does not work.
        """
        found = _longest(self._added, host, name)
        if found is not None:
            return found
        return await anyio.to_thread.run_sync(self._find_in_files, host, name)

    def _find_in_files(self, host: str, name: str) -> Credential | None:
        for path in self._files():
            if (table := _read_table(path)) is not None:
                found = self._find_in_table(path, table, host, name)
                if found is not None:
                    return found
        return None

    def _files(self) -> Iterator[Path]:
        home = self._environ.get("HOME", "")
        if folder := self._environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else ""):
            yield Path(folder) / "config.json"
        if path := self._environ.get("REGISTRY_AUTH_FILE"):
            yield Path(path)
        runtime = self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        yield Path(runtime) / "containers/auth.json"
        if folder := self._environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else ""):
            yield Path(folder) / "containers/auth.json"

    def _find_in_table(self, path: Path, table: Mapping[str, Any], host: str, name: str) -> Credential | None:
        helpers = table.get("credHelpers") or {}
        for key in (host, *(_HUB_NAMES if host == DOCKER_HUB else ())):
            if helper := helpers.get(key):
                return self._ask_helper(str(helper), key)
        if helper := table.get("credsStore"):
            found = self._ask_helper(str(helper), _HUB_SERVER if host == DOCKER_HUB else host)
            if found is not None:
                return found
        auths = table.get("auths") or {}
        entries = {_normal(key): value for key, value in auths.items() if isinstance(value, dict) and value}
        entry = _longest(entries, host, name)
        return None if entry is None else _parse_entry(path, host, entry)

    def _ask_helper(self, helper: str, server: str) -> Credential | None:
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"],
                input=server,
                capture_output=True,
                text=True,
                timeout=_HELPER_LIMIT_S,
                check=False,
                env=dict(self._environ),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            what = getattr(error, "strerror", None) or "it did not answer in time"
            raise CredentialsUnreadable(program, str(what).lower()) from error
        if done.returncode != 0:
            if _NOT_FOUND in done.stdout + done.stderr:
                return None
            raise CredentialsUnreadable(program, f"it ended with exit code {done.returncode}")
        try:
            answer = json.loads(done.stdout)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            # Without the cause: its text could quote the answer.
            raise CredentialsUnreadable(program, "its answer is not what helpers give") from None
        if username == _TOKEN_USER:
            return Credential(identity_token=secret)
        return Credential(username=username, password=secret)


def _read_table(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        table = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise CredentialsUnreadable(str(path), "it is no JSON object")
    return table


def _parse_entry(path: Path, host: str, entry: Mapping[str, Any]) -> Credential | None:
    if token := entry.get("identitytoken"):
        return Credential(identity_token=str(token))
    if text := entry.get("auth"):
        try:
            username, colon, password = base64.b64decode(str(text), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise CredentialsUnreadable(str(path), f"the entry of `{host}` cannot be decoded") from None
        return Credential(username=username, password=password.strip("\0"))
    if entry.get("username"):
        return Credential(username=str(entry["username"]), password=str(entry.get("password") or ""))
    return None


def _longest(table: Mapping[str, V], host: str, name: str) -> V | None:
    parts = name.split("/")
    for length in range(len(parts), 0, -1):
        if (found := table.get("/".join([host, *parts[:length]]))) is not None:
            return found
    return table.get(host)


def _normal(address: str) -> str:
    """Return `host` or `host/name` for any of the ways in which files and people write it."""
    text = address.partition("://")[2] or address
    text = text.rstrip("/")
    for suffix in ("/v1", "/v2"):
        text = text.removesuffix(suffix)
    host, slash, name = text.partition("/")
    if host in ("index.docker.io", "registry-1.docker.io", DOCKER_HUB):
        host = DOCKER_HUB
    repository = name.partition("@")[0].rpartition(":")[0] or name.partition("@")[0]
    return f"{host}{slash}{repository}"

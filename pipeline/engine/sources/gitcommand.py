"""Running git: no questions, bounded time, and credentials that no argument list and no log shows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import anyio

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

QUERY_LIMIT_S: Final = 120.0
TRANSFER_LIMIT_S: Final = 3600.0
_STOP_LIMIT_S: Final = 5.0

# What of the caller's git set-up reaches git; the rest could lead it to other directories or trace secrets.
_PASSED: Final = re.compile(
    r"GIT_(?:SSL_\w+|SSH|SSH_COMMAND|SSH_VARIANT|PROXY_COMMAND|HTTP_USER_AGENT|EXEC_PATH"
    r"|CONFIG_GLOBAL|CONFIG_SYSTEM|CONFIG_NOSYSTEM)"
)
_REFUSED: Final = (
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "error: 401",
    "error: 403",
)
_MISSING: Final = re.compile(
    r"[Rr]epository .*not found|does not appear to be a git repository|repository not exported"
    r"|not a git repository|does not exist|error: 404",
)
_SCP: Final = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+:(?!:|//)(?!\d+/).+")


_REDIRECT_HINT: Final = "use the address that it redirects to: an `Authorization` header is not sent on"
_ANY_USER: Final = "x-access-token"
_USER: Final = "PIPELINE_GIT_USER"
_PASSWORD: Final = "PIPELINE_GIT_PASSWORD"  # noqa: S105 - the name of a variable
_HELPER: Final = (
    f"""!f() {{ test "$1" = get && printf 'username=%s\\npassword=%s\\n' "${_USER}" "${_PASSWORD}"; }}; f"""
)


class GitFailed(EngineError):
    """Git could not do what was asked; `log` is what it said, without secrets."""

    def __init__(self, message: str, *, log: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.log = log
        self.hint = hint


class GitAuthenticationFailed(GitFailed):
    """A server refused the credentials, or asks for some."""

    def __init__(self, *, log: str = "") -> None:
        super().__init__("git error: git authentication failed", log=log)


class RepositoryNotFound(GitFailed):
    """There is no repository at an address."""

    def __init__(self, url: str, *, log: str = "") -> None:
        super().__init__(f"repository not found: {url}", log=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAuth:
    """How to be let in. `token` is the password of `username`; `header` is a whole `Authorization` value."""

    username: str = ""
    token: str = field(default="", repr=False)
    header: str = field(default="", repr=False)
    ssh_socket: str = ""  # "" = the caller's agent
    known_hosts: str = ""

    @property
    def key(self) -> str:
        """Tell credentials apart without showing them."""
        parts = (self.username, self.token, self.header, self.ssh_socket, self.known_hosts)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def authorization(self) -> str:
        """Return the value of the `Authorization` header; "" for none."""
        if self.header or not self.token:
            return self.header
        pair = f"{self.username or _ANY_USER}:{self.token}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAddress:
    """Where a repository is: an address without credentials, and those that were in it."""

    url: str
    auth: GitAuth


def parse_address(url: str, auth: GitAuth) -> tuple[GitAddress, ...]:
    """Return the addresses to try for what a user wrote, best first.

    Raises:
        GitFailed: Its scheme is not one of https, http, ssh and git.
    """
    if "://" not in url:
        if _SCP.fullmatch(url):
            return (GitAddress(url=url, auth=auth),)
        if url.startswith(("/", ".", "~", "-")) or "/" not in url:
            raise GitFailed(f"cannot use git address `{url}`: it names no host")
        host, _, path = url.partition("/")
        return (
            GitAddress(url=f"https://{url}", auth=auth),
            GitAddress(url=f"ssh://git@{host}/{path}", auth=auth),
        )
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "ssh", "git"):
        raise GitFailed(f"cannot use git address `{url}`: the scheme `{parts.scheme}` is not supported")
    if parts.scheme in ("ssh", "git") or "@" not in parts.netloc:
        return (GitAddress(url=url, auth=auth),)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    if password and not auth.authorization:
        auth = GitAuth(username=unquote(name), token=unquote(password))
    return (GitAddress(url=urlunsplit(parts._replace(netloc=host)), auth=auth),)


class Git:
    """Runs git commands. `folder` is a directory of ours, for the files they need."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environ = os.environ if environ is None else environ

    async def local(self, *argv: str, cwd: Path) -> str:
        """Run a command on our own copies: no configuration of the caller's has a say.

        Raises:
            GitFailed: It ended with another status than 0.
        """
        env = self._plain_environment()
        config = self._folder / "config"
        if not config.exists():
            config.write_text("[safe]\n\tdirectory = *\n[uploadpack]\n\tallowAnySHA1InWant = true\n")
        env |= {"GIT_CONFIG_GLOBAL": os.fspath(config), "GIT_CONFIG_NOSYSTEM": "1"}
        status, out, said = await self._run(argv, cwd, env, TRANSFER_LIMIT_S)
        if status != 0:
            raise _failure("", status, said)
        return out

    async def remote(
        self,
        *argv: str,
        cwd: Path,
        address: GitAddress,
        addresses: Mapping[str, str] | None = None,
        limit_s: float = TRANSFER_LIMIT_S,
    ) -> str:
        """Run a command that speaks to a server, with its credentials.

        `addresses` are IPs of host names that only the engine knows.

        Raises:
            GitAuthenticationFailed: The server refused.
            RepositoryNotFound: There is nothing there.
            GitFailed: Anything else, or `limit_s` went by.
        """
        env = self._plain_environment()
        settings = [("credential.interactive", "never"), ("core.askPass", "")]
        settings += _http_settings(address, addresses or {})
        env |= _as_environment(settings)
        if address.auth.token:
            env |= {_USER: address.auth.username or _ANY_USER, _PASSWORD: address.auth.token}
        env |= self._ssh_environment(address.auth, env)
        status, out, said = await self._run(argv, cwd, env, limit_s)
        if status != 0:
            raise _failure(address.url, status, _scrubbed(said, address.auth))
        return out

    def _plain_environment(self) -> dict[str, str]:
        env = {
            name: value
            for name, value in self._environ.items()
            if not name.startswith("GIT_") or _PASSED.fullmatch(name)
        }
        env.pop("SSH_ASKPASS", None)
        return env | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}

    def _ssh_environment(self, auth: GitAuth, env: Mapping[str, str]) -> dict[str, str]:
        added: dict[str, str] = {}
        if auth.ssh_socket:
            added["SSH_AUTH_SOCK"] = auth.ssh_socket
        if auth.known_hosts:
            path = self._folder / f"known-hosts-{hashlib.sha256(auth.known_hosts.encode()).hexdigest()[:16]}"
            path.write_text(auth.known_hosts.rstrip("\n") + "\n")
            options = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={shlex.quote(str(path))}"
            added["GIT_SSH_COMMAND"] = f"ssh -o BatchMode=yes {options}"
        elif "GIT_SSH_COMMAND" not in env and "GIT_SSH" not in env:
            added["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
        return added

    async def _run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], limit_s: float
    ) -> tuple[int, str, str]:
        if shutil.which("git") is None:
            raise GitFailed("cannot run git: it is not installed", hint="apt-get install git")
        process = await asyncio.create_subprocess_exec(
            "git",
            *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0"),
            *argv,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            umask=0o022,
        )
        try:
            with anyio.fail_after(limit_s):
                out, said = await process.communicate()
        except TimeoutError as error:
            raise GitFailed(f"git error: `git {argv[0]}` took longer than {limit_s:.0f} seconds") from error
        finally:
            await _stop(process)
        return process.returncode or 0, out.decode("utf-8", "replace"), said.decode("utf-8", "replace")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End git and its helpers, when it was given up."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(_STOP_LIMIT_S, shield=True):
        await process.wait()


def _http_settings(address: GitAddress, addresses: Mapping[str, str]) -> list[tuple[str, str]]:
    parts = urlsplit(address.url) if "://" in address.url else None
    if parts is None or parts.scheme not in ("http", "https"):
        return []
    settings: list[tuple[str, str]] = []
    if address.auth.authorization:
        # For this server alone: submodules and redirects may lead to others.
        base = f"{parts.scheme}://{parts.netloc}/"
        if address.auth.header:
            settings.append((f"http.{base}.extraHeader", f"Authorization: {address.auth.header}"))
            # Git would send the header on to wherever a redirect leads.
            settings.append(("http.followRedirects", "false"))
        else:
            # The empty one comes first, so that no helper of the caller's is given the token to keep.
            settings += [(f"credential.{base}.helper", text) for text in ("", _HELPER)]
    ip = addresses.get(parts.hostname or "")
    if ip is not None:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        settings.append(("http.curloptResolve", f"{parts.hostname}:{port}:{ip}"))
    return settings


def _as_environment(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for index, (name, value) in enumerate(settings):
        env[f"GIT_CONFIG_KEY_{index}"] = name
        env[f"GIT_CONFIG_VALUE_{index}"] = value
    return env


def _scrubbed(said: str, auth: GitAuth) -> str:
    for secret in (auth.token, auth.header, auth.authorization):
        if secret:
            said = said.replace(secret, "***")
    return re.sub(r"//[^/@\s]*@", "//", said)


def _failure(url: str, status: int, said: str) -> GitFailed:
    if any(sign in said for sign in _REFUSED):
        return GitAuthenticationFailed(log=said)
    if url and "Permission denied (" not in said and _MISSING.search(said):
        return RepositoryNotFound(url, log=said)
    lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "ssh:"))]
    detail = f": {lines[0]}" if lines else ""
    hint = _REDIRECT_HINT if re.search("error: 30[1278]", said) else None
    return GitFailed(f"git error: exit status {status}{detail}", log=said, hint=hint)

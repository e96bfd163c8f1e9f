"""Secrets: where their values come from, and the handles they are known by in keys.

A value is read when it is used, each time, and never kept by this module, except for the values a session
set itself. Scrubbing is the business of those who run commands.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets as randomness
import subprocess
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from pipeline.engine.ops import SecretHandle
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_SALT_BYTES: Final = 32
_COMMAND_LIMIT_S: Final = 120.0
_ELSEWHERE: Final = ("op", "vault", "libsecret", "aws+sm", "aws+ps", "gcp")
# The slow hash of a value: 16 MiB and some 50 ms, so that a handle found in a key cannot be searched for.
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}


class UnknownSecretProvider(EngineError):
    """A secret's address names no provider that is known here."""

    def __init__(self, uri: str) -> None:
        scheme, separator, _ = uri.partition("://")
        if not separator:
            # What stands there may be the secret itself: no more of it than its beginning is shown.
            super().__init__(f"parse {_quoted(uri)}: malformed id")
            self.hint = "write env://NAME, file://PATH or cmd://COMMAND"
        elif scheme in _ELSEWHERE:
            super().__init__(f'secret provider "{scheme}" is not supported by the embedded engine')
            self.hint = "use env://, file:// or cmd://, or run on a Dagger engine"
        else:
            super().__init__(f'unsupported secret provider: "{scheme}"')
            self.hint = "the providers are env://, file:// and cmd://"


class SecretUnreadable(EngineError):
    """A secret's value cannot be had now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret as a session holds it: `name` of one that was set, `uri` of one that is looked up."""

    handle: str
    read: Callable[[], bytes] = field(repr=False, compare=False)  # raises SecretUnreadable
    name: str = ""
    uri: str = ""

    def in_key(self) -> SecretHandle:
        """Return what an op holds of it."""
        return SecretHandle(handle=self.handle, read=self.read)

    async def plaintext(self) -> bytes:
        """Read the value now.

        Raises:
            SecretUnreadable: It cannot be had.
        """
        return await anyio.to_thread.run_sync(self.read)


class Secrets:
    """The secrets of one session. `root` is the store's directory, which has the salt of all handles."""

    def __init__(self, root: Path, workdir: str | Path, environ: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._workdir = os.path.abspath(workdir)
        self._environ = os.environ if environ is None else environ
        self._values: dict[str, bytes] = {}

    def set_secret(self, name: str, plaintext: bytes) -> Secret:
        """Set a value for this session; earlier secrets of this name have it too.

        The handle depends on the name alone: another value does not make anything run again.
        """
        self._values[name] = plaintext
        return self.named(name)

    def named(self, name: str) -> Secret:
        """Return the secret of a name; it cannot be read before this session has set it."""
        return Secret(
            handle=self._keyed(b"name", name.encode()), read=partial(_read_set, self._values, name), name=name
        )

    async def find(self, uri: str, cache_key: str = "") -> Secret:
        """Return the secret at `env://NAME`, `file://PATH` or `cmd://COMMAND`.

        It is read once now, for its handle: equal values have equal handles, whatever the address. With
        `cache_key` the handle depends on that alone. One that cannot be read now matches nothing.

        Raises:
            UnknownSecretProvider: The address has no known scheme.
        """
        read = self._reader(uri)
        if cache_key:
            handle = self._keyed(b"cache key", cache_key.encode())
        else:
            handle = await anyio.to_thread.run_sync(self._handle_of_value, read)
        return Secret(handle=handle, read=read, uri=uri)

    def _reader(self, uri: str) -> Callable[[], bytes]:
        scheme, _, rest = uri.partition("://")
        if scheme == "env":
            return partial(_read_variable, self._environ, rest)
        if scheme == "file":
            path = os.path.join(self._workdir, os.path.expanduser(rest))
            return partial(_read_file, rest, path)
        if scheme == "cmd":
            return partial(_read_command, rest, self._workdir, self._environ)
        raise UnknownSecretProvider(uri)

    def _handle_of_value(self, read: Callable[[], bytes]) -> str:
        try:
            value = read()
        except SecretUnreadable:
            return "random:" + randomness.token_hex(32)
        return "value:" + hashlib.scrypt(value, salt=self._salt(), **_SCRYPT).hex()

    def _keyed(self, kind: bytes, text: bytes) -> str:
        return f"{kind.decode()}:" + hmac.new(self._salt(), kind + b"\0" + text, "sha256").hexdigest()

    def _salt(self) -> bytes:
        """Return the store's salt, made at its first use; a damaged one is replaced."""
        path = self._root / "secret-salt"
        for _ in range(2):
            try:
                salt = path.read_bytes()
            except FileNotFoundError:
                salt = b""
            if len(salt) == _SALT_BYTES:
                return salt
            if salt:
                path.unlink(missing_ok=True)
            self._make_salt(path)
        return path.read_bytes()

    def _make_salt(self, path: Path) -> None:
        # Written aside and linked: of two engines that begin at once, one salt is everybody's.
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{randomness.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, randomness.token_bytes(_SALT_BYTES))
            os.fsync(descriptor)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
        finally:
            os.close(descriptor)
            os.unlink(temporary)


def _read_set(values: Mapping[str, bytes], name: str) -> bytes:
    if name not in values:
        raise SecretUnreadable(f"cannot use the secret `{name}`: this session has not set it")
    return values[name]


def _read_variable(environ: Mapping[str, str], name: str) -> bytes:
    value = environ.get(name)
    if value is None:
        # People put the value where the name belongs.
        raise SecretUnreadable(f"secret env var not found: {_quoted(name)}")
    return os.fsencode(value)


def _read_file(shown: str, path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SecretUnreadable(f"failed to read secret file {json.dumps(shown)}: {reason}") from error


def _read_command(command: str, workdir: str, environ: Mapping[str, str]) -> bytes:
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=workdir,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        reason = f"it took longer than {_COMMAND_LIMIT_S:.0f} seconds"
        raise SecretUnreadable(f"failed to run secret command: {reason}") from error.with_traceback(None)
    except OSError as error:
        raise SecretUnreadable(f"failed to run secret command: {error.strerror}") from error
    if done.returncode != 0:
        raise SecretUnreadable(f"failed to run secret command: exit status {done.returncode}")
    return done.stdout


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) < 4 else text[:3] + "...")

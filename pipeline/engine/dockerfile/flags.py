"""The `--name=value` flags of an instruction: which are known, what shape they have. Pure."""

from __future__ import annotations

import csv
import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from pipeline.engine.dockerfile.instructions import MountType, RunMount, Sharing
from pipeline.engine.durations import BadDuration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

KNOWN: Final[dict[str, tuple[str, ...]]] = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_REPEATED: Final = frozenset({"mount", "exclude"})
_SWITCHES: Final = frozenset({"link", "parents", "keep-git-dir", "unpack"})
_MOUNT_TEXTS: Final = {
    "type": "type",
    "id": "id",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "source": "source",
    "src": "source",
    "from": "from_",
    "env": "env",
    "sharing": "sharing",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "size": "size",
}
_SHORTEST_S: Final = 0.001
_COUNT: Final = re.compile(r"\+?[0-9]{1,10}\Z")
_MOST: Final = 2**31 - 1
_MOUNT_SWITCHES: Final = ("readonly", "ro", "readwrite", "rw", "required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """An instruction's flags by name, checked to be known, single where they must, and complete."""

    values: dict[str, list[str]]

    def text(self, name: str) -> str:
        """Return a flag's value, "" when absent."""
        return self.values.get(name, [""])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return every value of a repeated flag."""
        return tuple(self.values.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """Return a switch's state, None when absent."""
        return self.text(name) == "true" if name in self.values else None

    def seconds(self, name: str) -> float:
        """Return a duration in seconds, 0 when absent.

        Raises:
            ValueError: It is no duration, or it is under a millisecond and not 0.
        """
        text = self.text(name)
        try:
            value = parse_duration(text)
        except BadDuration as error:
            raise ValueError(f"--{name}: {error}") from error
        if value != 0 and value < _SHORTEST_S:
            raise ValueError(f"--{name} cannot be less than 1ms, got {text}")
        return value

    def count(self, name: str) -> int:
        """Return a whole number from 0, 0 when absent.

        Raises:
            ValueError: It is none.
        """
        text = self.text(name)
        if text and (_COUNT.match(text) is None or int(text) > _MOST):
            raise ValueError(f"--{name} must be a whole number, got {text!r}")
        return int(text or "0")


def parse_flags(keyword: str, words: Sequence[str]) -> Flags:
    """Read an instruction's flags.

    Raises:
        ValueError: Unknown, repeated, without a value, or a switch that is neither true nor false.
    """
    known = KNOWN.get(keyword, ())
    values: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word[2:].partition("=")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"unknown flag: --{name}" + (f" (did you mean {close[0]}?)" if close else ""))
        if name in values and name not in _REPEATED:
            raise ValueError(f"duplicate flag specified: --{name}")
        if name in _SWITCHES:
            value = _switch(f"--{name}", value.lower() if equals else "true")
        elif not equals or (not value and name != "from"):
            raise ValueError(f"missing a value on flag: --{name}")
        values.setdefault(name, []).append(value)
    return Flags(values=values)


def parse_mount(text: str) -> RunMount:
    """Read the value of `RUN --mount=`.

    Raises:
        ValueError: An unknown key, type or sharing mode, or a missing or senseless value.
    """
    found: dict[str, str] = {}
    required = False
    read_only: bool | None = None
    for part in _fields(text):
        name, equals, value = part.partition("=")
        key = name.lower()
        if key in _MOUNT_SWITCHES:
            state = _switch(key, value.lower() if equals else "true") == "true"
            if key == "required":
                required = state
            else:
                read_only = state if key in ("readonly", "ro") else not state
        elif key not in _MOUNT_TEXTS:
            close = difflib.get_close_matches(key, [*_MOUNT_TEXTS, *_MOUNT_SWITCHES], n=1)
            raise ValueError(
                f"unexpected key '{key}' in '{part}'" + (f" (did you mean {close[0]}?)" if close else "")
            )
        elif not equals:
            raise ValueError(f"invalid field '{part}': it must be a key=value pair")
        else:
            found[_MOUNT_TEXTS[key]] = value
    return _checked_mount(found, required=required, read_only=read_only)


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"the value of --mount cannot be read: {error}") from error


def _checked_mount(found: dict[str, str], *, required: bool, read_only: bool | None) -> RunMount:
    kind = found.setdefault("type", "bind")
    if kind not in get_args(MountType):
        raise ValueError(f"unsupported mount type {kind!r}")
    if (sharing := found.get("sharing")) and sharing not in get_args(Sharing) and "$" not in sharing:
        raise ValueError(f"unsupported sharing value {sharing!r}")
    _check_fits(found, kind, required=required)
    if kind in ("cache", "tmpfs", "bind") and not found.get("target"):
        raise ValueError(f"a mount of type {kind} needs a target")
    return RunMount(**found, required=required, read_only=read_only)  # type: ignore[arg-type]


def _check_fits(found: dict[str, str], kind: str, *, required: bool) -> None:
    """Refuse options that mean nothing for this type of mount."""
    if required and kind not in ("secret", "ssh"):
        raise ValueError(f"'required' is not allowed for a mount of type {kind}")
    fits = {
        "size": ("tmpfs",),
        "sharing": ("cache",),
        "env": ("secret",),
        "from_": ("bind", "cache"),
        "mode": ("cache", "secret", "ssh"),
        "uid": ("cache", "secret", "ssh"),
        "gid": ("cache", "secret", "ssh"),
    }
    for name, kinds in fits.items():
        if name in found and kind not in kinds:
            raise ValueError(f"'{name.rstrip('_')}' is not allowed for a mount of type {kind}")
    for name in ("mode", "uid", "gid"):
        value = found.get(name, "")
        if value and "$" not in value and not re.fullmatch(r"[0-7]+" if name == "mode" else r"[0-9]+", value):
            raise ValueError(f"invalid value {value} for {name}")


def _switch(name: str, value: str) -> str:
    if value not in ("true", "false"):
        raise ValueError(f"expecting boolean value for {name}, not: {value}")
    return value

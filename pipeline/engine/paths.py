"""Paths inside containers and directories: joined and cleaned lexically, never leaving the root."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

NAME_MAX_BYTES = 255


class NameTooLong(EngineError):
    """A path has a component that no file system would take."""

    def __init__(self) -> None:
        super().__init__(f"File name length exceeds the maximum supported {NAME_MAX_BYTES} characters")


def join(base: str, path: str) -> str:
    """Return `path` as an absolute clean path; a relative one starts at `base` (or at the root).

    Raises:
        NameTooLong: A component is longer than 255 bytes.
    """
    joined = posixpath.normpath(posixpath.join("/", base, path))
    clean = "/" + joined.lstrip("/")
    if any(len(part.encode("utf-8", "surrogateescape")) > NAME_MAX_BYTES for part in clean.split("/")):
        raise NameTooLong
    return clean


def is_within(path: str, parent: str) -> bool:
    """Is `path` the clean directory `parent` or below it?"""
    return path == parent or parent == "/" or path.startswith(parent + "/")


def relative(path: str, parent: str) -> str:
    """Return the part of `path` below `parent`, without a leading slash; "" when equal."""
    return path[len(parent) :].lstrip("/") if parent != "/" else path.lstrip("/")


def base_name(path: str) -> str:
    """Return the last component of a clean path; "/" has none."""
    return posixpath.basename(path)


def expand_variables(text: str, lookup: Callable[[str], str]) -> str:
    """Replace `$NAME` and `${NAME}` as Go's `os.Expand` does; `lookup` gives each value."""
    out: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char != "$" or position + 1 == len(text):
            out.append(char)
            position += 1
            continue
        name, width = _variable_name(text[position + 1 :])
        if name:
            out.append(lookup(name))
        elif width == 0:
            out.append("$")
        position += 1 + width
    return "".join(out)


_SPECIAL = frozenset("*#$@!?-0123456789")


def _variable_name(text: str) -> tuple[str, int]:
    """Return the name that starts `text` and the characters it takes, as Go's `getShellName`."""
    if text[0] == "{":
        if len(text) > 2 and text[1] in _SPECIAL and text[2] == "}":
            return text[1], 3
        end = text.find("}")
        if end == -1:
            return "", 1  # bad syntax: eat "${"
        return text[1:end], end + 1
    if text[0] in _SPECIAL:
        return text[0], 1
    end = 0
    while end < len(text) and (text[end] == "_" or (text[end].isascii() and text[end].isalnum())):
        end += 1
    return text[:end], end

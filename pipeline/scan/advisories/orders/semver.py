"""The order of Semantic Versioning 2.0, and what Go and Dart make of it.

Read as the tools read it: a leading `v` or `=`, missing parts and a missing `-` before letters are allowed;
build metadata does not count.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from pipeline.scan.advisories.orders.bad import BadVersion

Key: TypeAlias = tuple[Any, ...]

_SEMVER: Final = re.compile(
    r"[v=\s]*(\d{1,100})(?:\.(\d{1,100}))?(?:\.(\d{1,100}))?"
    r"(?:(?:-|(?=[A-Za-z]))([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z.-]+))?",
    re.ASCII,
)
# A toolchain: "go1.21", "go1.21rc2", "1.21.3".
_GO_TOOL: Final = re.compile(r"(?:go)?(\d+\.\d+)(?:\.(\d+))?(?:(alpha|beta|rc)(\d+))?", re.ASCII)


def parse(text: str) -> tuple[Key, str]:
    """Return the key without, and the text of, build metadata."""
    found = _SEMVER.fullmatch(text.strip())
    if found is None:
        raise BadVersion(text, "semantic versioning")
    numbers = tuple(int(part or 0) for part in found.group(1, 2, 3))
    return (*numbers, *_identifiers(found.group(4))), found.group(5) or ""


def _identifiers(text: str | None) -> Key:
    """A pre-release: below the release, numbers below words, fewer parts below more."""
    if text is None:
        return (1,)
    return (0, tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in text.split(".")))


def key(text: str) -> Key:
    """SemVer as npm and Cargo have it."""
    return parse(text)[0]


def go_key(text: str) -> Key:
    """A module's version, pseudo-versions included, or a toolchain's: `go1.21rc2`, `v1.2.3+incompatible`."""
    tool = _GO_TOOL.fullmatch(text)
    if tool is not None:
        text = f"{tool.group(1)}.{tool.group(2) or 0}"
        text += f"-{tool.group(3)}.{tool.group(4)}" if tool.group(3) else ""
    return parse(text)[0]


def pub_key(text: str) -> Key:
    """A version of Dart's, where build metadata makes a later version."""
    release, build = parse(text)
    parts = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in build.split("."))
    return (release, parts if build else ())

"""Packages of Ruby: `Gemfile.lock`."""

from __future__ import annotations

import re
from typing import Final

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken

_SPEC: Final = re.compile(r"^ {4}([^\s(]+) \(([^)]+)\)$")
_PLATFORM: Final = re.compile(
    r"-(?:x86|x64|i\d86|arm|aarch64|java|ruby|universal|mingw|mswin|linux|darwin|powerpc|s390x).*$"
)
PRIVATE: Final = {"GIT": "a git repository", "PATH": "a folder"}


def read_gemfile(path: str, text: str) -> list[Package]:
    """Every gem of the sections GEM, GIT and PATH; a version's platform is left out.

    Raises:
        LockBroken: It has none of these sections.
    """
    section = ""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    direct: set[str] = set()
    for line in text.splitlines():
        if re.match(r"[A-Z]", line):
            section = line.strip()
        elif section in ("GEM", "GIT", "PATH", "PLUGIN SOURCE") and (spec := _SPEC.match(line)):
            version = _PLATFORM.sub("", spec.group(2))
            found[(spec.group(1), version)] = (version, PRIVATE.get(section, ""))
        elif section == "DEPENDENCIES" and (name := re.match(r"^ {2}([^\s!(]+)", line)):
            direct.add(name.group(1))
    if not found and "GEM" not in text:
        raise LockBroken(path, "it has no section GEM")
    return [
        Package(
            name=name,
            version=version,
            ecosystem="RubyGems",
            path=path,
            direct=name in direct,
            private=private,
        )
        for (name, _), (version, private) in found.items()
    ]

"""Packages of Alpine and its relatives, as apk's database lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.scan.packages.package import Package

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_apk(path: str, text: str, ecosystem: str) -> list[Package]:
    """The packages of `lib/apk/db/installed`; a package without an origin is its own source."""
    found = []
    for paragraph in text.split("\n\n"):
        fields = {
            line[0]: line[2:] for line in paragraph.splitlines() if line[1:2] == ":" and line[0] in "PVAoL"
        }
        if fields.get("P") and fields.get("V"):
            found.append(
                Package(
                    name=fields["P"],
                    version=fields["V"],
                    ecosystem=ecosystem,
                    path=path,
                    source=fields.get("o") or fields["P"],
                    source_version=fields["V"],
                    architecture=fields.get("A", ""),
                    licence=fields.get("L", ""),
                    is_installed=True,
                )
            )
    return found


def read_apk_files(data: bytes) -> Iterator[str]:
    """The files of all packages, as paths relative to the root."""
    folder = ""
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        if line.startswith("F:"):
            folder = line[2:]
        elif line.startswith("R:"):
            yield f"{folder}/{line[2:]}" if folder else line[2:]

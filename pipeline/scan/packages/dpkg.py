"""Debian packages, as dpkg's own database lists them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.packages.package import Package

if TYPE_CHECKING:
    from collections.abc import Iterator

# dpkg's states of what has left no files, or only its settings.
GONE: Final = ("config-files", "not-installed")
_SOURCE: Final = re.compile(r"(\S+)(?: \(([^)]+)\))?")


def read_dpkg(path: str, text: str, ecosystem: str) -> list[Package]:
    """The packages of `var/lib/dpkg/status`, or of one file of `status.d`.

    Args:
        ecosystem: The distribution with its release, such as "Debian:12".
    """
    return list(_packages(path, text, ecosystem))


def _packages(path: str, text: str, ecosystem: str) -> Iterator[Package]:
    for fields in paragraphs(text):
        state = fields.get("Status", "install ok installed").split()
        if not fields.get("Package") or not fields.get("Version") or state[-1:] == [] or state[-1] in GONE:
            continue
        told = _SOURCE.match(fields.get("Source", ""))
        yield Package(
            name=fields["Package"],
            version=fields["Version"],
            ecosystem=ecosystem,
            path=path,
            source=told[1] if told else fields["Package"],
            source_version=(told[2] or "" if told else "") or fields["Version"],
            architecture=fields.get("Architecture", ""),
            is_installed=True,
        )


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file; lines that continue a field are left out."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines = (line.partition(":") for line in paragraph.splitlines() if line and not line[0].isspace())
        fields = {name: value.strip() for name, colon, value in lines if colon}
        if fields:
            yield fields


def read_file_list(data: bytes) -> Iterator[str]:
    """The files of one package, of `var/lib/dpkg/info/NAME.list`, as paths relative to the root."""
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        if line.startswith("/") and line != "/.":
            yield line[1:]

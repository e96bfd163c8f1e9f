"""Which files of an image tell what is in it, by their paths and modes alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pipeline.scan.packages.installed_files import is_node_manifest

if TYPE_CHECKING:
    from pipeline.scan.image.tar import Entry

Interest: TypeAlias = Literal[
    "",
    "os-release",
    "dpkg",
    "dpkg-files",  # which files are of a package
    "copyright",  # of a Debian package
    "apk",
    "rpm",
    "rpm-old",
    "python",
    "origin",  # where a Python package is from
    "node",
    "jar",
    "program",
]
SETUID: Final = 0o6000
WORLD_WRITABLE: Final = 0o002
STICKY: Final = 0o1000
RPM: Final = ("var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/")
EXACT: Final[dict[str, Interest]] = {
    "etc/os-release": "os-release",
    "usr/lib/os-release": "os-release",
    "var/lib/dpkg/status": "dpkg",
    "lib/apk/db/installed": "apk",
    "usr/lib/apk/db/installed": "apk",
    **dict.fromkeys([f"{folder}rpmdb.sqlite" for folder in RPM], "rpm"),
    **dict.fromkeys([f"{folder}{name}" for folder in RPM for name in ("Packages", "Packages.db")], "rpm-old"),
}
COPYRIGHT: Final = re.compile(r"usr/share/doc/(?P<package>[^/]+)/copyright")
SMALLEST_PROGRAM: Final = 256 * 1024  # of Go: its runtime alone is larger
# What package managers leave behind, and the command that keeps it out.
CACHES: Final[dict[str, tuple[re.Pattern[str], str]]] = {
    "apt": (
        re.compile(
            r"var/lib/apt/lists/[^/]+_(?:Packages|InRelease|Sources)[^/]*|var/cache/apt/archives/[^/]+\.deb"
        ),
        "end the same RUN with `rm -rf /var/lib/apt/lists/*`",
    ),
    "apk": (re.compile(r"var/cache/apk/.+"), "use `apk add --no-cache`"),
    "pip": (re.compile(r"(?:root|home/[^/]+)/\.cache/pip/.+"), "use `pip install --no-cache-dir`"),
    "uv": (re.compile(r"(?:root|home/[^/]+)/\.cache/uv/.+"), "use `uv --no-cache`, or a cache mount"),
    "npm": (
        re.compile(r"(?:root|home/[^/]+)/\.npm/_cacache/.+"),
        "end the same RUN with `npm cache clean --force`",
    ),
    "dnf": (re.compile(r"var/cache/(?:dnf|yum)/.+"), "end the same RUN with `dnf clean all`"),
}
_CACHE_START: Final = ("var/lib/apt/lists/", "var/cache/", "root/.", "home/")


def interest_of(entry: Entry) -> Interest:
    """What a file's content is wanted for; "" for most."""
    path = entry.path
    if path in EXACT:
        return EXACT[path]
    name = path.rpartition("/")[2]
    if name in ("METADATA", "PKG-INFO") or name.endswith(".egg-info"):
        folder = path[: -len(name) - 1].rpartition("/")[2]
        wanted = {"METADATA": ".dist-info", "PKG-INFO": ".egg-info"}.get(name)
        return "python" if wanted is None or folder.endswith(wanted) or folder == "EGG-INFO" else ""
    if name == "direct_url.json":
        return "origin" if path.endswith(".dist-info/direct_url.json") else ""
    if name == "copyright":
        return "copyright" if COPYRIGHT.fullmatch(path) else ""
    if name == "package.json":
        return "node" if is_node_manifest(path) else ""
    if name.endswith((".jar", ".war", ".ear")):
        return "jar"
    if path.startswith("var/lib/dpkg/"):
        if path.startswith("var/lib/dpkg/status.d/") and not name.endswith(".md5sums"):
            return "dpkg"
        return "dpkg-files" if path.startswith("var/lib/dpkg/info/") and name.endswith(".list") else ""
    return "program" if entry.mode & 0o111 and entry.size >= SMALLEST_PROGRAM else ""


def cache_of(path: str) -> str:
    """The package manager whose cache a file belongs to; "" for most."""
    if not path.startswith(_CACHE_START):
        return ""
    return next((name for name, (pattern, _) in CACHES.items() if pattern.fullmatch(path)), "")


def is_setuid(entry: Entry) -> bool:
    """Whether a program runs as its owner or group, whoever starts it."""
    return entry.kind == "file" and bool(entry.mode & SETUID) and bool(entry.mode & 0o111)


def is_world_writable(entry: Entry) -> bool:
    """Whether everybody may change a file, or put files into a folder and remove those of others."""
    if not entry.mode & WORLD_WRITABLE:
        return False
    return entry.kind == "file" or (entry.kind == "folder" and not entry.mode & STICKY)

"""The sources of ADD that are no files of the context: downloads and git repositories. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_SCP_STYLE: Final = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^/].*|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:/.*")
_UNNAMED: Final = "__unnamed__"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSource:
    """A file to download; `name` is what it is called inside a directory."""

    url: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A repository: `ref` ("" is its default branch), a directory in it, and the commit `ref` has to be."""

    url: str
    ref: str = ""
    subdir: str = ""
    commit: str = ""
    keep_git_dir: bool = False


def parse_remote(text: str) -> HttpSource | GitSource | None:
    """Read a URL; None for a path.

    Raises:
        ValueError: A git URL with a query it does not know.
    """
    if _SCP_STYLE.fullmatch(text.partition("#")[0]):
        url, _, fragment = text.partition("#")
        return _with_fragment(url, fragment)
    parts = urlsplit(text)
    is_http = parts.scheme in ("http", "https")
    if parts.scheme in ("git", "ssh") or (is_http and parts.path.endswith(".git")):
        bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        return _with_query(bare, parts.query) if parts.query else _with_fragment(bare, parts.fragment)
    if is_http:
        return HttpSource(url=text, name=posixpath.basename(parts.path) or _UNNAMED)
    return None


def _with_fragment(url: str, fragment: str) -> GitSource:
    ref, _, subdir = fragment.partition(":")
    return GitSource(url=url, ref=ref, subdir=subdir)


def _with_query(url: str, query: str) -> GitSource:
    ref = subdir = commit = ""
    keep = False
    for name, value in parse_qsl(query, keep_blank_values=True):
        match name:
            case "ref":
                ref = value
            case "branch":
                ref = f"refs/heads/{value}"
            case "tag":
                ref = f"refs/tags/{value}"
            case "commit" | "checksum":
                commit = value
            case "subdir":
                subdir = value
            case "keep-git-dir":
                keep = value in ("", "1", "true")
            case _:
                raise ValueError(f'unexpected query "{name}" in git URL `{url}`')
    return GitSource(url=url, ref=ref or commit, subdir=subdir, commit=commit, keep_git_dir=keep)

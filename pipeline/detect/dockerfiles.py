"""Which Dockerfiles a project has, and what each image is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_FILE: Final = re.compile(
    r"(?:^|/)(?:(?P<before>[\w.-]+)\.)?(?:[Dd]ockerfile|Containerfile)(?:\.(?P<after>[\w.-]+))?$"
)
_NOT_BUILT: Final = re.compile(
    r"(?:^|/)(?:tests?|testing|docs?|examples?|fixtures|\.devcontainer|\.github|vendor|node_modules)/"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileFound:
    """One Dockerfile: its path, the folder that is its build context ("." the root), the image's name."""

    path: str
    context: str
    image: str


def find_dockerfiles(
    files: Sequence[str], project: str, read: Callable[[str], str | None]
) -> tuple[DockerfileFound, ...]:
    """Return every Dockerfile that makes an image of the project, those at the root first.

    Files of tests, documentation and examples are left out, and so is `*.dockerignore`. The build
    context is the file's own folder, or the root when it copies what only the root has.
    """
    names = set(files)
    folders = {name.rpartition("/")[0] for name in files}
    known = names | {"/".join(f.split("/")[:n]) for f in folders for n in range(1, f.count("/") + 2)}
    found = []
    for path in files:
        match = _FILE.search(path)
        if match is None or path.endswith(".dockerignore") or _NOT_BUILT.search(path):
            continue
        folder = path.rpartition("/")[0]
        variant = match["before"] or match["after"] or ""
        parts = [project, *(folder.split("/") if folder else ()), *([variant] if variant else ())]
        context = _context(folder, copied_sources(read(path) or ""), known)
        found.append(DockerfileFound(path=path, context=context, image=image_name("-".join(parts))))
    return tuple(sorted(found, key=lambda one: (one.path.count("/"), one.path)))


def _context(folder: str, sources: Iterable[str], known: set[str]) -> str:
    """Return the folder of the file, or "." when something it copies is only found from the root."""
    if not folder:
        return "."
    for source in sources:
        clean = source.strip("/").removeprefix("./")
        if clean in known and f"{folder}/{clean}" not in known:
            return "."
    return folder


def copied_sources(text: str) -> list[str]:
    """Return what the COPY and ADD lines of a Dockerfile take from the build context, roughly."""
    found: list[str] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split()
        if len(words) < 3 or words[0].upper() not in ("COPY", "ADD") or "--from=" in line:
            continue
        found += [word.strip('[]",') for word in words[1:-1] if not word.startswith("--")]
    return found


def image_name(text: str) -> str:
    """Return `text` as the name of an image: lower case, letters, digits and single separators."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name or "image"

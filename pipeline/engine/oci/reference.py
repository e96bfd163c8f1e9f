"""Image references: `[host[:port]/]name[:tag][@digest]`, with Docker's defaults filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from pipeline.digest import Digest
from pipeline.errors import EngineError

DOCKER_HUB: Final = "docker.io"
_DOCKER_NAMES: Final = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HOST: Final = re.compile(
    r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?\Z"
)
_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NAME_LIMIT: Final = 255


class InvalidReference(EngineError):
    """A text that names no image."""

    def __init__(self, text: str, what: str, hint: str | None = None) -> None:
        super().__init__(f"cannot read image reference `{text}`: {what}")
        self.text = text
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where an image is: registry host (with port), repository, tag ("" = none) and digest.

    At least one of `tag` and `digest` is there; with both, the digest decides.
    """

    host: str
    name: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def repository(self) -> str:
        """Return `host/name`."""
        return f"{self.host}/{self.name}"

    @property
    def target(self) -> str:
        """Return what a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same reference, pinned to `digest`."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        """Return the canonical text, fully qualified."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.name}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Read a reference; `docker.io`, `library/` and `latest` are filled in as Docker does.

    Raises:
        InvalidReference: It does not follow the grammar.
    """
    if "://" in text:
        raise InvalidReference(text, "it is an address with a scheme", "leave the `scheme://` out")
    rest, digest = _split_digest(text)
    rest, tag = _split_tag(text, rest)
    host, name = _split_host(rest)
    if not _HOST.match(host):
        raise InvalidReference(text, f"`{host}` is no registry host")
    _check_name(text, name)
    if host in _DOCKER_NAMES:
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    if not tag and digest is None:
        tag = "latest"
    return Reference(host=host, name=name, tag=tag, digest=digest)


def canonical_reference(text: str) -> str:
    """Return the fully qualified form of `text`.

    Raises:
        InvalidReference: It does not follow the grammar.
    """
    return str(parse_reference(text))


def _split_digest(text: str) -> tuple[str, Digest | None]:
    rest, at, digest = text.partition("@")
    if not at:
        return rest, None
    if not _DIGEST.match(digest):
        raise InvalidReference(text, f"`{digest}` is no sha256 digest")
    return rest, Digest(digest)


def _split_tag(text: str, rest: str) -> tuple[str, str]:
    # A colon before the last slash belongs to the host's port, not to a tag.
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, ""
    if not _TAG.match(tag):
        raise InvalidReference(text, f"`{tag}` is no tag")
    return head, tag


def _split_host(rest: str) -> tuple[str, str]:
    first, slash, name = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first, name
    return DOCKER_HUB, rest


def _check_name(text: str, name: str) -> None:
    if not name:
        raise InvalidReference(text, "it has no name")
    if len(name) > _NAME_LIMIT:
        raise InvalidReference(text, f"its name is longer than {_NAME_LIMIT} characters")
    for component in name.split("/"):
        if not component:
            raise InvalidReference(text, "a part of its name is empty")
        if component != component.lower():
            raise InvalidReference(text, f"`{component}` has capital letters", "write names in lower case")
        if not _COMPONENT.match(component):
            raise InvalidReference(text, f"`{component}` is no name")

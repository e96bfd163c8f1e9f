"""A release: all that decides what runs in an environment. Two releases with one id run the same."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import dataclass, field
from typing import Final

from pipeline.config.delivery import DeployedService  # noqa: TC001 - likewise
from pipeline.digest import digest_of
from pipeline.errors import UsageError

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class ImageNotPinned(UsageError):
    """A release names an image by a tag, which may name another image tomorrow."""

    def __init__(self, service: str, image: str) -> None:
        super().__init__(f"cannot release `{service}` as `{image}`: it names no digest")
        self.hint = "push the image first, and deploy what `push` returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedService:
    """One service of a release.

    `image` is a reference with its digest; `secrets` maps names to versions, which say whether a value is
    the same, never what it is.
    """

    image: str
    settings: DeployedService
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def image_digest(self) -> str:
        """`sha256:…`. Called `digest`, it would stand for all of the service in the release's id."""
        return self.image.rpartition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Services by name, with what is told to people about where they come from."""

    services: Mapping[str, ReleasedService]
    commit: str = field(default="", compare=False)
    version: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, service in self.services.items():
            if not _DIGEST.fullmatch(service.image_digest):
                raise ImageNotPinned(name, service.image)

    @property
    def id(self) -> str:
        """`r-` and 12 hexadecimal digits, made of images, settings and versions of secrets."""
        return "r-" + digest_of(self).removeprefix("sha256:")[:12]

    def in_order(self) -> tuple[str, ...]:
        """Names of the services, each after those it needs; by name where that leaves a choice."""
        done: dict[str, None] = {}

        def add(name: str) -> None:
            if name in done or name not in self.services:
                return
            for need in sorted(self.services[name].settings.needs):
                add(need)
            done[name] = None

        for name in sorted(self.services):
            add(name)
        return tuple(done)

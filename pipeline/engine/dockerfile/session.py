"""What a build asks of the engine's session, and what its steps share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.dockerfile.look import SourceMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from pipeline.engine import ops
    from pipeline.engine.container import Container
    from pipeline.engine.dockerfile.expand import Budget
    from pipeline.engine.dockerfile.remote import GitSource
    from pipeline.engine.files import Directory, File

R = TypeVar("R")


class BuildSession(Protocol):
    """The engine as a build sees it."""

    async def from_image(self, container: Container, address: str) -> Container:
        """Return `container` on an image for its platform.

        Raises:
            EngineError: There is no such image, or it cannot be had.
        """

    async def look(self, tree: ops.Tree, reader: Callable[[Path], R]) -> R:
        """Evaluate a tree and call `reader` on its merged root, in a thread."""

    async def http_file(self, url: str, *, checksum: str = "") -> File:
        """Return a download, mode 0600, its mtime the server's `Last-Modified`.

        Raises:
            EngineError: It cannot be had, or has another checksum (`sha256:…`) than the one given.
        """

    async def git_directory(self, source: GitSource) -> Directory:
        """Return a repository's files at a ref.

        Raises:
            EngineError: It cannot be had, or the ref is another commit than the one given.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A tree that files come from; `title` is its name in errors, `hint` why a file may be missing."""

    tree: ops.Tree
    title: str
    is_image: bool = False
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every step of a build has at hand."""

    session: BuildSession
    file: str
    escape: str
    secrets: Mapping[str, ops.SecretHandle]
    ssh: str | None
    proxies: tuple[tuple[str, str], ...]
    no_init: bool
    budget: Budget
    origin: Callable[[str], Awaitable[Origin]]  # of a `--from` reference; "" is the context

    def refuse(self, line: int, reason: str) -> DockerfileError:
        """Return the error that says why the instruction at `line` cannot be carried out."""
        return DockerfileError("build", self.file, line, reason)

    async def search(self, line: int, origin: Origin, reader: Callable[[Path], R]) -> R:
        """Look into `origin`.

        Raises:
            DockerfileError: What is looked for is not there.
        """
        try:
            return await self.session.look(origin.tree, reader)
        except SourceMissing as error:
            refused = self.refuse(line, f"{error} in {origin.title}")
            refused.hint = origin.hint
            raise refused from error

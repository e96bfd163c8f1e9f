"""A build's session over the engine: images, trees, downloads and repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pipeline.engine import ops
from pipeline.engine.files import Directory, File
from pipeline.engine.paths import join
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.engine.container import Container
    from pipeline.engine.dockerfile.remote import GitSource
    from pipeline.engine.engine import Engine

R = TypeVar("R")


class CommitMismatch(EngineError):
    """A git ref is another commit than the one that was asked for."""

    def __init__(self, url: str, ref: str, *, expected: str, actual: str) -> None:
        super().__init__(
            f"cannot take `{ref or 'HEAD'}` of `{url}`: expected commit {expected}, got {actual}"
        )
        self.expected = expected
        self.actual = actual


class EngineSession:
    """Answers what `build` asks by an open engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def from_image(self, container: Container, address: str) -> Container:
        """Return `container` on an image; see `Images.from_image`."""
        return await self._engine.images.from_image(container, address)

    async def look(self, tree: ops.Tree, reader: Callable[[Path], R]) -> R:
        """Evaluate a tree and call `reader` on its merged root, in a thread."""
        return await self._engine.look(tree, reader)

    async def http_file(self, url: str, *, checksum: str = "") -> File:
        """Return a download; see `HttpSources.fetch`."""
        from pipeline.engine.sources.http import HttpRequest

        found = await self._engine.http.fetch(HttpRequest(url=url, checksum=checksum))
        return File(tree=ops.Pinned(content=found.content), path=join("/", found.name))

    async def git_directory(self, source: GitSource) -> Directory:
        """Return a repository's files at a ref; see `GitSources`.

        Raises:
            CommitMismatch: The ref is not the commit that the source names.
        """
        repository = await self._engine.git.open(source.url)
        refs = repository.refs
        ref = refs.ref(source.ref) if source.ref else refs.head()
        if not ref.commit.startswith(source.commit):
            raise CommitMismatch(source.url, source.ref, expected=source.commit, actual=ref.commit)
        content = await self._engine.git.tree(repository, ref, discard_git_dir=not source.keep_git_dir)
        return Directory(tree=ops.Pinned(content=content), path=join("/", source.subdir))

"""The repositories that ADD names, by the session's git sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.engine import ops
from pipeline.engine.files import Directory
from pipeline.engine.paths import join
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from pipeline.engine.dockerfile.remote import GitSource
    from pipeline.engine.sources.git import GitSources


class CommitMismatch(EngineError):
    """A git ref is another commit than the one that was asked for."""

    def __init__(self, url: str, ref: str, *, expected: str, actual: str) -> None:
        super().__init__(
            f"cannot take `{ref or 'HEAD'}` of `{url}`: expected commit {expected}, got {actual}"
        )
        self.expected = expected
        self.actual = actual


async def load_repository(git: GitSources, source: GitSource) -> Directory:
    """Return the files that `source` names: the repository at its ref, or a directory in it.

    Raises:
        CommitMismatch: The ref is not the commit that the source names.
        EngineError: The repository or the ref cannot be had.
    """
    repository = await git.open(source.url)
    refs = repository.refs
    ref = refs.ref(source.ref) if source.ref else refs.head()
    if not ref.commit.startswith(source.commit):
        raise CommitMismatch(source.url, source.ref, expected=source.commit, actual=ref.commit)
    content = await git.tree(repository, ref, discard_git_dir=not source.keep_git_dir)
    return Directory(tree=ops.Pinned(content=content), path=join("/", source.subdir))

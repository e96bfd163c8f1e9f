"""`GitRepository` and `GitRef`."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import ops
from pipeline.engine.files import Directory
from pipeline.session.changes import Changeset
from pipeline.session.fields import Field
from pipeline.session.tables.files import pin_by_content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pipeline.engine.sources.git import Repository
    from pipeline.engine.sources.gitrefs import ResolvedRef
    from pipeline.engine.sources.secrets import Secret
    from pipeline.session.fields import Resolve, Table
    from pipeline.session.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRepository:
    """A repository, the service it is on if it is on one, and the directory it is in if it is local."""

    repository: Repository
    service: ops.Service | None = None
    directory: Directory | None = None
    keep_git_dir: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRef:
    """A commit of a repository."""

    owner: GitRepository
    resolved: ResolvedRef


@asynccontextmanager
async def reachable(scope: Scope, service: ops.Service | None) -> AsyncIterator[dict[str, str]]:
    """Hold a service while the body runs; lends the addresses of its names."""
    if service is None:
        yield {}
        return
    async with scope.engine.services.reachable(service) as addresses:
        yield addresses


async def git(scope: Scope, _: object, arguments: Mapping[str, Any]) -> GitRepository:
    """Ask a repository for its refs."""
    from pipeline.engine.sources.gitcommand import GitAuth

    service: ops.Service | None = arguments["experimentalServiceHost"]
    auth = GitAuth(
        username=arguments["httpAuthUsername"],
        token=await _text(arguments["httpAuthToken"]),
        header=await _text(arguments["httpAuthHeader"]),
        ssh_socket=arguments["sshAuthSocket"] or "",
        known_hosts=arguments["sshKnownHosts"],
    )
    async with reachable(scope, service) as addresses:
        repository = await scope.engine.git.open(arguments["url"], auth, addresses=addresses)
    return GitRepository(repository=repository, service=service, keep_git_dir=arguments["keepGitDir"])


async def open_repository(scope: Scope, url: str) -> GitRepository:
    """Ask a repository for its refs, with the caller's own credentials."""
    return GitRepository(repository=await scope.engine.git.open(url))


async def _text(secret: Secret | None) -> str:
    return "" if secret is None else (await secret.plaintext()).decode().strip()


async def as_git(scope: Scope, directory: Directory, _: Mapping[str, Any]) -> GitRepository:
    """Read the repository in a directory."""
    snapshot = await scope.engine.solver.tree(directory.tree)
    repository = await scope.engine.git.open_local(snapshot, directory.path)
    return GitRepository(repository=repository, directory=directory)


def _found(find: Callable[[GitRepository, Mapping[str, Any]], ResolvedRef]) -> Field:
    def resolve(_: Scope, owner: GitRepository, arguments: Mapping[str, Any]) -> GitRef:
        return GitRef(owner=owner, resolved=find(owner, arguments))

    return Field(resolve=resolve)


def find_ref(owner: GitRepository, name: str) -> GitRef:
    """Return what a name means there; "" is HEAD."""
    refs = owner.repository.refs
    return GitRef(owner=owner, resolved=refs.ref(name) if name else refs.head())


def commit(_: Scope, owner: GitRepository, arguments: Mapping[str, Any]) -> GitRef:
    """Return a commit by its full id, which is not looked up."""
    from pipeline.engine.sources.gitrefs import commit_by_id

    return GitRef(owner=owner, resolved=commit_by_id(arguments["id"]))


def _names(kind: str) -> Resolve:
    def resolve(_: Scope, owner: GitRepository, arguments: Mapping[str, Any]) -> list[str]:
        refs, patterns = owner.repository.refs, arguments["patterns"] or ()
        return refs.tags(patterns) if kind == "tags" else refs.branches(patterns)

    return resolve


async def uncommitted(scope: Scope, owner: GitRepository, _: Mapping[str, Any]) -> Changeset:
    """Return what a worktree has beside its last commit; a repository without one has nothing."""
    tracked = await scope.engine.git.tracked_despite_rules(owner.repository)
    if owner.directory is None or tracked is None:
        return Changeset(before=Directory(), after=Directory())
    head = GitRef(owner=owner, resolved=owner.repository.refs.head())
    before = await tree(scope, head, {"discardGitDir": True, "depth": 1, "includeTags": False})
    after = owner.directory.filter(exclude=[".git"], gitignore=True)
    if tracked:
        include = [re.sub(r"[*?\[\]\\!]", r"\\\g<0>", path) for path in tracked]
        after = after.with_directory("/", owner.directory, include=include)
    return Changeset(before=before, after=after)


async def tree(scope: Scope, ref: GitRef, arguments: Mapping[str, Any]) -> Directory:
    """Check out."""
    async with reachable(scope, ref.owner.service):
        content = await scope.engine.git.tree(
            ref.owner.repository,
            ref.resolved,
            discard_git_dir=arguments["discardGitDir"] or not ref.owner.keep_git_dir,
            depth=arguments["depth"],
            include_tags=arguments["includeTags"],
        )
    return Directory(tree=ops.Pinned(content=content))


async def common_ancestor(scope: Scope, ref: GitRef, arguments: Mapping[str, Any]) -> GitRef:
    """Find the best common ancestor."""
    other: GitRef = arguments["other"]
    async with reachable(scope, ref.owner.service):
        found = await scope.engine.git.common_ancestor(
            ref.owner.repository, ref.resolved, other.owner.repository, other.resolved
        )
    return GitRef(owner=ref.owner, resolved=found)


GIT_REPOSITORY: Final[Table] = {
    "branch": _found(lambda owner, arguments: owner.repository.refs.branch(arguments["name"])),
    "branches": Field(resolve=_names("branches")),
    "commit": Field(resolve=commit),
    "head": _found(lambda owner, _: owner.repository.refs.head()),
    "latestVersion": _found(lambda owner, _: owner.repository.refs.latest_version()),
    "ref": _found(lambda owner, arguments: owner.repository.refs.ref(arguments["name"])),
    "tag": _found(lambda owner, arguments: owner.repository.refs.tag(arguments["name"])),
    "tags": Field(resolve=_names("tags")),
    "uncommitted": Field(resolve=uncommitted),
    "url": Field(resolve=lambda _, owner, __: owner.repository.url),
}

GIT_REF: Final[Table] = {
    "commit": Field(resolve=lambda _, ref, __: ref.resolved.commit),
    "commonAncestor": Field(resolve=common_ancestor, objects={"other": "GitRef"}),
    "ref": Field(resolve=lambda _, ref, __: ref.resolved.ref),
    "tree": Field(resolve=tree, pinned=pin_by_content),
}

DIRECTORY_GIT: Final[Table] = {"asGit": Field(resolve=as_git)}

QUERY_GIT: Final[Table] = {
    "git": Field(
        resolve=git,
        objects={
            "sshAuthSocket": "Socket",
            "httpAuthToken": "Secret",
            "httpAuthHeader": "Secret",
            "experimentalServiceHost": "Service",
        },
    )
}

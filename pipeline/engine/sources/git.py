"""Git repositories as sources: refs are asked for once a session, trees are checked out into the store.

A mirror of each address is kept, so that only new commits travel. What git says is read in `gitrefs`, how
it is run in `gitcommand`, and what makes two checkouts of one commit equal is in `gitcheckout`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from pipeline.digest import Digest, digest_json
from pipeline.engine.locks import try_lock
from pipeline.engine.sources.gitcheckout import Checkout, check_out
from pipeline.engine.sources.gitcommand import (
    QUERY_LIMIT_S,
    Git,
    GitAddress,
    GitAuth,
    GitAuthenticationFailed,
    GitFailed,
    RepositoryNotFound,
    parse_address,
)
from pipeline.engine.sources.gitrefs import RefList, RefNotFound, ResolvedRef, parse_refs
from pipeline.engine.treehash import content_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pipeline.engine.store import Draft, Snapshot, Store

_NOTE: Final = "git tree"
_REFS_NOTE: Final = "git refs"
_PINNED: Final = "refs/pinned/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlace:
    """A repository in a tree of the store."""

    snapshot: Snapshot
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository as it was when this session first looked: where it is, and its refs."""

    place: GitAddress | LocalPlace
    refs: RefList
    addresses: tuple[tuple[str, str], ...] = ()  # host name, IP

    @property
    def url(self) -> str | None:
        """Return the address, without credentials; None for one in a tree."""
        return self.place.url if isinstance(self.place, GitAddress) else None


class GitSources:
    """The repositories one session uses; `offline` answers from what the store has."""

    def __init__(
        self, store: Store, *, offline: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        self._store = store
        self._offline = offline
        self._folder = store.root / "git"
        self._git = Git(self._folder, environ)
        self._known: dict[object, Repository] = {}
        self._turns: dict[object, anyio.Lock] = {}

    async def open(
        self, url: str, auth: GitAuth | None = None, *, addresses: Mapping[str, str] | None = None
    ) -> Repository:
        """Return the repository at `url`, asked for its refs once a session.

        An address without a scheme is tried by https, then by ssh. `addresses` are IPs of host names that
        only the engine knows.

        Raises:
            RepositoryNotFound: There is none.
            GitAuthenticationFailed: The server refuses.
            GitFailed: Anything else git says, or the address is malformed.
        """
        auth = auth or GitAuth()
        key = (url, auth.key)
        async with self._turns.setdefault(key, anyio.Lock()):
            if key not in self._known:
                self._known[key] = await self._open_first(parse_address(url, auth), addresses or {})
            return self._known[key]

    async def open_local(self, snapshot: Snapshot, path: str = "/") -> Repository:
        """Return the repository in a tree: `path` is a worktree, a bare repository or a `.git` directory.

        Raises:
            RepositoryNotFound: There is none.
        """
        key = (snapshot.id, path)
        async with self._turns.setdefault(key, anyio.Lock()):
            if key not in self._known:
                await self._make_folder()
                with self._store.snapshots.view(snapshot) as root:
                    where = _inside(root, path)
                    try:
                        listing = await self._git.local(
                            "ls-remote", "--symref", "--", where.as_uri(), cwd=self._folder
                        )
                    except GitFailed as error:
                        raise RepositoryNotFound(path, log=error.log) from error
                place = LocalPlace(snapshot=snapshot, path=path)
                self._known[key] = Repository(place=place, refs=parse_refs(listing))
            return self._known[key]

    async def tree(
        self,
        repository: Repository,
        ref: ResolvedRef,
        *,
        discard_git_dir: bool = False,
        depth: int = 1,
        include_tags: bool = False,
    ) -> Digest:
        """Return the content digest of a checkout that is now in the store, with submodules.

        With `.git` it has `depth` commits of history (0 and less: all) and a remote `origin`. The same
        commit gives the same tree in every session. All times are one constant.

        Raises:
            RefNotFound: The repository does not have the commit.
            GitFailed: Git could not fetch or check out.
        """
        checkout = Checkout(
            ref=ref,
            tag_object=repository.refs.tag_objects.get(ref.name, ""),
            discard_git_dir=discard_git_dir,
            depth=max(depth, 0),
            tags=_tags(repository.refs) if include_tags else {},
            origin=repository.url or "",
        )
        key = digest_json(checkout.identity)
        async with self._turns.setdefault(key, anyio.Lock()):
            note = self._store.index.find_note(_NOTE, key)
            if note is not None and self._store.index.find_content(Digest(note)) is not None:
                return Digest(note)
            content = await self._check_out(repository, checkout)
            self._store.index.save_note(_NOTE, key, content)
            return content

    async def common_ancestor(
        self, repository: Repository, one: ResolvedRef, other_repository: Repository, other: ResolvedRef
    ) -> ResolvedRef:
        """Return the best common ancestor of two commits.

        Raises:
            GitFailed: There is none.
        """
        await self._make_folder()
        async with self._mirror(repository, depth=0) as mirror:
            await self._fetch(mirror, repository, one.commit, depth=0)
            await self._fetch(mirror, other_repository, other.commit, depth=0)
            try:
                base = await self._git.local("merge-base", one.commit, other.commit, cwd=mirror)
            except GitFailed as error:
                if error.log:
                    raise
                raise GitFailed(
                    f"cannot find a common ancestor of {one.ref} and {other.ref}: they have none"
                ) from error
        return ResolvedRef(commit=base.strip())

    async def tracked_despite_rules(self, repository: Repository) -> list[str] | None:
        """Return the files of a worktree that `.gitignore` names although git tracks them.

        None when the repository has no worktree: it is on a server, bare, or a `.git` directory.
        """
        place = repository.place
        if not isinstance(place, LocalPlace):
            return None
        rules = ("--cached", "--ignored", "--exclude-per-directory=.gitignore")
        with self._store.snapshots.view(place.snapshot) as root:
            where = _inside(root, place.path)
            inside = await self._git.local("rev-parse", "--is-inside-work-tree", cwd=where)
            if inside.strip() != "true":
                return None
            listing = await self._git.local("ls-files", "-z", *rules, cwd=where)
        return [path for path in listing.split("\0") if path]

    async def _open_first(self, places: tuple[GitAddress, ...], addresses: Mapping[str, str]) -> Repository:
        await self._make_folder()
        for place in places[:-1]:
            with contextlib.suppress(GitAuthenticationFailed):
                return await self._open_remote(place, addresses)
        return await self._open_remote(places[-1], addresses)

    async def _open_remote(self, place: GitAddress, addresses: Mapping[str, str]) -> Repository:
        key = digest_json([place.url, place.auth.key])
        if self._offline:
            listing = self._store.index.find_note(_REFS_NOTE, key)
            if listing is None:
                raise GitFailed(f"cannot ask `{place.url}` for its refs: the engine is offline")
        else:
            listing = await self._git.remote(
                *("ls-remote", "--symref", "--", _directed(place.url, addresses)),
                cwd=self._folder,
                address=place,
                addresses=addresses,
                limit_s=QUERY_LIMIT_S,
            )
            self._store.index.save_note(_REFS_NOTE, key, listing)
        return Repository(place=place, refs=parse_refs(listing), addresses=tuple(sorted(addresses.items())))

    async def _check_out(self, repository: Repository, checkout: Checkout) -> Digest:
        await self._make_folder()
        draft = self._store.snapshots.prepare(self._store.snapshots.empty)
        try:
            async with self._mirror(repository, depth=checkout.depth) as mirror:
                wanted = [checkout.tag_object] if checkout.tag_object else []
                wanted += checkout.tags.values()
                await self._fetch(mirror, repository, checkout.ref.commit, *wanted, depth=checkout.depth)
                await check_out(
                    self._git, mirror, draft.upper, checkout, repository.place, dict(repository.addresses)
                )
            return await anyio.to_thread.run_sync(self._commit, draft)
        except BaseException:
            self._store.snapshots.discard(draft)
            raise

    def _commit(self, draft: Draft) -> Digest:
        content = content_digest(draft.upper)
        if self._store.index.find_content(content) is not None:
            self._store.snapshots.discard(draft)
        else:
            snapshot = self._store.snapshots.commit(draft, identity=content, kind="git")
            self._store.index.save_content(content, snapshot)
        return content

    @contextlib.asynccontextmanager
    async def _mirror(self, repository: Repository, *, depth: int) -> AsyncIterator[Path]:
        """Lend the mirror of a repository with history of one depth; nobody else uses it meanwhile.

        One mirror for each depth: fetching less history cuts off what was there.
        """
        place = repository.place
        where = place.url if isinstance(place, GitAddress) else [place.snapshot.identity, place.path]
        name = digest_json([where, depth]).removeprefix("sha256:")[:32]
        mirror = self._folder / f"{name}.git"
        async with self._turns.setdefault(mirror, anyio.Lock()):
            lock = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not try_lock(lock):  # noqa: ASYNC110 - the holder may be another process
                    await anyio.sleep(0.1)
                if not await anyio.Path(mirror / "HEAD").exists():
                    await self._git.local(
                        "init", "-q", "--bare", "--template=", "--", os.fspath(mirror), cwd=self._folder
                    )
                yield mirror
            finally:
                os.close(lock)

    async def _fetch(self, mirror: Path, repository: Repository, *objects: str, depth: int) -> None:
        """Bring commits and tags into the mirror, and keep them there by refs."""
        missing = [name for name in dict.fromkeys(objects) if not await self._has(mirror, name)]
        if not missing:
            return
        if self._offline and isinstance(repository.place, GitAddress):
            raise GitFailed(f"cannot fetch {missing[0]}: it is not in the store, and the engine is offline")
        depth_option = (f"--depth={depth}",) if depth else ()
        refspecs = [f"+{name}:{_PINNED}{name}" for name in missing]
        command = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        try:
            if isinstance(repository.place, LocalPlace):
                with self._store.snapshots.view(repository.place.snapshot) as root:
                    url = _inside(root, repository.place.path).as_uri()
                    await self._git.local(
                        *command, *(depth_option or ("--update-shallow",)), "--", url, *refspecs, cwd=mirror
                    )
                return
            addresses = dict(repository.addresses)
            await self._git.remote(
                *(*command, *depth_option, "--", _directed(repository.place.url, addresses), *refspecs),
                cwd=mirror,
                address=repository.place,
                addresses=addresses,
            )
        except GitFailed as error:
            if "not our ref" in error.log or "unadvertised object" in error.log:
                raise RefNotFound(missing[0]) from error
            raise

    async def _has(self, mirror: Path, name: str) -> bool:
        try:
            await self._git.local("rev-parse", "-q", "--verify", f"{_PINNED}{name}", cwd=mirror)
        except GitFailed:
            return False
        return True

    async def _make_folder(self) -> None:
        await anyio.Path(self._folder).mkdir(parents=True, exist_ok=True)


def _tags(refs: RefList) -> dict[str, str]:
    """Return the tags by their full names: their own objects where they have one, else the commits."""
    return {
        name: refs.tag_objects.get(name, commit)
        for name, commit in refs.commits.items()
        if name.startswith("refs/tags/")
    }


def _inside(root: Path, path: str) -> Path:
    return root / path.strip("/")


def _directed(url: str, addresses: Mapping[str, str]) -> str:
    """Lead a `git://` address to the IP of a host name; http is led by an option instead."""
    if not url.startswith(("git://", "ssh://")):
        return url
    parts = urlsplit(url)
    address = addresses.get(parts.hostname or "")
    if address is None:
        return url
    user = parts.netloc.rpartition("@")[0]
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{user}@{address}{port}" if user else f"{address}{port}"))

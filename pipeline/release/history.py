"""What a repository says of versions: those there are, the one this commit gets, what changed since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import RefusedByPolicy, UsageError
from pipeline.release.commits import changes_of, release_as
from pipeline.release.version import (
    Next,
    Tagged,
    find_version,
    next_version,
    prerelease_of,
    versions_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.release import Prerelease, ReleaseSettings
    from pipeline.release.commits import Change
    from pipeline.release.repository import Commit, Repository
    from pipeline.release.version import Version


class TagsMissing(UsageError):
    """The remote has versions that are not here: the next one would be told wrongly."""

    def __init__(self, remote: str, names: Sequence[str]) -> None:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        super().__init__(f"cannot tell the next version: tags of `{remote}` are not here: {shown}")
        self.hint = f"`git fetch --tags {remote}`; in a workflow, `fetch-depth: 0` for its checkout"


class TagElsewhere(RefusedByPolicy):
    """A tag of this name leads to another commit. Tags are never moved."""

    def __init__(self, tag: str, commit: str, where: str) -> None:
        super().__init__(f"cannot release `{tag}`: {where} has that tag on another commit, {commit[:12]}")
        self.hint = "release another version: --version, or a `Release-As:` footer"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The commit that is checked out, among the versions there are."""

    commit: Commit
    branch: str
    kind: Prerelease | None  # that the branch makes; None: releases
    tags: frozenset[str]  # names of all
    versions: tuple[Tagged, ...]
    here: Tagged | None  # the version of that kind that this commit has already
    since: Tagged | None  # what notes and bills are compared with: for releases the release before
    last: Tagged | None  # the release before
    changes: tuple[Change, ...]  # since `since`
    changes_since_last: tuple[Change, ...]
    asked: str | None  # by a `Release-As:` footer since `last`


def read_history(
    repository: Repository, settings: ReleaseSettings, *, branch: str | None, wanted: str | None
) -> History:
    """Read tags and commits.

    Args:
        branch: None: the one that is checked out.
        wanted: A version that somebody asked for; decides whether this is a pre-release.

    Raises:
        NotReleasable: No repository, or no commit.
        ShallowClone: The history is cut off.
        BranchUnknown: The kind of release depends on the branch, and there is none.
    """
    head = repository.head()
    repository.require_whole()
    branch = repository.branch() if branch is None else branch
    asked = find_version(wanted.removeprefix("v")) if wanted is not None else None
    kind = _kind_of(branch, settings, asked)
    tags = repository.tags()
    versions = versions_of(tags, settings.tag_prefix)
    here = [one for one in versions if one.tag.commit == head and one.version.kind == (kind or "")]
    if asked is not None:
        here = [one for one in here if one.version == asked]
    before = [one for one in versions if one.tag.is_reachable and one.tag.commit != head]
    last = next((one for one in before if not one.version.kind), None)
    since = last if kind is None else next(iter(before), None)
    commits = repository.commits(last.tag.commit if last is not None else None)
    changes = newer = changes_of(commits)
    if since is not None and since is not last:
        newer = changes_of(repository.commits(since.tag.commit))
    return History(
        commit=next(one for one in commits if one.sha == head),
        branch=branch,
        kind=kind,
        tags=frozenset(one.name for one in tags),
        versions=versions,
        here=here[0] if here else None,
        since=since,
        last=last,
        changes=newer,
        changes_since_last=changes,
        asked=release_as(commits),
    )


def _kind_of(branch: str, settings: ReleaseSettings, asked: Version | None) -> Prerelease | None:
    """Return the kind of a version that was asked for, else that of the branch."""
    return prerelease_of(branch, settings.prerelease) if asked is None else asked.kind or None


def decide_next(history: History, wanted: str | None) -> Next:
    """Decide the version of this commit; one that it has already stays.

    Raises:
        NotAVersion: The version asked for cannot be the next.
    """
    if history.here is not None:
        return Next(version=history.here.version, why="this commit has its tag already")
    last = history.last.version if history.last is not None else None
    taken = [one.version for one in history.versions]
    if wanted is not None:
        return next_version(last, history.changes_since_last, taken=taken, wanted=wanted)
    if history.since is not None and not history.changes:
        return Next(version=None, why=f"nothing changed since {history.since.version}")
    return next_version(
        last,
        history.changes_since_last,
        kind=history.kind,
        taken=taken,
        wanted=history.asked,
        wanted_by="a Release-As footer",
    )


def require_tags(
    history: History, remote_tags: Mapping[str, tuple[str, str]], settings: ReleaseSettings
) -> None:
    """Refuse to go on where the remote knows versions that are not here.

    Raises:
        TagsMissing: It does.
    """
    prefix = settings.tag_prefix
    names = (name for name in remote_tags if name.startswith(prefix) and name not in history.tags)
    missing = [name for name in names if find_version(name.removeprefix(prefix)) is not None]
    if missing:
        raise TagsMissing(settings.remote, sorted(missing))


def require_free(
    tag: str, history: History, remote_tags: Mapping[str, tuple[str, str]], settings: ReleaseSettings
) -> None:
    """Refuse a tag that leads to another commit, here or at the remote.

    Raises:
        TagElsewhere: It does.
    """
    head = history.commit.sha
    for one in history.versions:
        if one.tag.name == tag and one.tag.commit != head:
            raise TagElsewhere(tag, one.tag.commit, "this repository")
    if tag in remote_tags and remote_tags[tag][1] != head:
        raise TagElsewhere(tag, remote_tags[tag][1], f"`{settings.remote}`")

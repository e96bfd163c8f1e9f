"""What a git repository's list of refs says: which commit a name means, tags, branches, the latest version.

Pure: the list comes from `git ls-remote`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHA: Final = re.compile(r"[0-9a-f]{40}")
_VERSION: Final = re.compile(
    r"v(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)


class RefNotFound(EngineError):
    """A repository has no such ref."""

    def __init__(self, name: str) -> None:
        super().__init__(f'repository does not contain ref "{name}"')
        self.name = name


class InvalidCommit(EngineError):
    """A text is no full commit id."""

    def __init__(self, text: str) -> None:
        super().__init__(f'invalid commit SHA: "{text}"')
        self.hint = "write all 40 hexadecimal digits"


class NoVersions(EngineError):
    """A repository has no tag that is a version."""

    def __init__(self) -> None:
        super().__init__("no valid semver tags found")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRef:
    """A commit, and the full name of the ref that led to it ("" for a commit asked for by its id)."""

    commit: str
    name: str = ""

    @property
    def ref(self) -> str:
        """Return the full ref name, or the commit when there is none."""
        return self.name or self.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class RefList:
    """The refs of a repository: full name to commit, annotated tags peeled; `tag_objects` has those tags."""

    commits: Mapping[str, str] = field(default_factory=dict)
    tag_objects: Mapping[str, str] = field(default_factory=dict)
    head_name: str = ""  # the ref HEAD points to; "" when detached or absent

    def head(self) -> ResolvedRef:
        """Return what HEAD means.

        Raises:
            RefNotFound: The repository is empty.
        """
        if "HEAD" not in self.commits:
            raise RefNotFound("HEAD")
        return ResolvedRef(commit=self.commits["HEAD"], name=self.head_name)

    def branch(self, name: str) -> ResolvedRef:
        """Return the tip of a branch, by its short or full name.

        Raises:
            RefNotFound: There is no such branch.
        """
        return self._exact("refs/heads/" + name.removeprefix("refs/heads/"))

    def tag(self, name: str) -> ResolvedRef:
        """Return the commit of a tag, by its short or full name.

        Raises:
            RefNotFound: There is no such tag.
        """
        return self._exact("refs/tags/" + name.removeprefix("refs/tags/"))

    def ref(self, name: str) -> ResolvedRef:
        """Return what a name means: a full ref, a tag, a branch or a commit id, tried in this order.

        Raises:
            RefNotFound: It means nothing.
        """
        if name == "HEAD":
            return self.head()
        for full in (name, f"refs/{name}", f"refs/tags/{name}", f"refs/heads/{name}"):
            if full in self.commits:
                return ResolvedRef(commit=self.commits[full], name=full)
        if _SHA.fullmatch(name):
            return ResolvedRef(commit=name)
        raise RefNotFound(name)

    def tags(self, patterns: Sequence[str] = ()) -> list[str]:
        """Return the short names of the tags that match a glob pattern (all without one), sorted."""
        return self._short_names("refs/tags/", patterns)

    def branches(self, patterns: Sequence[str] = ()) -> list[str]:
        """Return the short names of the branches that match a glob pattern (all without one), sorted."""
        return self._short_names("refs/heads/", patterns)

    def latest_version(self) -> ResolvedRef:
        """Return the `v…` tag with the highest semantic version.

        Raises:
            NoVersions: No tag is one.
        """
        versions = [(key, name) for name in self.tags() if (key := version_key(name)) is not None]
        if not versions:
            raise NoVersions
        return self.tag(max(versions)[1])

    def _exact(self, full: str) -> ResolvedRef:
        if full not in self.commits:
            raise RefNotFound(full)
        return ResolvedRef(commit=self.commits[full], name=full)

    def _short_names(self, prefix: str, patterns: Sequence[str]) -> list[str]:
        names = sorted(name for name in self.commits if name.startswith(prefix))
        return [
            name.removeprefix(prefix)
            for name in names
            if not patterns
            or any(
                fnmatchcase(name, text) or fnmatchcase(name.removeprefix(prefix), text) for text in patterns
            )
        ]


def commit_by_id(text: str) -> ResolvedRef:
    """Return a commit by its full id, which is not looked up.

    Raises:
        InvalidCommit: It is not 40 hexadecimal digits.
    """
    if _SHA.fullmatch(text) is None:
        raise InvalidCommit(text)
    return ResolvedRef(commit=text)


def parse_refs(listing: str) -> RefList:
    """Read what `git ls-remote --symref` prints."""
    commits: dict[str, str] = {}
    tag_objects: dict[str, str] = {}
    head_name = ""
    for line in listing.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: "):
            head_name = value.removeprefix("ref: ") if name == "HEAD" else head_name
        elif name.endswith("^{}"):
            tag = name.removesuffix("^{}")
            tag_objects[tag] = commits.get(tag, value)
            commits[tag] = value
        elif name and _SHA.fullmatch(value):
            commits[name] = value
    return RefList(commits=commits, tag_objects=tag_objects, head_name=head_name)


def version_key(tag: str) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]] | None:
    """Return what orders a `v1.2.3-rc.1` tag among others; None when it is no version."""
    found = _VERSION.fullmatch(tag)
    if found is None:
        return None
    numbers = (int(found[1]), int(found[2] or 0), int(found[3] or 0))
    before = found[4]
    parts = before.split(".") if before else []
    # Numbers come before words, and fewer parts before more; without any the release is final.
    return (
        numbers,
        not before,
        tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts),
    )

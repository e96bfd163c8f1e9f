"""A release as a plan with a content hash: all that is going to be released, told before anything is done.

Made of the repository and the files as they are; the same world makes the same plan, also after half of it
was done.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.digest import Digest, digest_bytes, digest_file, digest_json
from pipeline.errors import RefusedByPolicy
from pipeline.release.history import decide_next, read_history, require_free, require_tags
from pipeline.release.notes import Story, changelog_section, plain, render_changelog, render_notes
from pipeline.release.remote import web_of
from pipeline.release.repository import DirtyTree
from pipeline.release.sbom import FILE as SBOM_FILE
from pipeline.release.sbom import bill_of_release, difference, metadata_of, packages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.config.release import ReleaseSettings
    from pipeline.release.history import History
    from pipeline.release.repository import Repository
    from pipeline.release.sbom import Difference
    from pipeline.release.version import Tagged, Version

ATTESTATION_FILE: Final = "provenance.intoto.json"
FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
IMAGE_NAME: Final = re.compile(r"[a-z0-9][A-Za-z0-9._/:-]{0,254}")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Unfit(RefusedByPolicy):
    """A file or an image cannot be part of this release."""

    def __init__(self, name: str, why: str, hint: str | None = None) -> None:
        super().__init__(f"cannot release `{name}`: {why}")
        self.name = name
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One file of a release: where it lies, or what is in it."""

    name: str
    digest: Digest
    size_bytes: int
    source: Path | bytes = field(repr=False, compare=False)

    def read(self) -> bytes:
        """Return the content.

        Raises:
            OSError: The file cannot be read.
        """
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks to be released."""

    name: str  # of the project
    files: Sequence[Path] = ()
    images: Mapping[str, str] = field(default_factory=dict)  # name to "sha256:..."
    version: str | None = None  # None: from the commits
    branch: str | None = None  # None: the one that is checked out
    sbom: Path | None = None  # None: one is made of the files
    previous_sbom: Callable[[str], bytes | None] | None = None  # by the tag of the release before


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """Everything a release is; `digest` is over all of it."""

    name: str
    version: Version
    why: str
    tag: str
    commit: str
    time_s: int  # of the commit
    branch: str
    previous: str | None  # tag of the release before
    files: tuple[Delivered, ...]  # sorted, the bill of materials among them
    images: tuple[tuple[str, str], ...]  # sorted
    notes: str
    changelog: str  # section of Keep a Changelog
    floating: tuple[str, ...]  # tags that follow this release
    source: str  # the repository's address; "" when it is nowhere on the web

    @property
    def digest(self) -> Digest:
        """What stands for the plan: what an approval is of, and what the tag carries."""
        return digest_json(
            {
                "name": self.name,
                "version": str(self.version),
                "tag": self.tag,
                "commit": self.commit,
                "files": [[one.name, one.digest, one.size_bytes] for one in self.files],
                "images": [list(each) for each in self.images],
                "notes": self.notes,
            }
        )

    @property
    def is_prerelease(self) -> bool:
        return bool(self.version.kind)

    def subjects(self) -> dict[str, str]:
        """Name and digest of everything that is delivered."""
        return {**dict(self.images), **{one.name: one.digest for one in self.files}}


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingToRelease:
    """No version comes next."""

    why: str
    commit: str
    previous: str | None


def make_plan(
    repository: Repository, settings: ReleaseSettings, request: Request
) -> ReleasePlan | NothingToRelease:
    """Work out the release of the commit that is checked out; nothing is changed.

    A commit that has a version's tag already is planned as that version: an unfinished release goes on.

    Raises:
        NotReleasable: No repository, or no commit.
        ShallowClone: The history is cut off.
        BranchUnknown: The kind of release depends on the branch, and there is none.
        DirtyTree: Tracked files differ from the commit.
        TagsMissing: The remote knows versions that are not here.
        TagElsewhere: The version's tag is on another commit, here or at the remote.
        NotAVersion: The version asked for cannot be the next.
        Unfit: A file or an image does not fit the release.
        BillUnreadable: A bill of materials or a package cannot be read.
        GitRefused: Git failed, or the remote cannot be asked.
    """
    history = read_history(repository, settings, branch=request.branch, wanted=request.version)
    if changed := repository.changed_files():
        raise DirtyTree(changed)
    url = repository.remote_url(settings.remote)
    remote_tags = repository.remote_tags(settings.remote) if url else {}
    require_tags(history, remote_tags, settings)
    found = decide_next(history, request.version)
    if found.version is None:
        since = history.since.tag.name if history.since is not None else None
        return NothingToRelease(why=found.why, commit=history.commit.sha, previous=since)
    require_free(f"{settings.tag_prefix}{found.version}", history, remote_tags, settings)
    return _plan(repository, settings, request, history, found.version, found.why, url)


def _plan(
    repository: Repository,
    settings: ReleaseSettings,
    request: Request,
    history: History,
    version: Version,
    why: str,
    url: str,
) -> ReleasePlan:
    """Put together what the version of this commit is."""
    commit = history.commit
    since = history.since.tag.name if history.since is not None else None
    images = _checked_images(request.images)
    files = _files(request, version)
    if both := images.keys() & {one.name for one in files}:
        raise Unfit(min(both), "a file and an image have that name")
    bill = _bill(request, version, files, images, commit.time_s)
    story = Story(
        tag=f"{settings.tag_prefix}{version}",
        previous=since,
        date=datetime.datetime.fromtimestamp(commit.time_s, datetime.UTC).date().isoformat(),
        changes=history.changes,
        known_authors=repository.authors(history.since.tag.commit if history.since is not None else None),
        web=web_of(url, settings.forge),
        written=_written(repository, settings, commit.sha, version),
        packages=_packages(request, since, bill),
        images=images,
    )
    return ReleasePlan(
        name=plain(request.name),
        version=version,
        why=why,
        tag=story.tag,
        commit=commit.sha,
        time_s=commit.time_s,
        branch=history.branch,
        previous=since,
        files=tuple(sorted([*files, bill], key=lambda one: one.name)),
        images=tuple(sorted(images.items())),
        notes=render_notes(story),
        changelog=render_changelog(story, str(version)),
        floating=floating_tags(settings, version, history.versions),
        source=story.web.address,
    )


def floating_tags(settings: ReleaseSettings, version: Version, versions: Sequence[Tagged]) -> tuple[str, ...]:
    """Return the tags that follow this release: none where a newer version of the same line exists."""
    if version.kind:
        return ()
    newer = [one.version for one in versions if not one.version.kind and one.version.order > version.order]
    found = []
    if "major" in settings.floating and not any(one.major == version.major for one in newer):
        found.append(f"{settings.tag_prefix}{version.major}")
    line = (version.major, version.minor)
    if "minor" in settings.floating and not any((one.major, one.minor) == line for one in newer):
        found.append(f"{settings.tag_prefix}{version.major}.{version.minor}")
    return tuple(found)


def _checked_images(images: Mapping[str, str]) -> dict[str, str]:
    for name, digest in images.items():
        if not IMAGE_NAME.fullmatch(name):
            raise Unfit(name, "it is no name of an image")
        if not DIGEST.fullmatch(digest):
            raise Unfit(name, f"`{digest}` is no digest such as sha256:0123..., and a tag can be moved")
    return dict(images)


def _files(request: Request, version: Version) -> list[Delivered]:
    found: dict[str, Delivered] = {}
    for path in request.files:
        name = path.name
        if not FILE_NAME.fullmatch(name):
            raise Unfit(name, "its name does not fit into a tag; use letters, digits and `._+-`")
        if name in found or name in (SBOM_FILE, ATTESTATION_FILE):
            raise Unfit(name, "another file of the release has that name")
        try:
            size = path.stat().st_size
            found[name] = Delivered(name=name, digest=digest_file(path), size_bytes=size, source=path)
        except OSError as error:
            raise Unfit(name, (error.strerror or str(error)).lower()) from error
        _check_version(path, version)
    return list(found.values())


def _check_version(path: Path, version: Version) -> None:
    """Refuse a package that says it is another version: it was built before this one was decided."""
    from packaging.version import InvalidVersion
    from packaging.version import Version as PythonVersion

    described = metadata_of(path)
    if described is None:
        return
    told = str(described.get("Version", ""))
    try:
        is_same = PythonVersion(told) == PythonVersion(version.pep440)
    except InvalidVersion:
        is_same = False
    if not is_same:
        why = f"it says that it is version {plain(told) or 'nothing'}, not {version.pep440}"
        raise Unfit(path.name, why, "build it as that version, or remove it if it is an old one")


def _bill(
    request: Request, version: Version, files: Sequence[Delivered], images: Mapping[str, str], epoch_s: int
) -> Delivered:
    if request.sbom is not None:
        try:
            data = request.sbom.read_bytes()
        except OSError as error:
            raise Unfit(request.sbom.name, (error.strerror or str(error)).lower()) from error
        packages_of(data, request.sbom.name)
    else:
        paths = {path: one.digest for path, one in zip(request.files, files, strict=True)}
        data = bill_of_release(plain(request.name), str(version), paths, images, epoch_s=epoch_s)
    return Delivered(name=SBOM_FILE, digest=digest_bytes(data), size_bytes=len(data), source=data)


def _written(repository: Repository, settings: ReleaseSettings, commit: str, version: Version) -> str:
    """Return what people wrote of this version, from the file in the commit."""
    if settings.changelog is None:
        return ""
    text = repository.file_at(commit, settings.changelog)
    if text is None:
        raise Unfit(settings.changelog, "the setting `changelog` names it, and the commit does not have it")
    return changelog_section(text, str(version))


def _packages(request: Request, previous: str | None, bill: Delivered) -> Difference | None:
    if previous is None or request.previous_sbom is None:
        return None
    before = request.previous_sbom(previous)
    return difference(before, bill.read()) if before is not None else None

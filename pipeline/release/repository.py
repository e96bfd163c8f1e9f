"""What git knows of a repository, asked of the program; nothing here decides or changes anything."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pipeline.config import redact_url
from pipeline.errors import PipelineError, RefusedByPolicy, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LIMIT_S: Final = 120.0
REMOTE_LIMIT_S: Final = 300.0
LARGEST_SAID: Final = 2000  # characters of what git said, in a message
FIELDS: Final = ("%H", "%P", "%aN", "%aE", "%ct", "%B")


class GitRefused(PipelineError):
    """Git ended with an error; `said` is its text."""

    def __init__(self, what: str, said: str) -> None:
        self.said = redact_url(said.strip())[-LARGEST_SAID:]
        super().__init__(f"cannot {what}: git said: {self.said or 'nothing'}")


class NotReleasable(UsageError):
    """There is nothing here that could be released: no repository, or no commit."""


class ShallowClone(UsageError):
    """The history is cut off: versions and notes made of it would be wrong."""

    def __init__(self) -> None:
        super().__init__("cannot tell the next version: this is a shallow clone, its history is cut off")
        self.hint = "`git fetch --unshallow --tags`; in a workflow, `fetch-depth: 0` for its checkout"


class DirtyTree(RefusedByPolicy):
    """Tracked files differ from the commit that would be released."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        shown = ", ".join(f"`{path}`" for path in paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        super().__init__(f"cannot release with uncommitted changes: {shown}{more}")
        self.hint = "commit them, or `git stash`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit; text that is no UTF-8 has replacement characters."""

    sha: str
    parents: tuple[str, ...]
    author: str
    email: str
    time_s: int  # of the committer
    message: str

    @property
    def subject(self) -> str:
        return self.message.partition("\n")[0]

    @property
    def body(self) -> str:
        return self.message.partition("\n")[2].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag."""

    name: str
    commit: str  # "" when it leads to none
    object: str  # of the tag itself where it is annotated, else the commit
    is_reachable: bool  # from HEAD

    @property
    def is_annotated(self) -> bool:
        return self.object != self.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A work tree of git."""

    root: Path
    environ: ClassVar[Mapping[str, str]] = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }

    def git(
        self, *argv: str, what: str, given: bytes = b"", limit_s: float = LIMIT_S, ok: tuple[int, ...] = (0,)
    ) -> bytes:
        """Return what a git command writes.

        Raises:
            GitRefused: It ended with a code that is not in `ok` or took too long, or git is missing.
        """
        code, said, errors = self.ask(*argv, what=what, given=given, limit_s=limit_s)
        if code not in ok:
            raise GitRefused(what, (errors + said).decode(errors="replace"))
        return said

    def ask(
        self, *argv: str, what: str, given: bytes = b"", limit_s: float = LIMIT_S
    ) -> tuple[int, bytes, bytes]:
        """Return the exit code of a git command, what it writes, and what it says.

        Raises:
            GitRefused: It took too long, or git is missing.
        """
        try:
            done = subprocess.run(
                ["git", *argv],
                cwd=self.root,
                env={**os.environ, **self.environ},
                input=given,
                capture_output=True,
                timeout=limit_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise GitRefused(what, "there is no git on this machine") from error
        except subprocess.TimeoutExpired as error:
            raise GitRefused(what, f"nothing within {limit_s:.0f} s") from error
        return done.returncode, done.stdout, done.stderr

    def head(self) -> str:
        """Return the commit that is checked out.

        Raises:
            NotReleasable: This is no repository, or it has no commit.
        """
        try:
            self.git("rev-parse", "--git-dir", what="find the repository")
        except GitRefused as error:
            raise NotReleasable(f"cannot release `{self.root.name}`: it is no git repository") from error
        asked = ("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        sha = self.git(*asked, what="find the commit", ok=(0, 1, 128)).decode().strip()
        if not sha:
            raise NotReleasable(f"cannot release `{self.root.name}`: the repository has no commit")
        return sha

    def branch(self) -> str:
        """Return the branch that is checked out; of a detached head what CI says, else ""."""
        name = self.git("symbolic-ref", "--short", "--quiet", "HEAD", what="find the branch", ok=(0, 1))
        if name:
            return name.decode(errors="replace").strip()
        if os.environ.get("GITHUB_REF_TYPE") == "branch":
            return os.environ.get("GITHUB_REF_NAME", "")
        return os.environ.get("CI_COMMIT_BRANCH", "")

    def require_whole(self) -> None:
        """Refuse a history that is cut off.

        Raises:
            ShallowClone: It is.
        """
        if self.git("rev-parse", "--is-shallow-repository", what="look at the clone").strip() == b"true":
            raise ShallowClone

    def changed_files(self) -> tuple[str, ...]:
        """Return the tracked files that differ from the commit, submodules included."""
        listed = self.git(
            *("status", "--porcelain=v1", "-z", "--untracked-files=no"), what="look for changes"
        )
        return tuple(
            os.fsdecode(each[3:]) for each in listed.split(b"\0") if each[:2].strip() and each[2:3] == b" "
        )

    def tags(self) -> tuple[Tag, ...]:
        """Return every tag."""
        form = "%(refname:strip=2)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)"
        asked = ("for-each-ref", f"--format={form}", "refs/tags")
        merged = self.git(*asked[:2], "--merged=HEAD", "refs/tags", what="list the tags")
        reachable = {line.split("\0")[0] for line in _lines(merged)}
        found = []
        for line in _lines(self.git(*asked, what="list the tags")):
            name, kind, sha, inner_kind, inner = line.split("\0")
            commit = sha if kind == "commit" else inner if inner_kind == "commit" else ""
            found.append(Tag(name=name, commit=commit, object=sha, is_reachable=name in reachable))
        return tuple(found)

    def commits(self, since: str | None, until: str = "HEAD") -> tuple[Commit, ...]:
        """Return the commits after `since` (all for None) up to `until`, the newest first."""
        asked = f"--format=tformat:{'%x00'.join(FIELDS)}"
        span = (until,) if since is None else (until, f"^{since}")
        said = self.git(
            *("log", "-z", "--no-show-signature", "--no-notes", "--no-color", "--encoding=UTF-8", asked),
            *("--topo-order", "--end-of-options", *span, "--"),
            what="read the commits",
        )
        parts = said.decode("utf-8", "replace").split("\0")
        count = len(FIELDS)
        return tuple(_commit(parts[at : at + count]) for at in range(0, len(parts) - count + 1, count))

    def authors(self, until: str | None) -> frozenset[str]:
        """Return the addresses of all who wrote a commit up to `until`; none for None."""
        if until is None:
            return frozenset()
        asked = ("log", "--no-show-signature", "--format=%aE", "--end-of-options", until, "--")
        return frozenset(_lines(self.git(*asked, what="read the authors")))

    def remote_url(self, remote: str) -> str:
        """Return the URL of a remote; "" when there is none of that name."""
        asked = ("remote", "get-url", "--end-of-options", remote)
        return self.git(*asked, what="find the remote", ok=(0, 2, 128)).decode(errors="replace").strip()

    def remote_tags(self, remote: str) -> dict[str, tuple[str, str]]:
        """Return each tag of a remote with its object and the commit it leads to.

        Raises:
            GitRefused: The remote cannot be asked.
        """
        said = self.git(
            *("ls-remote", "--tags", "--end-of-options", remote),
            what=f"list the tags of `{redact_url(remote)}`",
            limit_s=REMOTE_LIMIT_S,
        )
        objects: dict[str, str] = {}
        inner: dict[str, str] = {}
        for line in _lines(said):
            sha, _, ref = line.partition("\t")
            name = ref.removeprefix("refs/tags/")
            if name.endswith("^{}"):
                inner[name.removesuffix("^{}")] = sha
            else:
                objects[name] = sha
        return {name: (sha, inner.get(name, sha)) for name, sha in objects.items()}

    def file_at(self, commit: str, path: str) -> str | None:
        """Return the text of a file in a commit; None when it is not there."""
        asked = ("cat-file", "blob", f"{commit}:{path}")
        try:
            return self.git(*asked, what=f"read `{path}`").decode("utf-8", "replace")
        except GitRefused as error:
            if re.search(r"does not exist|exists on disk, but not in|Not a valid object name", error.said):
                return None
            raise


def _commit(parts: list[str]) -> Commit:
    sha, parents, author, email, time_s, message = parts
    return Commit(
        sha=sha.lstrip("\n"),
        parents=tuple(parents.split()),
        author=author,
        email=email,
        time_s=int(time_s),
        message=message.strip("\n"),
    )


def _lines(said: bytes) -> list[str]:
    return [line for line in said.decode("utf-8", "replace").split("\n") if line]

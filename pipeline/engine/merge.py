"""Joins what happened between several pairs of trees, the way git merges branches.

Git sees only the files that some pair changed, in a repository beside the tree, so that a merge costs what
changed and not what there is. Where a merged file is one of the pairs' own, it keeps all of its attributes.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.changes import (
    Changes,
    changed_files,
    copy_for_git,
    find_changes,
    find_file,
    removed_files,
)
from pipeline.engine.rootpath import find_status, is_directory, make_directories, remove, resolve
from pipeline.engine.transfer import Copier
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.actions import OnConflict

_MARK: Final = b"<<<<<<< "
_STRATEGY: Final[dict[OnConflict, tuple[str, ...]]] = {
    "PREFER_OURS": ("-X", "ours"),
    "PREFER_THEIRS": ("-X", "theirs"),
}
# Nothing that the files themselves say changes how git reads or joins them.
_ATTRIBUTES: Final = "* !merge !diff -text -eol -ident -filter -working-tree-encoding\n"
_CONFIG: Final = ("core.autocrlf=false", "core.hooksPath=/dev/null", "gc.auto=0", "maintenance.auto=false")


class MergeConflict(EngineError):
    """Two changesets change one path in different ways; the message names each such path."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))


class MergeFailed(EngineError):
    """Git could not merge, for another reason than a conflict."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot merge changesets: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One pair of roots and what git would say of it."""

    before: str
    after: str
    changes: Changes

    @property
    def removed(self) -> frozenset[str]:
        """All files and links that were removed."""
        return frozenset(removed_files(self.changes, self.before))


def merge(root: str, pairs: Sequence[tuple[Path, Path]], on_conflict: OnConflict) -> None:
    """Apply all pairs' changes to the tree at `root`, which is what they changed.

    Raises:
        MergeConflict: Two pairs change one path differently, and `on_conflict` does not say which counts.
        MergeFailed: Git is missing, or fails.
    """
    sides = [
        Side(
            before=os.path.realpath(before),
            after=os.path.realpath(after),
            changes=find_changes(before, after),
        )
        for before, after in pairs
    ]
    if on_conflict == "FAIL_EARLY" and (reasons := find_conflicts(sides)):
        raise MergeConflict(reasons)
    paths = sorted(set().union(*(changed_files(side.changes, side.before) for side in sides)))
    with tempfile.TemporaryDirectory(prefix="merge-") as folder:
        repository = _Repository(Path(folder))
        start = repository.commit_of(root, paths)
        branches = [_branch(repository, side, paths, start) for side in sides]
        repository.run("checkout", "-q", "--detach", "--force", branches[0])
        for number, branch in enumerate(branches[1:], start=1):
            repository.merge(branch, on_conflict, number)
        _take_over(root, repository, start, sides)
    _keep_directories(root, sides)


def find_conflicts(sides: Sequence[Side]) -> list[str]:
    """Return a sentence for each path that two sides touch in ways that exclude each other."""
    found = []
    for number, one in enumerate(sides):
        for other in sides[number + 1 :]:
            added = [p for p in one.changes.added if p in other.changes.added and not p.endswith("/")]
            modified = [p for p in one.changes.modified if p in other.changes.modified]
            mixed = (set(one.changes.modified) & other.removed) | (one.removed & set(other.changes.modified))
            found += [_sentence(path, "added in both changesets") for path in added]
            found += [_sentence(path, "modified in both changesets") for path in modified]
            found += [
                _sentence(path, "modified in one changeset and removed in the other")
                for path in sorted(mixed)
            ]
    return found


def _sentence(path: str, what: str) -> str:
    return f'conflict between changesets at path "{path}": path {what}'


def _branch(repository: _Repository, side: Side, paths: Sequence[str], start: str) -> str:
    """Commit one side's changes on top of the start, whatever the side itself began with."""
    before = repository.commit_of(side.before, paths)
    after = repository.commit_of(side.after, paths, parent=before)
    if repository.tree(before) == repository.tree(start):
        return repository.commit_of(side.after, paths, parent=start)
    repository.run("checkout", "-q", "--detach", "--force", start)
    if repository.status("cherry-pick", "--allow-empty", "--keep-redundant-commits", after) != 0:
        reasons = [_sentence(p, "is not what the changeset changed") for p in sorted(repository.unmerged())]
        raise MergeConflict(reasons or [f"cannot apply a changeset: {repository.said}"])
    return repository.run("rev-parse", "HEAD")


class _Repository:
    """A git repository that only this merge uses."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self._git_dir = folder / "git"
        self.said = ""
        self.work.mkdir()
        self.run("init", "-q", "--template=", os.fspath(self.work))
        (self._git_dir / "info").mkdir(exist_ok=True)
        (self._git_dir / "info" / "attributes").write_text(_ATTRIBUTES)

    def run(self, *argv: str) -> str:
        """Run git and return what it prints, without the last line's end."""
        if self.status(*argv) != 0:
            raise MergeFailed(f"`git {argv[0]}`: {self.said.strip()}")
        return self.said.rstrip("\n")

    def status(self, *argv: str) -> int:
        """Run git and return its exit code; `said` has what it printed."""
        who = {f"GIT_{role}_{key}": "engine" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_DIR": os.fspath(self._git_dir),
            "GIT_WORK_TREE": os.fspath(self.work),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_DATE": "@0 +0000",
            "GIT_COMMITTER_DATE": "@0 +0000",
            "LC_ALL": "C",
            **who,
        }
        options = [word for setting in _CONFIG for word in ("-c", setting)]
        try:
            done = subprocess.run(
                ["git", *options, *argv], cwd=self.work, env=env, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise MergeFailed("`git` is not installed") from error
        self.said = os.fsdecode(done.stdout or done.stderr)
        return done.returncode

    def commit_of(self, root: str, paths: Sequence[str], parent: str = "") -> str:
        """Return a new commit of those of `paths` that `root` has."""
        for name in os.listdir(self.work):
            remove(os.fspath(self.work / name))
        for path in paths:
            copy_for_git(root, path, os.fspath(self.work))
        self.run("add", "--all", "--force", ".")
        parents = ("-p", parent) if parent else ()
        return self.run("commit-tree", "-m", "files", *parents, self.run("write-tree"))

    def tree(self, commit: str) -> str:
        """Return the id of a commit's tree."""
        return self.run("rev-parse", commit + "^{tree}")

    def unmerged(self) -> dict[str, frozenset[str]]:
        """Return the paths in conflict with the stages that they have: 1 before, 2 ours, 3 theirs."""
        found: dict[str, frozenset[str]] = {}
        for entry in self.run("ls-files", "--unmerged", "-z").split("\0"):
            if entry:
                about, _, path = entry.partition("\t")
                found[path] = found.get(path, frozenset()) | {about.split()[2]}
        return found

    def merge(self, branch: str, on_conflict: OnConflict, number: int) -> None:
        """Merge a commit into the one that is checked out."""
        name = "theirs" if number == 1 else f"theirs-{number}"  # what the markers say
        self.run("branch", name, branch)
        how = _STRATEGY.get(on_conflict, ())
        code = self.status("merge", "-q", "--no-edit", "--no-ff", *how, name)
        conflicts = self.unmerged() if code else {}
        if code and not conflicts:
            raise MergeFailed(f"`git merge`: {self.said.strip()}")
        if conflicts and on_conflict in ("FAIL", "FAIL_EARLY"):
            raise MergeConflict(
                [_sentence(path, _what_happened(stages)) for path, stages in sorted(conflicts.items())]
            )
        for path, stages in conflicts.items():
            self._settle(path, stages, on_conflict)
        if conflicts:
            self.run("add", "--all", "--force", ".")
            self.run("commit", "-q", "--allow-empty", "-m", f"merge {number}")

    def _settle(self, path: str, stages: frozenset[str], on_conflict: OnConflict) -> None:
        """Decide a conflict: markers where both have a text, else the side that is preferred or there."""
        here = self.work / path
        if on_conflict == "LEAVE_CONFLICT_MARKERS" and {"2", "3"} <= stages:
            if here.is_symlink() or not here.is_file() or _MARK not in here.read_bytes():
                raise MergeConflict([_sentence(path, "cannot hold conflict markers: it is no text")])
            return
        wanted = {"PREFER_OURS": "2", "PREFER_THEIRS": "3"}.get(on_conflict, max(stages - {"1"}, default="1"))
        if wanted in stages and wanted != "1":
            self.run("checkout", "--ours" if wanted == "2" else "--theirs", "--", path)
        else:
            self.run("rm", "-q", "--force", "--", path)


def _what_happened(stages: frozenset[str]) -> str:
    if "1" not in stages:
        return "added in both changesets"
    if {"2", "3"} <= stages:
        return "modified in both changesets"
    return "modified in one changeset and removed in the other"


def _take_over(root: str, repository: _Repository, start: str, sides: Sequence[Side]) -> None:
    """Change the tree to what the repository has now."""
    listing = repository.run("diff", "--name-status", "--no-renames", "-z", start, "HEAD").split("\0")
    kinds = list(zip(listing[::2], listing[1::2], strict=False))
    # Removals first: a link that is put in a directory's place must not lead them elsewhere.
    for path in (path for kind, path in kinds if kind == "D"):
        remove(resolve(root, path, follow_last=False))
    copier = Copier()
    for path in (path for kind, path in kinds if kind != "D"):
        target = resolve(root, path, follow_last=False)
        make_directories(os.path.dirname(target))
        theirs = [place for side in sides if (place := find_file(side.after, path)) is not None]
        merged = repository.work / path
        source = next((place for place in theirs if _is_equal(merged, place)), None)
        if source is not None:
            copier.node(source, target, os.lstat(source))
        else:
            _write_joined(merged, target, [*theirs, target])
    copier.finish()


def _write_joined(merged: Path, target: str, alike: Sequence[str]) -> None:
    """Put what no side has as it is: with the attributes of the first file among `alike`."""
    if merged.is_symlink():
        remove(target)
        os.symlink(os.readlink(merged), target)
        return
    like = next((place for place in alike if stat.S_ISREG(_mode_of(place))), os.fspath(merged))
    content, found = merged.read_bytes(), os.lstat(like)
    remove(target)
    with open(target, "xb") as stream:
        stream.write(content)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _is_equal(merged: Path, source: str) -> bool:
    if merged.is_symlink() != os.path.islink(source):
        return False
    if merged.is_symlink():
        return os.readlink(merged) == os.readlink(source)
    if (merged.lstat().st_mode ^ os.lstat(source).st_mode) & 0o100:
        return False
    return merged.read_bytes() == Path(source).read_bytes()


def _mode_of(path: str) -> int:
    info = find_status(path)
    return info.st_mode if info is not None else 0


def _keep_directories(root: str, sides: Sequence[Side]) -> None:
    """Make the directories that a side added; remove those that a side removed and that hold nothing now."""
    copier = Copier()
    for side in sides:
        for path in sorted(p.rstrip("/") for p in side.changes.added if p.endswith("/")):
            target = resolve(root, path, follow_last=False)
            if make_directories(target):
                copier.made(f"{side.after}/{path}", target)
    copier.finish()
    for side in sides:
        for path in (p.rstrip("/") for p in side.changes.removed if p.endswith("/")):
            target = resolve(root, path, follow_last=False)
            if is_directory(target) and not any(files for _, _, files in os.walk(target)):
                remove(target)

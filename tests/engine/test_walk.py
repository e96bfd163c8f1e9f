"""Walking with filters, and git's ignore rules compared with git."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.actions import Filters
from pipeline.engine.walk import walk

if TYPE_CHECKING:
    from pathlib import Path


def make(root: Path, *paths: str) -> None:
    """Make files; a path that ends in a slash is a directory."""
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)


def paths(root: Path, filters: Filters, repo_root: Path | None = None) -> list[str]:
    return [entry.path for entry in walk(root, filters, repo_root=repo_root)]


def test_everything_is_yielded_depth_first_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b/z", "b/a/x", "a", "c/")

    assert paths(tmp_path, Filters()) == ["a", "b", "b/a", "b/a/x", "b/z", "c"]


def test_every_kind_is_told_and_links_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "dir/", "file")
    os.symlink("dir", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "sock"))

        kinds = {entry.path: entry.kind for entry in walk(tmp_path, Filters())}

    assert kinds == {"dir": "dir", "file": "file", "link": "symlink", "pipe": "fifo", "sock": "socket"}


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        paths(tmp_path / "absent", Filters())


def test_names_that_are_no_utf_8_are_walked(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).write_text("x")

    assert paths(tmp_path, Filters(include=("caf*",))) == [name]


def test_parents_of_matches_are_yielded_and_other_directories_are_not(tmp_path: Path) -> None:
    make(tmp_path, "src/app/main.py", "src/app/empty/", "src/readme.md", "docs/x.md", "lib/deep/er/y.py")

    assert paths(tmp_path, Filters(include=("**/*.py",))) == [
        "lib", "lib/deep", "lib/deep/er", "lib/deep/er/y.py", "src", "src/app", "src/app/main.py",
    ]  # fmt: skip


def test_excluded_trees_are_never_opened(tmp_path: Path) -> None:
    """A directory that cannot be listed does no harm when it is not asked for."""
    make(tmp_path, "keep/file", "gone/file")
    blocked = tmp_path / "gone"
    seen = time.time() - 10_000
    os.utime(blocked, (seen, 0))
    before = blocked.stat().st_atime_ns

    excluded = paths(tmp_path, Filters(exclude=("gone",)))
    not_included = paths(tmp_path, Filters(include=("keep",)))

    assert excluded == not_included == ["keep", "keep/file"]
    assert blocked.stat().st_atime_ns == before


def test_a_file_is_taken_back_from_an_excluded_directory_with_its_parents(tmp_path: Path) -> None:
    make(tmp_path, "docs/README.md", "docs/other.md", "docs/deep/x.md")

    assert paths(tmp_path, Filters(exclude=("docs", "!docs/README.md"))) == ["docs", "docs/README.md"]


def test_nested_ignore_files_apply_below_their_directory(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.log",
        "keep.log",
        "build/x",
        "sub/a.log",
        "sub/keep.txt",
        "sub/only.txt",
        "other/only.txt",
        ".git/HEAD",
    )
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (tmp_path / "sub/.gitignore").write_text("*.txt\n!keep.txt\n!a.log\n")

    assert paths(tmp_path, Filters(gitignore=True)) == [
        ".git", ".git/HEAD", ".gitignore", "keep.log", "other", "other/only.txt", "sub", "sub/.gitignore",
        "sub/a.log", "sub/keep.txt",
    ]  # fmt: skip


def test_rules_of_the_repository_above_the_root_apply(tmp_path: Path) -> None:
    make(tmp_path, "pkg/sub/a.log", "pkg/sub/b.tmp", "pkg/sub/out/x", "pkg/sub/file")
    (tmp_path / ".gitignore").write_text("*.log\n/pkg/sub/out\n")
    (tmp_path / "pkg/.gitignore").write_text("*.tmp\n")
    root = tmp_path / "pkg/sub"

    assert paths(root, Filters(gitignore=True), tmp_path) == ["file"]
    assert paths(root, Filters(gitignore=True)) == ["a.log", "b.tmp", "file", "out", "out/x"]


def test_a_root_that_the_repository_ignores_is_empty(tmp_path: Path) -> None:
    make(tmp_path, "dist/pkg/file")
    (tmp_path / ".gitignore").write_text("dist/\n")

    assert paths(tmp_path / "dist/pkg", Filters(gitignore=True), tmp_path) == []


RULES = [
    "*.log", "!keep.log", "build/", "/build", "a/b", "/a/*", "!/a/b", "**/x", "x/**", "a/**/z", "*", "!*/",
    "!*.py", "[ab]", "[!a]*", "\\#hash", "\\!bang", "trail\\ ", "space ", "# comment", "", "b/", "!b/", "a*/",
    "**", "/*", "!/a", "foo**bar", "?", "**/b/z", "[[:digit:]]", "[a-", "x\\",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_git_ignores_the_same_files(tmp_path: Path, seed: int) -> None:
    """Random trees and rules: what the walk leaves out is what `git ls-files` leaves out."""
    chance = random.Random(seed)  # noqa: S311 - the same trees each time
    names = [
        "a",
        "b",
        "x",
        "z",
        "build",
        "keep.log",
        "m.log",
        "p.py",
        "#hash",
        "!bang",
        "trail ",
        "foobar",
        "1",
    ]
    for _ in range(40):
        parts = [chance.choice(names) for _ in range(chance.randint(1, 4))]
        target = tmp_path.joinpath(*parts)
        if not any(above.is_file() for above in target.parents) and not target.exists():
            make(tmp_path, "/".join(parts))
    folders = [tmp_path, *(path for path in sorted(tmp_path.rglob("*")) if path.is_dir())]
    for folder in folders:
        if folder == tmp_path or chance.random() < 0.4:
            rules = chance.sample(RULES, chance.randint(1, 5))
            (folder / ".gitignore").write_text("\n".join(rules) + "\n")
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", os.fspath(tmp_path)]
    subprocess.run([*git, "init", "-q", "--template="], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True, text=True
    )

    found = [
        entry.path
        for entry in walk(tmp_path, Filters(gitignore=True, exclude=(".git",)))
        if entry.kind == "file"
    ]

    assert sorted(found) == sorted(name for name in listed.stdout.split("\0") if name)

"""Which lines a change touches, asked of a real git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.graph.inputs import GitFailed
from pipeline.stages.changes import changed_lines, find_base, parse_diff

if TYPE_CHECKING:
    from pathlib import Path


def git(root: Path, *argv: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *identity, *argv], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one commit on `main`, and a branch of it checked out."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    for name in ("a.py", "moved.py", "gone.py"):
        write(root, name, "".join(f"{name} line {n}\n" for n in range(1, 21)))
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    git(root, "checkout", "-q", "-b", "feature")
    return root


def test_added_and_changed_lines_are_found_as_they_are_numbered_now(root: Path) -> None:
    """In commits of the branch and in the working tree; a moved file has only what was changed in it."""
    lines = (root / "a.py").read_text().splitlines(keepends=True)
    write(root, "a.py", "".join(["new\n", *lines[:5], "other\n", *lines[6:10], *lines[12:]]))
    write(root, "sub/new.py", "one\ntwo")
    git(root, "mv", "moved.py", "sub/here.py")
    git(root, "rm", "-q", "gone.py")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "second")
    text = (root / "sub/here.py").read_text()
    write(root, "sub/here.py", text.replace("line 7\n", "line seven\n"))

    found = changed_lines(root, find_base(root, "main", {}))

    assert found == {
        "a.py": frozenset({1, 7}),
        "sub/new.py": frozenset({1, 2}),
        "sub/here.py": frozenset({7}),
    }


@pytest.mark.parametrize(
    "name", ["with space.py", 'quo"te.py', "tab\tin.py", "é.py", "back\\slash.py", "n\nl.py"]
)
def test_files_of_any_name_are_found(root: Path, name: str) -> None:
    write(root, name, "x\n")
    git(root, "add", "-A")

    assert changed_lines(root, "main") == {name: frozenset({1})}


def test_content_that_looks_like_a_header_is_content(root: Path) -> None:
    """A file may hold a diff, and settings of git may change how it writes one."""
    write(root, "a.py", "++ b/other.py\n@@ -1 +1,9 @@\n-- a/x\n")
    write(root, "b.diff", "+++ b/c.py\n@@ -1 +1,9 @@\n+x\n\\ No newline at end of file\n")
    git(root, "add", "-A")
    git(root, "config", "diff.noprefix", "true")
    git(root, "config", "color.ui", "always")

    assert changed_lines(root, "main") == {"a.py": frozenset({1, 2, 3}), "b.diff": frozenset({1, 2, 3, 4})}


def test_names_are_relative_to_a_project_in_a_folder(root: Path) -> None:
    write(root, "sub/x.py", "x\n")
    write(root, "y.py", "y\n")
    git(root, "add", "-A")

    assert changed_lines(root / "sub", "main") == {"x.py": frozenset({1})}


def test_binary_files_and_mere_moves_have_no_lines() -> None:
    moved = b"diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n"
    diff = moved + b"diff --git a/z b/z\nBinary files a/z and b/z differ\n"

    assert parse_diff(diff) == {}


def test_the_base_is_where_the_branch_left_the_one_it_goes_to(root: Path) -> None:
    """Whatever happened there since; a pull request names it, else it is the usual one."""
    first = git(root, "rev-parse", "HEAD")
    write(root, "a.py", "changed\n")
    git(root, "commit", "-qam", "mine")
    mine = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "-q", "main")
    write(root, "moved.py", "changed\n")
    git(root, "commit", "-qam", "theirs")
    git(root, "branch", "release", mine)
    git(root, "checkout", "-q", "feature")

    bases = [find_base(root, None, {}), find_base(root, "release", {})]
    asked = find_base(root, None, {"GITHUB_BASE_REF": "release"})

    assert (bases, asked) == ([first, mine], mine)


def test_a_base_that_is_not_there_is_an_error(root: Path) -> None:
    """As in a shallow clone."""
    with pytest.raises(GitFailed) as raised:
        find_base(root, "nowhere", {})

    assert str(raised.value).startswith("cannot find what changed since `nowhere`: git said: ")

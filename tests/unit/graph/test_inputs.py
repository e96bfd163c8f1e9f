"""The project's files and their digests."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from pipeline.globs import compile_globs
from pipeline.graph.inputs import GitFailed, ProjectFiles, project_files
from tests.unit.graph.conftest import Repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("globs", "path", "picked"),
    [
        (["src/**"], "src/a.py", True),
        (["src/**"], "src/a/b/c.py", True),
        (["src/**"], "source/a.py", False),
        (["src/**"], "x/src/a.py", False),
        (["**/*.py"], "a.py", True),
        (["**/*.py"], "a/b/c.py", True),
        (["src/**/*.py"], "src/a.py", True),
        (["src/**/*.py"], "src/x/y/a.py", True),
        (["src/*.py"], "src/x/a.py", False),
        (["src/*"], "src/.hidden", True),
        (["Dockerfile"], "Dockerfile", True),
        (["Dockerfile"], "Dockerfile.dev", False),
        (["src"], "src/a/b.py", True),
        (["src/"], "src/a/b.py", True),
        (["./src/*.py"], "src/a.py", True),
        (["req*.txt"], "requirements-dev.txt", True),
        (["a?.py"], "ab.py", True),
        (["a?.py"], "a/.py", False),
        (["[ab].py"], "a.py", True),
        (["[!ab].py"], "a.py", False),
        (["[!ab].py"], "c.py", True),
        (["a.py"], "aXpy", False),
        (["src/**", "!src/gen/**"], "src/gen/a.py", False),
        (["!src/gen", "src/**"], "src/gen/a.py", False),
        (["src/**", "!**/*.md"], "src/notes.md", False),
        (["!src/**"], "README.md", False),
        ([], "README.md", False),
        (["**"], "any/thing", True),
    ],
)
def test_globs_pick_paths(globs: list[str], path: str, picked: bool) -> None:
    """Anchored at the root; excludes win wherever they stand."""
    assert compile_globs(tuple(globs))(path) is picked


def test_in_git_tracked_files_count_by_their_content(repo: Repository) -> None:
    """Clean files are known by git's own blob names; untracked and ignored ones do not count."""
    repo.write("notes.txt", "untracked")

    found = project_files(repo.root)

    assert found == ProjectFiles(
        digests={
            path: "100644:" + repo.git("rev-parse", f"HEAD:{path}").strip()
            for path in ("Dockerfile", "README.md", "src/app.py", "src/lib/a.py", "tests/test_a.py")
        },
        from_git=True,
    )
    assert list(found.matching(["src/**", "!src/lib/**"])) == ["src/app.py"]
    assert found.matching(None) == found.digests


def test_a_changed_file_has_the_digest_it_will_have_when_committed(repo: Repository) -> None:
    """So that committing does not make stages run again, and taking a change back is a hit."""
    before = project_files(repo.root)
    text = repo.write("src/app.py", "changed\n").read_text()
    os.chmod(repo.root / "README.md", 0o744)
    (repo.root / "Dockerfile").unlink()
    (repo.root / "tests/test_a.py").unlink()
    (repo.root / "tests/test_a.py").symlink_to("../src/app.py")

    changed = project_files(repo.root)
    repo.commit()
    committed = project_files(repo.root)

    assert changed.digests == committed.digests
    assert "Dockerfile" not in changed.digests
    assert changed.digests["README.md"] == before.digests["README.md"].replace("100644", "100755")
    repo.write("src/app.py", "content of src/app.py\n")
    assert project_files(repo.root).digests["src/app.py"] == before.digests["src/app.py"]
    assert text == "changed\n"


def test_a_staged_change_counts_as_what_is_in_the_working_tree(repo: Repository) -> None:
    """Staged, then changed again: the working tree is what a stage sees."""
    repo.write("src/app.py", "staged\n")
    repo.write("new.py", "new\n")
    repo.git("add", "-A")
    repo.write("src/app.py", "later\n")

    found = project_files(repo.root).digests

    blob = b"later\n"
    expected = hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest()
    assert (found["src/app.py"], "new.py" in found) == (f"100644:{expected}", True)


def test_names_that_are_not_text_survive(repo: Repository) -> None:
    """Spaces, line ends and bytes that are no UTF-8."""
    name = os.fsdecode(b"odd \n\xff name")
    repo.write(name, "x")
    repo.commit()

    assert name in project_files(repo.root).digests


def test_a_project_below_the_repository_sees_its_own_files(repo: Repository) -> None:
    """Paths are relative to the project, changed files too."""
    repo.write("src/lib/a.py", "changed")

    found = project_files(repo.root / "src")

    assert sorted(found.digests) == ["app.py", "lib/a.py"]
    assert found.digests["lib/a.py"] != "100644:" + repo.git("rev-parse", "HEAD:src/lib/a.py").strip()


def test_a_submodule_counts_with_its_commit_and_the_changes_inside(repo: Repository, tmp_path: Path) -> None:
    """It is noted as one."""
    inner = tmp_path / "inner"
    inner.mkdir()
    other = Repository(inner)
    other.git("init", "-q", "-b", "main")
    other.write("lib.py", "1")
    other.commit()
    repo.git("submodule", "add", "-q", str(inner), "vendor/lib")
    repo.commit()

    clean = project_files(repo.root)
    repo.write("vendor/lib/lib.py", "2")
    changed = project_files(repo.root)
    repo.write("vendor/lib/lib.py", "3")
    again = project_files(repo.root)

    assert clean.submodules == ("vendor/lib",)
    assert clean.digests["vendor/lib"].startswith("160000:")
    assert len({found.digests["vendor/lib"] for found in (clean, changed, again)}) == 3


def test_lfs_pointers_are_noted(repo: Repository) -> None:
    """Only where the project uses LFS, and only files whose content was not fetched."""
    repo.write(".gitattributes", "*.bin filter=lfs\n")
    repo.git("config", "filter.lfs.clean", "cat")
    repo.write("a.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    repo.write("b.bin", "fetched")
    repo.commit()

    assert project_files(repo.root).lfs_pointers == ("a.bin",)


def test_a_git_that_fails_is_a_clear_error(repo: Repository) -> None:
    """Git's own words are in it."""
    (repo.root / ".git/HEAD").write_text("nonsense")

    with pytest.raises(GitFailed, match="cannot list the project's tracked files: git said: fatal"):
        project_files(repo.root)


def test_outside_git_the_folder_is_walked_with_a_memory(tmp_path: Path) -> None:
    """Caches and environments are left out; a file that did not change is not read again."""
    root, memory = tmp_path / "p", tmp_path / "memory.json"
    for path in ("a.py", "b/c.py", ".venv/x.py", "b/__pycache__/c.pyc", ".pipeline/runs/x"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "link").symlink_to("a.py")

    first = project_files(root, memory)
    second = project_files(root, memory)
    (root / "a.py").write_text("b.py")
    third = project_files(root, memory)

    assert first == second
    assert (list(first.digests), first.from_git) == (["a.py", "b/c.py", "link"], False)
    assert first.digests["a.py"] == "100644:" + hashlib.sha256(b"a.py").hexdigest()
    assert third.digests["a.py"] == "100644:" + hashlib.sha256(b"b.py").hexdigest()


@pytest.mark.parametrize("damage", ["", "[]", '{"a.py": 3}', "{"])
def test_a_damaged_memory_is_only_slow(tmp_path: Path, damage: str) -> None:
    """It is written anew."""
    root, memory = tmp_path / "p", tmp_path / "memory.json"
    root.mkdir()
    (root / "a.py").write_text("x")
    memory.write_text(damage)

    assert project_files(root, memory) == project_files(root)

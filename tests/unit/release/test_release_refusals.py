"""Which tags count, and from what no release is made: it is said, with what to do."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.config.release import ReleaseSettings, TagPrefix
from pipeline.release.history import TagElsewhere, TagsMissing
from pipeline.release.plan import Request, make_plan
from pipeline.release.repository import DirtyTree, GitRefused, NotReleasable, Repository, ShallowClone
from pipeline.release.version import Version

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.release.world import World


def test_tags_that_are_no_versions_are_passed_over(world: World) -> None:
    """Floating tags, others' tags, tags of files and of another product of the repository."""
    world.commit("feat: begin")
    for name in ("v1", "v1.2", "nightly", "v1.2.3.4", "api/v9.0.0", "vv8.0.0", "v-1.0.0"):
        world.git("tag", name)
    blob = world.git("hash-object", "-w", "--stdin", given=b"text")
    world.git("tag", "v7.0.0", blob)
    world.git("tag", "v1.1.0")
    world.commit("feat: a")
    world.push()

    plan = world.plan()
    other = world.plan(ReleaseSettings(tag_prefix=TagPrefix("api/v")))

    assert (plan.previous, plan.tag) == ("v1.1.0", "v1.2.0")
    assert (other.previous, other.tag) == ("api/v9.0.0", "api/v9.1.0")


def test_only_tags_that_lead_here_count(world: World) -> None:
    """A version on another branch is not the last one; taking it again is refused."""
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.git("checkout", "-q", "-b", "other")
    elsewhere = world.commit("feat: a", file="a")
    world.tag("v1.1.0")
    world.git("checkout", "-q", "main")
    world.commit("feat: b", file="b")

    with pytest.raises(TagElsewhere) as raised:
        world.plan()

    assert str(raised.value) == (
        f"cannot release `v1.1.0`: this repository has that tag on another commit, {elsewhere[:12]}"
    )
    assert raised.value.exit_code == 3
    assert world.plan(version="1.2.0").previous == "v1.0.0"


def test_versions_that_only_the_remote_knows_are_fetched_first(world: World) -> None:
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.push()
    world.git("tag", "-d", "v1.0.0")

    with pytest.raises(TagsMissing) as raised:
        world.plan()

    assert str(raised.value) == "cannot tell the next version: tags of `origin` are not here: v1.0.0"
    assert (raised.value.exit_code, "git fetch --tags origin" in (raised.value.hint or "")) == (2, True)


def test_a_shallow_clone_is_refused_with_the_fix(world: World, tmp_path: Path) -> None:
    for number in range(3):
        world.commit(f"feat: {number}")
    world.push()
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", world.remote.as_uri(), str(shallow)], check=True)

    with pytest.raises(ShallowClone) as raised:
        make_plan(Repository(root=shallow), ReleaseSettings(), Request(name="app"))

    assert raised.value.exit_code == 2
    assert raised.value.hint == (
        "`git fetch --unshallow --tags`; in a workflow, `fetch-depth: 0` for its checkout"
    )


def test_what_cannot_be_released_is_said(world: World, tmp_path: Path) -> None:
    """No repository, no commit, a dirty tree, a remote that is gone."""
    (tmp_path / "bare").mkdir()

    with pytest.raises(NotReleasable) as raised:
        make_plan(Repository(root=tmp_path / "bare"), ReleaseSettings(), Request(name="app"))
    assert str(raised.value) == "cannot release `bare`: it is no git repository"

    with pytest.raises(NotReleasable) as raised:
        world.plan()
    assert str(raised.value) == "cannot release `work`: the repository has no commit"

    world.commit("feat: a")
    (world.root / "1.txt").write_text("changed\n", encoding="utf-8")
    (world.root / "untracked.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(DirtyTree) as dirty:
        world.plan()
    assert str(dirty.value) == "cannot release with uncommitted changes: `1.txt`"
    assert dirty.value.exit_code == 3

    world.git("checkout", "-q", "--", "1.txt")
    world.remote.rename(tmp_path / "gone")
    with pytest.raises(GitRefused, match="cannot list the tags of `origin`: git said: "):
        world.plan()


def test_what_the_first_number_is_before_is_said_by_people() -> None:
    """No commit makes 1.0.0 of 0.x."""
    assert Version(major=0, minor=9, patch=9).raised("major") == Version(major=0, minor=10, patch=0)


@pytest.mark.parametrize(
    "message",
    [b"feat: caf\xe9", b"feat: \xff\xfe\n\nBREAKING CHANGE: \x80", b"", b"\n\n", b"feat: \0x"[:7]],
    ids=["latin", "bytes", "empty", "lines", "nothing"],
)
def test_messages_that_are_no_text_do_no_harm(world: World, message: bytes) -> None:
    world.commit("feat: begin")
    world.tag("v1.0.0")
    tree = world.git("rev-parse", "HEAD^{tree}")
    parent = world.git("rev-parse", "HEAD")
    raw = f"tree {tree}\nparent {parent}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\n"
    sha = world.git(
        "hash-object", "-t", "commit", "-w", "--literally", "--stdin", given=raw.encode() + message
    )
    world.git("reset", "-q", "--hard", sha)
    world.commit("fix: after it")

    plan = world.plan()

    assert "- after it (" in plan.notes
    assert plan.notes.isprintable() or all(one.isprintable() or one == "\n" for one in plan.notes)

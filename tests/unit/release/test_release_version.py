"""The next version: from what the commits say, from the branch, from who asks; and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.config.release import ReleaseSettings
from pipeline.release.plan import NothingToRelease, Request, make_plan
from pipeline.release.version import BranchUnknown, NotAVersion, find_version

if TYPE_CHECKING:
    from tests.unit.release.world import World

NEXT = ReleaseSettings(prerelease={"next": "rc", "feature/*": "dev"})


@pytest.mark.parametrize(
    ("text", "semver", "pep440"),
    [
        ("1.2.3", "1.2.3", "1.2.3"),
        ("1.2.3-rc.1", "1.2.3-rc.1", "1.2.3rc1"),
        ("1.2.3rc1", "1.2.3-rc.1", "1.2.3rc1"),
        ("1.0.0-alpha.12", "1.0.0-alpha.12", "1.0.0a12"),
        ("1.0.0-beta.0", "1.0.0-beta.0", "1.0.0b0"),
        ("1.0.0.dev7", "1.0.0-dev.7", "1.0.0.dev7"),
    ],
)
def test_a_version_has_two_forms(text: str, semver: str, pep440: str) -> None:
    version = find_version(text)

    assert version is not None
    assert (str(version), version.pep440) == (semver, pep440)


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3+x", "1.2.3\n", "v1.2.3", "²"]
)
def test_what_is_no_version_is_none(text: str) -> None:
    assert find_version(text) is None


def test_versions_are_in_the_order_of_pep_440() -> None:
    texts = [
        "1.0.0-dev.1",
        "1.0.0-alpha.2",
        "1.0.0-beta.1",
        "1.0.0-rc.2",
        "1.0.0-rc.10",
        "1.0.0",
        "1.0.1",
        "2.0.0",
    ]
    found = [find_version(text) for text in texts]

    shuffled = [one for one in found if one is not None][::-1]

    assert [str(one) for one in sorted(shuffled, key=lambda one: one.order)] == texts


@pytest.mark.parametrize(
    ("last", "messages", "version"),
    [
        ("1.2.3", ["fix: a"], "1.2.4"),
        ("1.2.3", ["perf(db): a"], "1.2.4"),
        ("1.2.3", ["fix: a", "feat: b"], "1.3.0"),
        ("1.2.3", ["feat: b", "docs: c"], "1.3.0"),
        ("1.2.3", ["refactor!: a"], "2.0.0"),
        ("1.2.3", ["feat(api)!: a"], "2.0.0"),
        ("1.2.3", ["fix: a\n\nBREAKING CHANGE: all of it"], "2.0.0"),
        ("1.2.3", ["fix: a\n\nBREAKING-CHANGE: all of it"], "2.0.0"),
        ("1.2.3", ["FEAT: shouted"], "1.3.0"),
        ("0.2.3", ["feat!: a"], "0.3.0"),
        ("0.2.3", ["feat: a"], "0.3.0"),
        ("0.2.3", ["fix: a"], "0.2.4"),
        ("1.2.3", ["Mend the door"], "1.2.4"),
        ("1.2.3", ["chore: a\n\nRelease-As: 3.0.0"], "3.0.0"),
        ("1.2.3", ["chore: a\n\nRelease-As: 3.0.0", "chore: b\n\nrelease-as: 4.0.0"], "4.0.0"),
        ("0.9.0", ["feat: a\n\nRelease-As: 1.0.0"], "1.0.0"),
    ],
)
def test_the_commits_tell_the_next_version(
    world: World, last: str, messages: list[str], version: str
) -> None:
    """The oldest message comes first here; below 1.0.0 what breaks raises the minor number."""
    world.commit("feat: begin")
    world.tag(f"v{last}")
    for message in messages:
        world.commit(message)

    plan = world.plan()

    assert (str(plan.version), plan.tag) == (version, f"v{version}")


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "this commit has its tag already"),
        (
            ["docs: a", "chore(deps): b"],
            "since 1.2.3 there are only changes that release nothing: chore, docs",
        ),
    ],
    ids=["no commits", "only docs"],
)
def test_nothing_is_released_where_nothing_calls_for_it(world: World, messages: list[str], why: str) -> None:
    """A commit with a version's tag is that version."""
    sha = world.commit("feat: begin")
    world.tag("v1.2.3")
    for message in messages:
        sha = world.commit(message)

    made = make_plan(world.repository, ReleaseSettings(), Request(name="app"))

    if messages:
        assert made == NothingToRelease(why=why, commit=sha, previous="v1.2.3")
    else:
        assert (made.why, str(world.plan().version)) == (why, "1.2.3")


def test_the_first_release_is_0_1_0_unless_somebody_says_else(world: World) -> None:
    world.commit("docs: begin")

    plans = [world.plan(), world.plan(version="1.0.0"), world.plan(version="v2.0.0rc1")]

    assert [(str(plan.version), plan.why, plan.previous) for plan in plans] == [
        ("0.1.0", "it is the first release", None),
        ("1.0.0", "--version asks for it", None),
        ("2.0.0-rc.1", "--version asks for it", None),
    ]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("1.2", "it is no version such as 1.2.3 or 1.2.3-rc.1"),
        ("next", "it is no version such as 1.2.3 or 1.2.3-rc.1"),
        ("1.2.2", "--version asks for it, and it does not come after 1.2.3"),
        ("1.2.3", "--version asks for it, and it has a tag already"),
    ],
)
def test_a_version_that_cannot_come_next_is_refused(world: World, wanted: str, why: str) -> None:
    world.commit("feat: begin")
    world.tag("v1.2.3")
    world.commit("fix: a")

    with pytest.raises(NotAVersion) as raised:
        world.plan(version=wanted)

    assert str(raised.value) == f"cannot release `{wanted}`: {why}"


def test_a_revert_takes_back_what_is_not_released_yet(world: World) -> None:
    """The feature cancels out; the fix stays. A revert of the revert brings the feature back."""
    world.commit("feat: begin")
    world.tag("v1.0.0")
    feature = world.commit("feat: a door")
    world.commit("fix: the window")
    world.git("revert", "--no-edit", feature)

    without = world.plan()
    world.git("revert", "--no-edit", "HEAD")
    again = world.plan()

    assert (str(without.version), "a door" in without.notes) == ("1.0.1", False)
    assert (str(again.version), "a door" in again.notes) == ("1.1.0", True)


def test_a_revert_of_something_released_is_a_fix(world: World) -> None:
    feature = world.commit("feat: a door")
    world.tag("v1.0.0")
    world.git("revert", "--no-edit", feature)

    plan = world.plan()

    assert str(plan.version) == "1.0.1"
    assert '## Taken back\n- Revert "feat: a door"' in plan.notes


def test_the_footer_of_a_conventional_revert_counts(world: World) -> None:
    world.commit("feat: begin")
    world.tag("v1.0.0")
    feature = world.commit("feat: a door")
    world.commit(f"revert: let us forget the door\n\nRefs: {feature[:8]}")

    made = make_plan(world.repository, ReleaseSettings(), Request(name="app"))

    assert isinstance(made, NothingToRelease)


def test_merged_squashed_and_rebased_branches_say_the_same(world: World) -> None:
    """A merge speaks by the commits it brings, a squash by its subject, or by the list in its body."""
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.git("checkout", "-q", "-b", "door")
    world.commit("feat: a door", file="door")
    world.commit("fix: its hinge", file="hinge")
    world.git("checkout", "-q", "main")
    found = {}

    world.git("merge", "-q", "--no-ff", "-m", "Merge pull request #7 from ann/door\n\nA door", "door")
    found["merge"] = world.plan()
    world.git("reset", "-q", "--hard", "HEAD~1")
    world.git("merge", "-q", "--ff-only", "door")
    found["rebase"] = world.plan()
    world.git("reset", "-q", "--hard", "HEAD~2")
    world.git("merge", "-q", "--squash", "door")
    world.git("commit", "-q", "-m", "A door (#7)\n\n* feat: a door\n\n* fix: its hinge")
    found["squash"] = world.plan()

    assert {name: str(plan.version) for name, plan in found.items()} == dict.fromkeys(found, "1.1.0")
    for plan in found.values():
        assert "## Features\n- a door (" in plan.notes
        assert "## Fixes\n- its hinge (" in plan.notes
    assert "(#7, " in found["squash"].notes


def test_a_branch_makes_pre_releases_and_counts_them(world: World) -> None:
    """They are of the version that comes; the release on the other branch takes it."""
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.git("checkout", "-q", "-b", "next")
    world.commit("fix: a")
    first = world.plan(NEXT)
    world.tag(first.tag)
    world.commit("fix: b")
    second = world.plan(NEXT)
    world.tag(second.tag)
    world.commit("feat: c")
    third = world.plan(NEXT)
    world.tag(third.tag)

    world.git("checkout", "-q", "main")
    world.git("merge", "-q", "--ff-only", "next")
    release = world.plan(NEXT)

    assert [one.tag for one in (first, second, third, release)] == [
        "v1.0.1-rc.1",
        "v1.0.1-rc.2",
        "v1.1.0-rc.1",
        "v1.1.0",
    ]
    assert (second.previous, release.previous) == ("v1.0.1-rc.1", "v1.0.0")
    assert "- b (" in second.notes
    assert "- a (" not in second.notes
    assert all(f"- {one} (" in release.notes for one in "abc")


def test_a_footer_says_which_version_a_pre_release_is_before(world: World) -> None:
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.git("checkout", "-q", "-b", "next")
    world.commit("fix: a\n\nRelease-As: 2.0.0")
    first = world.plan(NEXT)
    world.tag(first.tag)
    world.commit("fix: b")

    assert [first.tag, world.plan(NEXT).tag, world.plan(NEXT, branch="main").tag] == [
        "v2.0.0-rc.1",
        "v2.0.0-rc.2",
        "v2.0.0",
    ]


def test_a_pre_release_needs_something_new(world: World) -> None:
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.git("checkout", "-q", "-b", "feature/door")
    world.commit("feat: a")
    world.tag("v1.1.0-dev.1")

    assert world.plan(NEXT).why == "this commit has its tag already"
    world.commit("docs: a")
    assert world.plan(NEXT).tag == "v1.1.0-dev.2"


def test_without_a_branch_the_kind_of_release_is_asked_for(world: World) -> None:
    """A detached head is fine where the branch decides nothing, or is named."""
    world.commit("feat: begin")
    world.git("checkout", "-q", "--detach")

    with pytest.raises(BranchUnknown):
        world.plan(NEXT)

    assert world.plan().branch == ""
    assert world.plan(NEXT, branch="next").tag == "v0.1.0-rc.1"
    assert world.plan(NEXT, branch="main").tag == "v0.1.0"

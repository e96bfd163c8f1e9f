"""A release gets out whole: signed tags, hooks that refuse, kills between steps, tags that are taken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.config.release import ReleaseSettings
from pipeline.release.history import TagElsewhere
from pipeline.release.publish import NotKept, ReleaseAtWork, ReleaseUnfinished, publish
from pipeline.release.signing import CannotSign, SignatureBad, Signer, SignersUnknown, find_signer
from pipeline.release.tag import NotOurTag, TagRejected, check_tag, read_tag
from tests.unit.release.world import World, allow, ssh_key, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = "sha256:" + "cd" * 32
STEPS = ["notes", "attestation", "tag", "push", "close"]


def released(world: World, tmp_path: Path, **more: object) -> dict[str, str]:
    """Release what there is; what became of each step."""
    return dict(
        publish(
            world.plan(files=[wheel(tmp_path / "dist", "0.1.0")], images={"app": IMAGE}), world.places(**more)
        )
    )


def test_a_release_is_a_tag_that_carries_the_digests(world: World, tmp_path: Path) -> None:
    """Annotated, pushed, and nothing is committed to the branch."""
    sha = world.commit("feat: begin\n\nPlan: sha256:" + "0" * 64)
    world.push()
    plan = world.plan(files=[wheel(tmp_path / "dist", "0.1.0")], images={"app": IMAGE})

    told = released(world, tmp_path)

    assert told == dict.fromkeys(STEPS, "done")
    assert world.remote_tags() == {"v0.1.0": sha}
    message = world.git("tag", "-l", "--format=%(contents)", "v0.1.0")
    assert message.splitlines() == [
        "app 0.1.0",
        "",
        f"Plan: {plan.digest}",
        message.splitlines()[3],
        f"Image: app {IMAGE}",
        *(f"File: {one.name} {one.digest}" for one in plan.files),
    ]
    assert world.git("rev-parse", "HEAD") == sha
    kept = sorted(os.listdir(tmp_path / "kept"))
    assert kept == [".lock", "notes.md", "provenance.intoto.json", "release.json", "sbom.cdx.json"]
    assert json.loads((tmp_path / "kept/release.json").read_text())["plan"] == plan.digest


def test_a_release_that_is_out_changes_nothing_when_it_is_asked_for_again(
    world: World, tmp_path: Path
) -> None:
    world.commit("feat: begin")
    released(world, tmp_path)
    before = world.git("rev-parse", "refs/tags/v0.1.0")

    again = released(world, tmp_path)
    shutil.rmtree(tmp_path / "kept")
    elsewhere = released(world, tmp_path)

    assert again == dict.fromkeys(STEPS, "found")
    assert elsewhere == {**dict.fromkeys(STEPS, "done"), "tag": "found", "push": "found"}
    assert world.git("rev-parse", "refs/tags/v0.1.0") == before


def test_without_a_remote_the_tag_stays_here(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")
    world.git("remote", "remove", "origin")

    told = released(world, tmp_path, remote=None)

    assert list(told) == ["notes", "attestation", "tag", "close"]
    assert world.local_tags() == ["v0.1.0"]


def test_a_tag_is_signed_by_ssh(world: World, tmp_path: Path) -> None:
    """Git's own check says who; a key that nobody allowed does not count; without a list nothing is known."""
    world.commit("feat: begin")
    signer, other = ssh_key(tmp_path / "keys"), ssh_key(tmp_path / "others")
    released(world, tmp_path, signer=signer)

    allowed = allow(tmp_path / "keys", signer)
    assert 'Good "git" signature for releaser@example.org' in check_tag(world.repository, "v0.1.0", allowed)
    with pytest.raises(SignatureBad):
        check_tag(world.repository, "v0.1.0", allow(tmp_path / "others", other))
    with pytest.raises(SignersUnknown):
        check_tag(world.repository, "v0.1.0", None)
    message = read_tag(world.repository, "v0.1.0")
    assert message is not None
    assert message.is_signed
    assert message.images == {"app": IMAGE}


@pytest.fixture
def gpg_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of gpg with one key; its path is short, as sockets need it."""
    home = Path(f"/tmp/gpg-{os.getpid()}")
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    argv = ["gpg", "--batch", "--pinentry-mode=loopback", "--passphrase", "", "--quick-gen-key"]
    subprocess.run(
        [*argv, "Releaser <releaser@example.org>", "ed25519", "sign"], check=True, capture_output=True
    )
    yield home
    subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_a_tag_is_signed_by_gpg(world: World, tmp_path: Path, gpg_home: Path) -> None:
    world.commit("feat: begin")
    signer = Signer(kind="gpg", key="releaser@example.org")

    released(world, tmp_path, signer=signer)

    assert "Good signature from" in check_tag(world.repository, "v0.1.0", None)
    assert "Releaser <releaser@example.org>" in check_tag(world.repository, "v0.1.0", None)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (ReleaseSettings(sign="ssh"), "cannot sign the release: no key is named"),
        (ReleaseSettings(sign="ssh", key="gone"), "cannot sign the release: there is no ssh key at `gone`"),
        (ReleaseSettings(sign="gpg", key="-x"), "cannot sign the release: `-x` is no name of a gpg key"),
    ],
    ids=["none", "gone", "option"],
)
def test_without_a_key_nothing_is_signed(world: World, settings: ReleaseSettings, why: str) -> None:
    with pytest.raises(CannotSign) as raised:
        find_signer(world.repository, settings)

    assert (str(raised.value), raised.value.exit_code) == (why, 2)


def test_a_key_is_named_by_the_settings_or_by_git(world: World, tmp_path: Path) -> None:
    signer = ssh_key(tmp_path / "keys")
    world.git("config", "user.signingkey", signer.key)

    found = [find_signer(world.repository, one) for one in (ReleaseSettings(sign="ssh"), ReleaseSettings())]

    assert found == [signer, None]


def test_a_damaged_key_leaves_no_tag(world: World, tmp_path: Path) -> None:
    """The attestation is signed first: nothing is changed."""
    world.commit("feat: begin")
    (tmp_path / "bad").write_text("no key\n", encoding="utf-8")

    with pytest.raises(CannotSign):
        released(world, tmp_path, signer=Signer(kind="ssh", key=str(tmp_path / "bad")))

    assert world.local_tags() == []


def test_a_hook_that_refuses_the_tag_leaves_none_behind(world: World, tmp_path: Path) -> None:
    """It is refused by name, with the hook's words; one run after the hook allows it completes."""
    sha = world.commit("feat: begin")
    world.push()
    world.hook("update", 'case "$1" in refs/tags/*) echo "no tags on Fridays"; exit 1;; esac')

    with pytest.raises(TagRejected) as raised:
        released(world, tmp_path)

    assert str(raised.value) == (
        "cannot push the tag `v0.1.0`: `origin` refused it, and it was removed here: "
        "no tags on Fridays; error: hook declined to update refs/tags/v0.1.0; hook declined"
    )
    assert raised.value.exit_code == 3
    assert (world.local_tags(), world.remote_tags()) == ([], {})

    world.hook("update", "exit 0")
    released(world, tmp_path)
    assert (world.local_tags(), world.remote_tags()) == (["v0.1.0"], {"v0.1.0": sha})


def test_a_remote_that_goes_away_leaves_a_release_to_go_on_with(world: World, tmp_path: Path) -> None:
    """It is gone when the tag is made: the tag stays, the code is 7, and the next run pushes it."""
    world.commit("feat: begin")
    world.push()
    gone = tmp_path / "gone.git"
    plan, places = world.plan(), world.places()

    def lose(step: str, moment: str) -> None:
        if (step, moment) == ("push", "begins"):
            world.remote.rename(gone)

    with pytest.raises(ReleaseUnfinished) as raised:
        publish(plan, places, lose)

    assert (raised.value.exit_code, raised.value.step) == (7, "push")
    assert "it goes on at the step `push`" in (raised.value.hint or "")
    gone.rename(world.remote)
    assert publish(plan, places)["tag"] == "found"
    assert list(world.remote_tags()) == ["v0.1.0"]


def test_the_same_tag_elsewhere_is_refused(world: World, tmp_path: Path) -> None:
    """Somebody pushed it to another commit after the plan was made: nothing is tagged here."""
    first = world.commit("feat: begin")
    world.commit("feat: more")
    world.push()
    plan, places = world.plan(), world.places()

    def race(step: str, moment: str) -> None:
        if (step, moment) == ("push", "begins"):
            subprocess.run(["git", "tag", "v0.1.0", first], cwd=world.remote, check=True)

    with pytest.raises(TagElsewhere) as raised:
        publish(plan, places, race)

    assert str(raised.value) == (
        f"cannot release `v0.1.0`: `origin` has that tag on another commit, {first[:12]}"
    )
    assert raised.value.exit_code == 3
    assert (world.local_tags(), world.remote_tags()) == ([], {"v0.1.0": first})
    with pytest.raises(TagElsewhere):
        publish(plan, places)


@pytest.mark.parametrize("moment", ["before the push", "during the push"])
def test_another_machine_that_was_faster_with_the_same_plan_is_no_harm(
    world: World, tmp_path: Path, moment: str
) -> None:
    """Its tag is taken in place of the one made here; both machines end with the same."""
    world.commit("feat: begin")
    world.push()
    other = make_clone(world, tmp_path)
    plan, places = world.plan(), world.places()

    def race(step: str, when: str) -> None:
        if (step, when) == ("push", "begins") and moment == "before the push":
            publish(other.plan(), other.places(folder=tmp_path / "other-kept"))

    if moment == "during the push":
        publish(other.plan(), other.places(folder=tmp_path / "other-kept"))
        tag = other.git("rev-parse", "refs/tags/v0.1.0")
        other.git("push", "-q", "origin", "refs/tags/v0.1.0:refs/kept/tag")
        other.git("push", "-q", "--delete", "origin", "v0.1.0")
        script = f"git --git-dir={world.remote} update-ref refs/tags/v0.1.0 {tag}"
        world.hook("pre-push", script, remote=False)

    told = publish(plan, places, race)

    assert told["push"] == "done"
    here, there = (one.git("rev-parse", "refs/tags/v0.1.0") for one in (world, other))
    assert here == there
    assert publish(plan, places) == dict.fromkeys(STEPS, "found")


def make_clone(world: World, tmp_path: Path) -> World:
    clone = tmp_path / "clone"
    world.git("clone", "-q", str(world.remote), str(clone))
    made = World(root=clone, remote=world.remote)
    made.git("config", "user.name", "Somebody Else")  # whose tags are other objects, whatever the second
    return made


@pytest.mark.parametrize("kind", ["lightweight", "foreign", "other plan", "unsigned"])
def test_a_tag_on_the_commit_that_is_not_the_plans_is_refused(
    world: World, tmp_path: Path, kind: str
) -> None:
    """Tags are never replaced; it is said what differs."""
    world.commit("feat: begin")
    signer = None
    if kind == "lightweight":
        world.git("tag", "v0.1.0")
    elif kind == "foreign":
        world.git("tag", "-a", "-m", "by hand", "v0.1.0")
    else:
        publish(world.plan(files=[wheel(tmp_path / "first", "0.1.0", content="x = 1\n")]), world.places())
    files = [wheel(tmp_path / "dist", "0.1.0")]
    if kind == "unsigned":
        signer = ssh_key(tmp_path / "keys")
        files = [wheel(tmp_path / "dist", "0.1.0", content="x = 1\n")]
    before = world.git("rev-parse", "refs/tags/v0.1.0")

    with pytest.raises(NotOurTag) as raised:
        publish(world.plan(files=files), world.places(signer=signer))

    assert (
        str(raised.value).removeprefix("cannot release `v0.1.0`: the tag is there already, and ")
        == {
            "lightweight": "does not say which release it is",
            "foreign": "does not say which release it is",
            "other plan": "is of another plan: app-0.1.0-py3-none-any.whl, sbom.cdx.json",
            "unsigned": "is not signed",
        }[kind]
    )
    assert raised.value.exit_code == 3
    assert world.git("rev-parse", "refs/tags/v0.1.0") == before


def test_floating_tags_follow_and_only_from_where_they_were(world: World, tmp_path: Path) -> None:
    """They are pushed with the version's tag, all or none; who moves one meanwhile is not overrun."""
    settings = ReleaseSettings(floating=("major", "minor"))
    first = world.commit("feat: begin")
    publish(world.plan(settings, version="1.0.0"), world.places())
    second = world.commit("fix: a")
    publish(world.plan(settings), world.places())
    assert world.remote_tags() == {"v1.0.0": first, "v1.0.1": second, "v1": second, "v1.0": second}

    third = world.commit("fix: b")
    world.push()
    world.hook("pre-push", f"git --git-dir={world.remote} update-ref refs/tags/v1 {first}", remote=False)
    plan, places = world.plan(settings), world.places()

    with pytest.raises(TagRejected):
        publish(plan, places)
    assert world.remote_tags() == {"v1.0.0": first, "v1.0.1": second, "v1": first, "v1.0": second}
    assert "v1.0.2" not in world.local_tags()

    world.hook("pre-push", "exit 0", remote=False)
    publish(plan, places)
    assert world.remote_tags()["v1"] == world.remote_tags()["v1.0.2"] == third


def test_a_tag_says_who_even_where_git_knows_nobody(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")

    released(world, tmp_path)

    assert world.git("tag", "-l", "--format=%(taggername) %(taggeremail)") == "pipeline <pipeline@localhost>"


def test_two_at_once_are_kept_apart(world: World, tmp_path: Path) -> None:
    """The second is refused by name and changes nothing."""
    world.commit("feat: begin")
    plan, places = world.plan(), world.places()

    def second(step: str, moment: str) -> None:
        if (step, moment) == ("tag", "begins"):
            with pytest.raises(ReleaseAtWork, match=r"cannot release `v0\.1\.0`: another process is at it"):
                publish(plan, places)

    publish(plan, places, second)

    assert world.local_tags() == ["v0.1.0"]


def test_a_folder_that_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")
    (tmp_path / "kept").write_text("a file\n", encoding="utf-8")

    with pytest.raises(NotKept) as raised:
        released(world, tmp_path)

    assert (str(raised.value), world.local_tags()) == ("cannot keep `kept`: file exists", [])

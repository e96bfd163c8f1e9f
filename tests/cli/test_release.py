"""`pipeline release`: planned, published and verified in a real repository, with its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import Answer, CliProject, lines
from tests.unit.release.world import ISOLATED, World, allow, make_world, ssh_key, wheel

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "sha256:" + "ab" * 32
GIT = {**ISOLATED, "PIPELINE_CA_BUNDLE": "", "GITHUB_ACTIONS": "", "CI_COMMIT_BRANCH": ""}
SETTINGS = '[project]\nname = "shop"\nversion = "0.1.0"\n[tool.pipeline.release]\nwhen = "after_health"\n'


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    (made.root / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    (made.root / ".gitignore").write_text("dist/\n", encoding="utf-8")
    made.commit("feat: a shop")
    return made


@pytest.fixture
def cli(world: World, tmp_path: Path) -> CliProject:
    (tmp_path / "home").mkdir()
    return CliProject(root=world.root, home=tmp_path / "home")


def ask(cli: CliProject, *argv: str) -> Answer:
    return cli.run("release", *argv, environ=GIT)


def test_the_plan_is_shown_and_nothing_is_changed(world: World, cli: CliProject) -> None:
    """The version and why, what it consists of, the steps, the notes."""
    sha = world.git("rev-parse", "HEAD")

    answer = ask(cli, "plan")

    told = json.loads(ask(cli, "plan", "--json").stdout)
    bill = told["files"][0]
    assert answer.stdout == lines(
        f"""
        shop 0.1.0: it is the first release
        tag     v0.1.0
        commit  {sha[:12]} on main
        since   the beginning
        plan    {told["plan"]}
        file    sbom.cdx.json  {bill["digest"]}
        step    notes
        step    attestation
        step    tag
        step    push
        step    close

        ## Features
        - a shop ({sha[:8]})

        ## Contributors
        - Ann
        """
    )
    assert (answer.code, answer.stderr) == (0, "")
    assert {name: told[name] for name in ("version", "tag", "commit", "previous", "prerelease", "steps")} == {
        "version": "0.1.0",
        "tag": "v0.1.0",
        "commit": sha,
        "previous": None,
        "prerelease": False,
        "steps": dict.fromkeys(["notes", "attestation", "tag", "push", "close"], False),
    }
    assert (world.local_tags(), world.remote_tags(), os.path.exists(world.root / ".pipeline")) == (
        [],
        {},
        False,
    )


def test_a_changelog_section_is_written_on_request(cli: CliProject) -> None:
    answer = ask(cli, "plan", "--changelog")

    assert answer.stdout == "## [0.1.0] - 2026-01-02\n\n### Added\n- a shop\n"


def test_a_release_is_published_and_verified(world: World, cli: CliProject, tmp_path: Path) -> None:
    """Signed by the key of the settings; the second time everything is done already."""
    signer = ssh_key(tmp_path / "keys")
    allowed = allow(tmp_path / "keys", signer)
    more = f'sign = "ssh"\nkey = "{signer.key}"\nallowed_signers = "{allowed}"\n'
    (world.root / "pyproject.toml").write_text(SETTINGS + more, encoding="utf-8")
    world.commit("fix: sign")
    wheel(world.root / "dist", "0.1.0", "shop")

    plan = json.loads(ask(cli, "plan", "--json").stdout)
    first = ask(cli, "publish", "--expect", plan["plan"])
    again = ask(cli, "publish", "--json")
    checked = ask(cli, "verify", "v0.1.0", "--json")

    assert (first.stdout, first.code) == ("released shop 0.1.0 as v0.1.0\n", 0)
    assert first.stderr.splitlines()[-2:] == ["close: begins", "close: done"]
    assert json.loads(again.stdout)["steps"] == dict.fromkeys(plan["steps"], "found")
    told = json.loads(checked.stdout)
    assert ({one["result"] for one in told["checks"]}, told["result"], checked.code) == ({"good"}, "good", 0)
    assert world.remote_tags() == {"v0.1.0": world.git("rev-parse", "HEAD")}
    assert world.git("status", "--porcelain") == ""


def test_a_file_that_was_changed_since_is_told(world: World, cli: CliProject) -> None:
    wheel(world.root / "dist", "0.1.0", "shop")
    ask(cli, "publish")
    wheel(world.root / "dist", "0.1.0", "shop", content="evil = True\n")

    answer = ask(cli, "verify", "v0.1.0")

    assert answer.code == 1
    assert "bad      shop-0.1.0-py3-none-any.whl   its digest is not that of the tag\n" in answer.stdout
    assert answer.stdout.endswith("v0.1.0 is not what it says\n")


def test_images_wait_for_production(world: World, cli: CliProject) -> None:
    """Code 6; with --without-health they are released, and `verify` still says that it is not known."""
    asked = ("--image", f"shop={IMAGE}")

    waiting = ask(cli, "publish", *asked)
    released = ask(cli, "publish", *asked, "--without-health")
    checked = ask(cli, "verify", "v0.1.0")

    assert (waiting.code, waiting.stdout) == (6, "")
    assert waiting.stderr.splitlines()[0] == (
        "error: cannot release the image `shop` before production proved it: "
        "not known here: there is no deployment history"
    )
    assert (released.code, checked.code) == (0, 6)
    assert "unknown  production ran shop" in checked.stdout


def test_nothing_to_release_is_no_failure(world: World, cli: CliProject) -> None:
    ask(cli, "publish")
    world.commit("docs: words")

    answers = [ask(cli, word) for word in ("plan", "publish")]
    table = ask(cli, "plan", "--json")

    why = "since 0.1.0 there are only changes that release nothing: docs"
    assert [(one.stdout, one.code) for one in answers] == [(f"nothing to release: {why}\n", 0)] * 2
    assert (json.loads(table.stdout)["version"], json.loads(table.stdout)["why"]) == (None, why)


def test_refusals_have_their_codes(world: World, cli: CliProject) -> None:
    """2 for wrong use, 3 for what is forbidden; the sentence says what to do."""
    wrong = ask(cli, "plan", "--version", "0.0")
    image = ask(cli, "plan", "--image", "shop")
    expected = ask(cli, "publish", "--expect", "sha256:0")
    missing = ask(cli, "verify", "v9.9.9")
    (world.root / "1.txt").write_text("changed\n", encoding="utf-8")
    dirty = ask(cli, "plan")
    world.git("checkout", "-q", "--", ".")
    world.hook("update", 'case "$1" in refs/tags/*) echo "no tags on Fridays"; exit 1;; esac')
    hook = ask(cli, "publish")

    assert [one.code for one in (wrong, image, expected, missing, dirty, hook)] == [2, 2, 3, 2, 3, 3]
    assert dirty.stderr == (
        "error: cannot release with uncommitted changes: `1.txt`\nhint: commit them, or `git stash`\n"
    )
    assert "no tags on Fridays" in hook.stderr
    assert world.local_tags() == []


def test_an_unfinished_release_has_the_code_7_and_goes_on(
    world: World, cli: CliProject, tmp_path: Path
) -> None:
    """The remote went away between the tag and its push."""
    gone = tmp_path / "gone.git"
    world.hook(
        "reference-transaction", f'[ "$1" = committed ] && mv {world.remote} {gone}; exit 0', remote=False
    )

    broken = ask(cli, "publish")
    (world.root / ".git/hooks/reference-transaction").unlink()
    gone.rename(world.remote)
    whole = ask(cli, "publish")

    assert broken.code == 7
    assert "hint: run it again: it goes on at the step `push`" in broken.stderr
    assert (whole.code, whole.stderr.splitlines()[2:4]) == (0, ["tag: done already", "push: begins"])
    assert list(world.remote_tags()) == ["v0.1.0"]


def test_outside_a_repository_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "home").mkdir()
    cli = CliProject(root=tmp_path / "project", home=tmp_path / "home")

    answer = ask(cli, "plan")

    assert (answer.code, answer.stderr) == (2, "error: cannot release `project`: it is no git repository\n")


def test_a_shallow_clone_is_told_what_to_do(world: World, cli: CliProject, tmp_path: Path) -> None:
    world.commit("fix: more")
    world.push()
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", world.remote.as_uri(), str(shallow)], check=True)

    answer = ask(cli, "plan", "-C", str(shallow))

    assert answer.code == 2
    assert "`git fetch --unshallow --tags`; in a workflow, `fetch-depth: 0`" in answer.stderr

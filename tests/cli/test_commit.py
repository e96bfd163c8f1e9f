"""`--commit REF`: a run of exactly what was committed, beside a working tree that says something else."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import Answer, lines

if TYPE_CHECKING:
    from tests.cli.harness import CliProject


def git(cli: CliProject, *argv: str) -> str:
    """Run git in the project."""
    named = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *argv]
    return subprocess.run(named, cwd=cli.root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def committed(cli: CliProject) -> CliProject:
    """A project with one commit, in a git repository."""
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        git(cli, *argv)
    return cli


def test_a_commit_is_run_and_the_working_tree_left_alone(committed: CliProject) -> None:
    """Its stages, files and settings count; the record is the project's, and is clean."""
    committed.write({"src/a.txt": "changed\n", "ci/stages.py": "broken(", "tests/good.txt": "also changed\n"})

    answer = committed("run", "-q", "--commit", "HEAD", "--json")

    record = json.loads(answer.stdout)
    assert (answer.code, record["outcome"]) == (0, "success")
    assert (record["commit"], record["dirty"]) == (git(committed, "rev-parse", "HEAD"), False)
    made = next((committed.root / ".pipeline/runs").glob("*/stages/make/result.json"))
    assert json.loads(made.read_text())["result"] == "one\n"
    assert (committed.root / "src/a.txt").read_text() == "changed\n"
    assert git(committed, "status", "--porcelain").split() == [
        "M",
        "ci/stages.py",
        "M",
        "src/a.txt",
        "M",
        "tests/good.txt",
    ]


def test_a_commit_shares_the_cache_with_the_working_tree(committed: CliProject) -> None:
    """Equal inputs are equal, wherever they lie."""
    committed("run", "-q")

    answer = committed("run", "-q", "--commit", "HEAD")

    assert answer.stdout.splitlines()[0] == "passed: 1 skipped, 3 cached in TIME"


def test_a_failure_says_how_to_see_it_again_in_that_commit(committed: CliProject) -> None:
    """The working tree may not fail at all."""
    committed.write({"tests/bad.txt": ""})
    git(committed, "add", "-A")
    git(committed, "commit", "-q", "-m", "bad")
    (committed.root / "tests/bad.txt").unlink()

    answer = committed("run", "-q", "--commit", "HEAD", "--only", "check")

    sha = git(committed, "rev-parse", "HEAD")[:12]
    assert answer.code == 1
    assert f"reproduce: pipeline run --only check --commit {sha}" in answer.stdout


def test_a_damaged_work_tree_of_a_commit_is_made_anew(committed: CliProject) -> None:
    """Whatever wrote into it: what is run is what was committed."""
    committed("plan", "--commit", "HEAD")
    source = next((committed.root / ".pipeline/commits").glob("*/project/src/a.txt"))
    source.write_text("tampered\n")

    answer = committed("run", "-q", "--commit", "HEAD", "--only", "make")

    assert answer.code == 0
    assert source.read_text() == "one\n"


def test_only_some_commits_are_kept(committed: CliProject) -> None:
    """Checkouts of old commits do not pile up."""
    for number in range(5):
        git(committed, "commit", "-q", "--allow-empty", "-m", str(number))

        committed("plan", "--commit", "HEAD")

    kept = sorted(one.name for one in (committed.root / ".pipeline/commits").iterdir() if one.is_dir())
    assert kept == sorted(git(committed, "rev-parse", f"HEAD~{back}")[:12] for back in range(3))


@pytest.mark.parametrize("ref", ["nowhere", "--upload-pack=x", ""])
def test_an_unknown_commit_is_wrong_use(committed: CliProject, ref: str) -> None:
    """One sentence, with git's own words; nothing is run."""
    answer = committed("run", f"--commit={ref}")

    assert answer == Answer(
        stdout="",
        stderr=lines(f"""
            error: cannot run the commit `{ref}`: Needed a single revision
            hint: `git fetch` brings what only the remote has
        """),
        code=2,
    )


def test_a_project_outside_git_has_no_commits(cli: CliProject) -> None:
    """It says so."""
    answer = cli("run", "--commit", "HEAD")

    assert answer.code == 2
    assert answer.stderr.startswith("error: cannot run the commit `HEAD`: not a git repository")

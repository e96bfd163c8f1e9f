"""The example is green as it is; of each fault planted in it the stage meant for it tells, and no other.

Faults that do not touch each other are planted together, so that a few runs plant them all. A stage that
fails must tell of its own fault and of nothing else; every other stage must be green, or wait for one that
is not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from ci.example.plant import CannotPlant, load_faults, plant
from tests.pipelines.projects import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pipelines.projects import Ran

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE: Final = Path(__file__).parents[2] / "ci" / "example"
FAULTS: Final = load_faults()
TRIES: Final = 4  # of a load test, which a busy machine keeps from proving anything
TOO_BUSY: Final = "the load test proves nothing"
ONE_PROBLEM: Final = re.compile(r"1 (?:of \d+ tests failed|finding blocks)\b|\w+: 1 of the checks found")

# Faults that are planted together, and the stages that cannot run then.
GROUPS: Final = {
    "locks and what runs": (
        ("old-certificates", "copyleft", "limit-never-on", "unused-import", "key-in-tree"),
        {"coverage"},
    ),
    "what users meet": (
        ("query-of-sqlite", "shell", "root", "one-at-a-time", "reflected-words"),
        {"coverage"},
    ),
    "what lies deeper": (
        ("untested-module", "key-in-history", "old-package-in-image", "dice-in-wheel", "needs-nobody"),
        set(),
    ),
    "what is built": (("wrong-order", "sdist-forgets", "key-in-layer"), {"coverage"}),
    "what is shipped": (
        ("scripts-allowed", "missing-folder", "injected-title"),
        {"coverage", "image_scan", "performance", "dast"},
    ),
    "what all need": (
        ("wrong-hash",),
        {"build", "unit", "integration", "e2e", "security_tests", "coverage"},
    ),
}


@pytest.fixture(scope="module")
def green(tmp_path_factory: pytest.TempPathFactory, store: Path) -> tuple[Repository, Ran]:
    """The example in a repository of its own, after its first run. Do not change it: take a copy."""
    root = tmp_path_factory.mktemp("example") / "notes"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns(".*_cache", "__pycache__", ".pipeline"))
    made = Repository(root=root, store=store)
    made.git("init", "-q", "-b", "main")
    made.commit()
    return made, run_whole(made)


def run_whole(project: Repository) -> Ran:
    """Run everything; what a busy machine kept from being measured is measured again."""
    ran = project.run("--keep-going")
    for _ in range(TRIES - 1):
        if ran.outcomes["performance"] != "error" or TOO_BUSY not in message(ran, "performance"):
            break
        again = project.run("--only", "performance")
        if again.outcomes["performance"] != "error":
            return project.run("--keep-going") if again.code == 0 else ran
    return ran


def message(ran: Ran, stage: str) -> str:
    """What a failed stage says first."""
    failure: dict[str, Any] = ran.result(stage)["failure"]
    return str(failure["message"])


def said(ran: Ran, stage: str) -> str:
    """All that a failed stage says."""
    failure: dict[str, Any] = ran.result(stage)["failure"]
    return "\n".join([str(failure["message"]), *failure["tail"]])


def named(ran: Ran, *outcomes: str) -> set[str]:
    """The stages that ended so."""
    return {name for name, outcome in ran.outcomes.items() if outcome in outcomes}


def test_the_example_is_green_and_each_scan_looked_at_everything(green: tuple[Repository, Ran]) -> None:
    """No stage is left out, none warns, and nothing was kept from a scanner."""
    _, ran = green

    assert (ran.code, named(ran, "success", "cached")) == (0, set(ran.outcomes)), ran.stdout
    assert {one.stage for one in FAULTS.values()} == set(ran.outcomes) - {"checkout"}
    assert "warning" not in ran.stderr, ran.stderr


def test_every_fault_is_planted_once() -> None:
    """A fault nobody plants would be found by nobody."""
    planted = [name for names, _ in GROUPS.values() for name in names]

    assert sorted(planted) == sorted(FAULTS)


@pytest.fixture
def copied(green: tuple[Repository, Ran], tmp_path: Path) -> Iterator[Repository]:
    """A copy of the green example with its stage cache; images are large, so it does not stay."""
    done, ran = green
    assert ran.code == 0, ran.stdout
    root = tmp_path / "notes"
    shutil.copytree(done.root, root, symlinks=True, ignore=shutil.ignore_patterns("runs"))
    yield replace(done, root=root)
    shutil.rmtree(root)


@pytest.mark.parametrize("group", GROUPS)
def test_the_stages_meant_for_faults_tell_of_them_and_no_others(copied: Repository, group: str) -> None:
    """Exit code 1; each sentence is where it belongs, and each stage tells of one problem."""
    names, waiting = GROUPS[group]
    faults = [FAULTS[name] for name in names]
    for fault in faults:
        plant(fault, copied.root)

    ran = run_whole(copied)

    assert (ran.code, named(ran, "failure", "error")) == (1, {one.stage for one in faults}), ran.stdout
    assert named(ran, "skip") == waiting, ran.stdout
    for fault in faults:
        told = said(ran, fault.stage)
        assert [part for part in fault.says if part not in told] == [], told
        counted = fault.stage not in ("deps", "build", "container_build", "coverage", "performance")
        assert bool(ONE_PROBLEM.match(message(ran, fault.stage))) is counted, told


def test_a_fault_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """Neither in a project that is another, nor a second time."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "deploy.env").write_text("mine\n")

    with pytest.raises(CannotPlant, match=r"cannot add `deploy.env`: it is there already"):
        plant(FAULTS["key-in-tree"], tmp_path)
    with pytest.raises(CannotPlant, match=r"cannot change `Dockerfile`: `USER notes\n` is in it 0 times"):
        plant(FAULTS["root"], tmp_path)

    assert [path.name for path in tmp_path.iterdir() if path.name != ".git"] == ["deploy.env"]

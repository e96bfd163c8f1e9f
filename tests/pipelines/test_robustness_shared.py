"""Runs and engines side by side on the same files: none disturbs another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pipelines.robust import STAGES, RobustProject, finish, make_project, problems_of_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.root
def test_two_runs_at_once_in_one_checkout_both_succeed(project: RobustProject) -> None:
    """Each has a folder of its own with the right results, whichever of them did the work."""
    both = [project.start("run"), project.start("run", "--no-cache")]
    ended = [finish(process) for process in both]

    assert [done.code for done in ended] == [0, 0], ended
    first, second = project.runs()
    assert first.name != second.name
    for run in (first, second):
        assert project.result("join", run) == project.expected("first")
        assert project.result("image", run) == "first\n"
    assert project.result("tree", first) == project.result("tree", second)
    assert project.left() == {}
    assert problems_of_store(project.store) == []


@pytest.mark.root
def test_four_engines_on_one_store_keep_their_results_apart(project: RobustProject, tmp_path: Path) -> None:
    """Four projects, alike but for one file, share a store and a network at the same time."""
    projects = []
    for number in range(4):
        one = make_project(tmp_path / f"other{number}", project.rootfs, project.room, store=project.store)
        one.write({"ci/stages.py": STAGES, "salt.txt": f"salt{number}"})
        projects.append(one)

    ended = [finish(process) for process in [one.start("run") for one in projects]]

    assert [done.code for done in ended] == [0, 0, 0, 0], ended
    assert [one.result("join") for one in projects] == [
        one.expected(f"salt{number}") for number, one in enumerate(projects)
    ]
    assert (project.room.links(), project.room.rules()) == (["lo"], [])
    assert problems_of_store(project.store) == []

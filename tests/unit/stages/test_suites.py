"""Sharing tests out among the stages: each runs in one, none in two; tried with the real pytest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from pipeline.detect.python import load_python
from pipeline.detect.suites import Suite, suite_folder
from pipeline.stages.suites import PLUGIN, PLUGIN_FILE, suite_env

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.detect.python import PythonProject

TEST = "def test_one(): pass\n"
MARKED = "import pytest\n@pytest.mark.{}\ndef test_marked(): pass\ndef test_plain(): pass\n"
BOTH = "@pytest.mark.integration\n@pytest.mark.e2e\ndef test_both(): pass\n"
NOTE = """
import os

def pytest_collection_finish(session):
    with open(os.environ["RAN"], "a") as stream:
        stream.writelines(item.nodeid + chr(10) for item in session.items)
"""
DECLARED = "[pytest]\nmarkers =\n    integration: needs a database\n    e2e: drives a browser\n    slow\n"

LAYOUTS: Mapping[str, tuple[Mapping[str, str], Mapping[str, set[str]]]] = {
    "folders": (
        {
            "tests/unit/test_a.py": TEST,
            "tests/integration/deep/test_b.py": TEST,
            "tests/e2e/test_c.py": TEST,
            "tests/security/test_d.py": TEST,
        },
        {
            "unit": {"tests/unit/test_a.py::test_one"},
            "integration": {"tests/integration/deep/test_b.py::test_one"},
            "e2e": {"tests/e2e/test_c.py::test_one"},
            "security_tests": {"tests/security/test_d.py::test_one"},
        },
    ),
    "folders-of-their-own": (
        {"tests/test_a.py": TEST, "integration_tests/test_b.py": TEST, "e2e/test_c.py": TEST},
        {
            "unit": {"tests/test_a.py::test_one"},
            "integration": {"integration_tests/test_b.py::test_one"},
            "e2e": {"e2e/test_c.py::test_one"},
        },
    ),
    "named-in-testpaths": (
        {
            "pytest.ini": "[pytest]\ntestpaths = tests/integration tests/unit\n",
            "tests/unit/test_a.py": TEST,
            "tests/integration/test_b.py": TEST,
        },
        {
            "unit": {"tests/unit/test_a.py::test_one"},
            "integration": {"tests/integration/test_b.py::test_one"},
        },
    ),
    "markers": (
        {
            "pytest.ini": DECLARED,
            "tests/test_a.py": MARKED.format("integration"),
            "tests/test_b.py": MARKED.format("e2e") + BOTH,
            "tests/test_c.py": MARKED.format("slow"),
        },
        {
            "unit": {
                "tests/test_a.py::test_plain",
                "tests/test_b.py::test_plain",
                "tests/test_c.py::test_marked",
                "tests/test_c.py::test_plain",
            },
            "integration": {"tests/test_a.py::test_marked"},
            "e2e": {"tests/test_b.py::test_marked", "tests/test_b.py::test_both"},
        },
    ),
    "left-out-by-default": (
        {
            "pytest.ini": DECLARED + "addopts = -ra -m 'not integration'\n",
            "tests/test_a.py": MARKED.format("integration"),
        },
        {"unit": {"tests/test_a.py::test_plain"}, "integration": {"tests/test_a.py::test_marked"}},
    ),
    "folders-and-markers": (
        {
            "pytest.ini": DECLARED,
            "tests/test_a.py": MARKED.format("integration"),
            "tests/e2e/test_b.py": MARKED.format("integration"),
            "tests/integration/test_c.py": TEST,
        },
        {
            "unit": {"tests/test_a.py::test_plain"},
            "integration": {"tests/test_a.py::test_marked", "tests/integration/test_c.py::test_one"},
            "e2e": {"tests/e2e/test_b.py::test_marked", "tests/e2e/test_b.py::test_plain"},
        },
    ),
}  # fmt: skip


def project_in(root: Path, files: Mapping[str, str]) -> PythonProject:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    project = load_python(root, sorted(files))
    assert project is not None
    return project


def ran_in(root: Path, stage: str, project: PythonProject) -> set[str]:
    """Run the tests of a stage as it does, and return which."""
    suites = [asdict(one) for one in project.suites]
    paths = next((one.paths for one in project.suites if one.stage == stage), project.test_paths)
    noted = root.parent / f"{stage}.ran"
    (root.parent / "plugins").mkdir(exist_ok=True)
    (root.parent / "plugins" / "note_ran.py").write_text(NOTE)
    shutil.copy(PLUGIN_FILE, root.parent / "plugins" / f"{PLUGIN}.py")
    env = {**os.environ, "PYTHONPATH": str(root.parent / "plugins"), "RAN": str(noted)}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of this machine take time to load
    env |= suite_env(stage, suites, root=str(root))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "note_ran", "-p", "no:cacheprovider", *paths],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = noted.read_text().splitlines()
    assert len(lines) == len(set(lines))
    return set(lines)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_test_runs_in_one_stage_and_none_in_two(tmp_path: Path, layout: str) -> None:
    """Whatever the layout: folders, markers, both, and settings that leave some out by default."""
    files, expected = LAYOUTS[layout]
    project = project_in(tmp_path / "project", files)

    stages = ["unit", *(one.stage for one in project.suites)]
    ran = {stage: ran_in(tmp_path / "project", stage, project) for stage in stages}

    assert ran == expected


def test_a_project_whose_tests_are_all_suites_has_no_unit_tests(tmp_path: Path) -> None:
    """By folder, and by a marker on the whole file; `unit` then says so."""
    module = "import pytest\npytestmark = [pytest.mark.integration]\ndef test_one(): pass\n"
    files = {"pytest.ini": DECLARED, "tests/test_a.py": module, "tests/e2e/test_b.py": TEST}

    project = project_in(tmp_path, files)

    assert (project.has_tests, project.has_unit_tests) == (True, False)
    assert [one.stage for one in project.suites] == ["e2e", "integration"]


def test_an_undeclared_or_unused_marker_makes_no_stage(tmp_path: Path) -> None:
    """A stage is there only when there is something for it."""
    undeclared = {"tests/test_a.py": MARKED.format("integration")}
    unused = {"pytest.ini": DECLARED, "tests/test_a.py": TEST}

    found = [project_in(tmp_path / str(i), files).suites for i, files in enumerate((undeclared, unused))]

    assert found == [(), ()]


def test_a_marker_declared_in_conftest_counts(tmp_path: Path) -> None:
    hook = 'def pytest_configure(config):\n    config.addinivalue_line("markers", "security: attacks")\n'
    files = {"conftest.py": hook, "tests/test_a.py": MARKED.format("security")}

    project = project_in(tmp_path, files)

    assert project.suites == (Suite(stage="security_tests", markers=("security",), paths=("tests",)),)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tests/integration/test_a.py", ("integration", "tests/integration")),
        ("tests/api/e2e/x/test_a.py", ("e2e", "tests/api/e2e")),
        ("e2e_tests/test_a.py", ("e2e", "e2e_tests")),
        ("src/test_integration/test_a.py", ("integration", "src/test_integration")),
        ("security/test_a.py", ("security_tests", "security")),
        ("e2e/tests/test_a.py", ("e2e", "e2e")),
        ("security/tests/test_a.py", None),
        ("shop/security/tests.py", None),
        ("shop/security/tests/test_a.py", None),
        ("tests/unit/test_integration.py", None),
        ("tests/test_a.py", None),
    ],
)
def test_folders_tell_whose_tests_they_hold(name: str, found: tuple[str, str] | None) -> None:
    """An application's own package called `security` does not."""
    assert suite_folder(name) == found


def test_the_projects_own_options_stay(tmp_path: Path) -> None:
    env = suite_env("unit", [asdict(Suite(stage="e2e", folders=("e2e",)))], own="--durations=3")

    assert env["PYTEST_ADDOPTS"] == "-p pipeline_suites --ignore=e2e --durations=3"
    assert json.loads(env["PIPELINE_SUITES"])["stage"] == "unit"

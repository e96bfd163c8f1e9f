"""What the stages decide before anything runs."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.config import load_config
from pipeline.detect.python import PythonProject
from pipeline.graph.context import CheckFailed
from pipeline.graph.plan import Graph
from pipeline.junit import TestCase, TestResults
from pipeline.release.remote import to_web_address
from pipeline.stages import default_stages
from pipeline.stages.containers import StageBroken, untracked
from pipeline.stages.deps import LOCAL_LINE
from pipeline.stages.git import described_version
from pipeline.stages.quality import Check, checks_of
from pipeline.stages.told import failure
from pipeline.stages.unit import coverage_env

if TYPE_CHECKING:
    from pathlib import Path


def git(root: Path, *argv: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *identity, *argv], cwd=root, check=True, capture_output=True)


def write(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def names(root: Path) -> list[str]:
    return [one.name for one in default_stages(root, load_config(root))]


def test_stages_are_those_that_apply_to_the_project(tmp_path: Path) -> None:
    """A package with a Dockerfile has all; the graph of them holds together."""
    write(tmp_path, "pyproject.toml", "[build-system]\nrequires = []\n[project]\nname = 'a'")
    write(tmp_path, "a/__init__.py")
    write(tmp_path, "Dockerfile", "FROM scratch")

    stages = default_stages(tmp_path, load_config(tmp_path))

    expected = [
        *("checkout", "deps", "build", "unit", "sast", "quality"),
        *("dependency_scan", "container_build", "image_scan", "secret_scan", "artifacts"),
    ]
    assert [one.name for one in stages] == expected
    assert list(Graph(stages).order) == expected


def test_a_project_of_scripts_has_no_build_and_no_image(tmp_path: Path) -> None:
    write(tmp_path, "app.py")

    assert names(tmp_path) == [
        "checkout",
        "deps",
        "unit",
        "sast",
        "quality",
        "dependency_scan",
        "secret_scan",
        "artifacts",
    ]


def test_a_project_without_python_has_its_images_and_the_linters_of_their_files(tmp_path: Path) -> None:
    write(tmp_path, "Dockerfile", "FROM scratch")

    assert names(tmp_path) == [
        "checkout",
        "quality",
        "container_build",
        "image_scan",
        "secret_scan",
        "artifacts",
    ]


def test_what_git_does_not_track_is_left_out_by_patterns_that_mean_just_that(tmp_path: Path) -> None:
    """Folders are named once; characters of patterns are taken literally."""
    git(tmp_path, "init", "-q")
    write(tmp_path, "kept.py")
    write(tmp_path, "build/a/b.txt")
    write(tmp_path, "odd[1]*.txt")
    git(tmp_path, "add", "kept.py")

    assert untracked(tmp_path) == ["build", r"odd\[1\]\*.txt"]


def test_outside_git_the_usual_litter_is_left_out(tmp_path: Path) -> None:
    assert "**/node_modules" in untracked(tmp_path)


def test_the_version_is_what_the_nearest_tag_means(tmp_path: Path) -> None:
    """As the tools for versions from tags say it: the tag itself, then the next one in development."""
    git(tmp_path, "init", "-q")

    assert described_version(tmp_path) == ""

    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    assert described_version(tmp_path) == "0.1.dev1"

    git(tmp_path, "tag", "v1.2.0")
    assert described_version(tmp_path) == "1.2.0"

    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "two")
    assert described_version(tmp_path) == "1.2.1.dev1"
    assert described_version(tmp_path, exact=False) == "1.2.1.dev0"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        pytest.param("https://example.com/a/b.git", "https://example.com/a/b", id="https"),
        pytest.param("https://me:hunter2@example.com/a/b", "https://example.com/a/b", id="credentials"),
        pytest.param("git@example.com:a/b.git", "https://example.com/a/b", id="scp form"),
        pytest.param("ssh://git@example.com:2222/a/b.git", "https://example.com/a/b", id="ssh"),
        pytest.param("/srv/git/a.git", "", id="path"),
        pytest.param("file:///srv/git/a.git", "", id="file"),
        pytest.param("../a", "", id="relative"),
        pytest.param("", "", id="none"),
    ],
)
def test_the_address_of_the_source_holds_no_credentials(remote: str, address: str) -> None:
    assert to_web_address(remote) == address


def test_an_image_says_what_it_is_and_nothing_that_changes_with_each_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", "https://me:hunter2@example.com/team/shop.git")
    write(tmp_path, "pyproject.toml", "[project]\nname = 'shop'\nversion = '1.2'\nlicense = 'MIT'")
    write(tmp_path, "shop/__init__.py")
    write(tmp_path, "Dockerfile", "FROM scratch")
    git(tmp_path, "add", ".")

    image = next(one for one in default_stages(tmp_path, load_config(tmp_path)) if "labels" in one.options)

    assert image.options["labels"] == {
        "org.opencontainers.image.source": "https://example.com/team/shop",
        "org.opencontainers.image.url": "https://example.com/team/shop",
        "org.opencontainers.image.version": "1.2",
        "org.opencontainers.image.licenses": "MIT",
    }


@pytest.mark.parametrize("line", ["-e .", "-e .[test]", ".", "file:.", "--editable=.  # us"])
def test_a_requirement_that_is_the_project_itself_is_noticed(line: str) -> None:
    assert LOCAL_LINE.match(line)


@pytest.mark.parametrize("line", ["flask", "-e ../other", "./wheels/x.whl", "-r other.txt"])
def test_other_requirements_are_left_alone(line: str) -> None:
    assert not LOCAL_LINE.match(line)


def test_without_configuration_only_what_is_wrong_in_any_code_is_checked() -> None:
    assert checks_of(PythonProject(), ()) == [
        Check(
            name="ruff",
            argv=("ruff", "check", "--isolated", "--select", "E9,F63,F7,F82", "."),
            package="ruff",
        )
    ]


@pytest.mark.parametrize(
    ("python", "target"),
    [
        ("3.14.8", ("--target-version", "py314")),
        ("3.11.2", ("--target-version", "py311")),
        ("3.9.2", ()),
        ("3.15.0", ()),
        ("", ()),
    ],
)
def test_what_is_wrong_in_any_code_depends_on_the_python(python: str, target: tuple[str, ...]) -> None:
    """A name of a class further down is undefined in an annotation up to Python 3.13."""
    [check] = checks_of(PythonProject(), (), python)

    assert check.argv == ("ruff", "check", "--isolated", *target, "--select", "E9,F63,F7,F82", ".")


def test_configured_tools_are_run_as_configured() -> None:
    project = PythonProject(tools=("ruff", "black", "mypy"), packages=("shop",))

    assert [check.argv for check in checks_of(project, ())] == [
        ("ruff", "check", "."),
        ("black", "--check", "."),
        ("mypy", "shop"),
    ]


def results(*bad: TestCase) -> TestResults:
    return TestResults(cases=(*bad, *[TestCase(name="good")] * (9 - len(bad))))


BAD = TestCase(
    name="test_a",
    suite="tests.test_x.TestB",
    file="tests/test_x.py",
    line=7,
    kind="failure",
    message="no\nmore of it",
    text="E  no",
)


def test_a_failed_test_is_told_with_its_name_line_and_message() -> None:
    error = failure(["pytest"], 1, results(BAD), ["last line"])

    assert isinstance(error, CheckFailed)
    assert error.failure.message == "1 of 9 tests failed; first: tests/test_x.py::TestB::test_a: no"
    assert error.failure.exit_code == 1
    assert error.failure.tail == ("E  no", "FAILED tests/test_x.py::TestB::test_a (tests/test_x.py:7)")


@pytest.mark.parametrize(
    ("project", "python", "env"),
    [
        pytest.param(PythonProject(), "3.13.5", {"COVERAGE_CORE": "sysmon"}, id="plain"),
        pytest.param(PythonProject(), "3.11.2", {}, id="older Python"),
        pytest.param(PythonProject(configures_coverage=True), "3.13.5", {}, id="own settings"),
        pytest.param(PythonProject(test_plugins=("pytest-cov",)), "3.13.5", {}, id="measures itself"),
    ],
)
def test_coverage_is_measured_without_a_trace_function_where_that_is_possible(
    project: PythonProject, python: str, env: dict[str, str]
) -> None:
    assert coverage_env(project, python) == env


def test_a_file_that_could_not_be_imported_is_told_by_its_path() -> None:
    bad = dataclasses.replace(BAD, suite="", name="tests.test_x", message="collection failure")

    error = failure(["pytest"], 2, results(bad), [])

    assert str(error) == "1 of 9 tests failed; first: tests/test_x.py: no"


def test_a_program_that_tests_call_and_the_image_has_not_is_named_with_what_helps() -> None:
    text = "E   FileNotFoundError: [Errno 2] No such file or directory: 'git'\n\n/usr/lib/subprocess.py:9"
    error = failure(["pytest"], 1, results(dataclasses.replace(BAD, text=text)), [])

    assert isinstance(error, CheckFailed)
    assert error.hint is not None
    assert error.hint.startswith("the image has no `git`: ")


def test_no_collected_tests_are_a_failure_and_never_a_success() -> None:
    error = failure(["pytest"], 5, results(), [])

    assert isinstance(error, CheckFailed)
    assert str(error) == "no tests were collected, although the project has test files"


def test_a_runner_that_leaves_no_report_is_an_error_not_a_failed_test() -> None:
    assert isinstance(failure(["pytest"], 4, None, ["usage"]), StageBroken)


def test_a_runner_that_cannot_begin_tells_what_was_raised() -> None:
    """Such as a conftest that imports what is not installed."""
    tail = [
        "conftest.py:4: in <module>",
        "    import flask",
        "E   ModuleNotFoundError: No module named 'flask'",
    ]

    error = failure(["pytest"], 4, None, tail)

    assert str(error) == (
        "the test runner ended with exit code 4 and left no report: "
        "ModuleNotFoundError: No module named 'flask'"
    )

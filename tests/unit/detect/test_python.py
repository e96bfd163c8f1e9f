"""What is read from a Python project's files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.detect.python import PythonProject, detect_python

if TYPE_CHECKING:
    from collections.abc import Mapping


def detect(files: Mapping[str, str]) -> PythonProject:
    found = detect_python(list(files), files.get)
    assert found is not None
    return found


def test_a_listing_without_python_is_no_python_project() -> None:
    assert detect_python(["README.md", "main.go"], lambda _: None) is None


@pytest.mark.parametrize(
    ("files", "installer"),
    [
        pytest.param({"uv.lock": "", "requirements.txt": ""}, "uv", id="uv lock before requirements"),
        pytest.param({"poetry.lock": ""}, "poetry", id="poetry"),
        pytest.param({"pdm.lock": ""}, "pdm", id="pdm"),
        pytest.param({"requirements.txt": "flask"}, "pip", id="requirements"),
        pytest.param({"pyproject.toml": "[build-system]\nrequires = []"}, "metadata", id="metadata"),
        pytest.param({"pyproject.toml": "[project]\nname = 'a'"}, "metadata", id="no backend"),
        pytest.param({}, "none", id="scripts only"),
    ],
)
def test_the_installer_follows_the_lock_file(files: dict[str, str], installer: str) -> None:
    assert detect({"app.py": "", **files}).installer == installer


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        pytest.param(["app/requirements.txt"], ("app/requirements.txt",), id="the one folder"),
        pytest.param(
            [
                "app/requirements-dev.txt",
                "app/requirements.txt",
                "app/requirements-docs.txt",
                "tests/requirements.txt",
            ],
            ("app/requirements.txt", "app/requirements-dev.txt"),
            id="the main ones first",
        ),
        pytest.param(["a/requirements.txt", "b/requirements.txt"], (), id="two folders"),
        pytest.param(["a/b/requirements.txt"], (), id="too deep"),
        pytest.param(
            ["requirements.txt", "app/requirements.txt"], ("requirements.txt",), id="the root has some"
        ),
        pytest.param(["setup.py", "app/requirements.txt"], (), id="the root names its own"),
        pytest.param(
            ["pyproject.toml", "app/requirements.txt"],
            ("app/requirements.txt",),
            id="settings alone at the root",
        ),
    ],
)
def test_requirements_in_a_folder_count_where_the_root_has_none(
    files: list[str], wanted: tuple[str, ...]
) -> None:
    """Two folders with some are two projects, of which none is meant."""
    found = detect({"app/main.py": "", **dict.fromkeys(files, "")})

    assert found.requirement_files == wanted


def test_a_project_at_the_root_has_no_requirements_in_a_folder() -> None:
    found = detect({"a.py": "", "pyproject.toml": "[project]\nname = 'a'", "app/requirements.txt": ""})

    assert (found.installer, found.requirement_files) == ("metadata", ())


def test_the_python_is_read_beside_the_requirements_too() -> None:
    found = detect(
        {"app/main.py": "", "app/requirements.txt": "", "app/Dockerfile": "FROM python:3.12.1-slim"}
    )

    assert found.requires_python == "==3.12.*"


def test_extras_of_the_project_that_its_requirement_file_names_are_needed() -> None:
    """They are spelled in any of the ways names may be."""
    extras = "http_two = ['h2']\nzstd = ['zstandard']\nx = ['y']"
    project = f"[project]\nname = 'a'\n[project.optional-dependencies]\n{extras}"
    files = {"a.py": "", "pyproject.toml": project, "requirements.txt": "-e .[HTTP-two, zstd]\npytest\n"}

    found = detect(files)

    assert (found.requirements, found.test_extras) == (("h2", "zstandard"), ("http_two", "zstd"))


def test_members_of_a_workspace_bring_their_groups() -> None:
    """Globs stay inside a part; what is excluded is none; each member's metadata makes `deps` run again."""
    root = "[tool.uv.workspace]\nmembers = ['api', './libs/*']\nexclude = ['libs/old']"
    member = "[project]\nname = 'x'\n[dependency-groups]\ndev = ['pytest']"
    names = ("api", "libs/new", "libs/old", "libs/new/example", "other")
    files = {"a.py": "", "uv.lock": "", "pyproject.toml": root}

    found = detect({**files, **{f"{name}/pyproject.toml": member for name in names}})

    assert found.workspace == ("api/pyproject.toml", "libs/new/pyproject.toml")
    assert found.test_groups == ("dev",)
    assert found.dependency_files == ("uv.lock", "pyproject.toml", *found.workspace)


def test_dependencies_of_the_test_groups_are_needed_too() -> None:
    """Extras and groups called test or dev count, groups with what they include, the project itself not."""
    pyproject = """
[build-system]
requires = ["hatchling"]
[project]
name = "thing"
dependencies = ["httpx"]
[project.optional-dependencies]
test = ["pytest", "thing[extra]"]
docs = ["sphinx"]
[dependency-groups]
dev = ["ruff", {include-group = "typing"}]
typing = ["mypy", {include-group = "dev"}]
"""

    found = detect({"src/thing/__init__.py": "", "pyproject.toml": pyproject})

    assert found.requirements == ("httpx", "pytest", "ruff", "mypy")
    assert (found.test_extras, found.test_groups) == (("test",), ("dev",))
    assert (found.is_package, found.has_dynamic_dependencies) == (True, False)


def test_requirement_files_come_main_first_and_locks_instead_of_their_sources() -> None:
    names = ["requirements-dev.txt", "requirements.lock", "requirements.txt", "requirements/docs.txt"]

    found = detect({"app.py": "", **dict.fromkeys(names, "")})

    assert found.requirement_files == ("requirements.lock", "requirements-dev.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('[project]\nrequires-python = ">=3.10"', ">=3.10", id="standard"),
        pytest.param('[tool.poetry.dependencies]\npython = "^3.9"', ">=3.9,<4", id="poetry caret"),
        pytest.param('[tool.poetry.dependencies]\npython = "~3.9"', ">=3.9,<3.10", id="poetry tilde"),
        pytest.param('[tool.poetry.dependencies]\npython = ">=3.9,<3.13"', ">=3.9,<3.13", id="poetry range"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_the_python_requirement_is_given_in_the_standard_form(text: str, expected: str) -> None:
    assert detect({"a.py": "", "pyproject.toml": text}).requires_python == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (".python-version", "3.11.4\n", "==3.11.*"),
        (".python-version", "pypy3.10\n", ""),
        ("runtime.txt", "python-3.12.1", "==3.12.*"),
        ("Dockerfile", "ARG A\nFROM python:3.11-slim AS base\nFROM python:3.13", "==3.11.*"),
        ("Dockerfile", "from --platform=$BUILDPLATFORM docker.io/library/python:3.13.2", "==3.13.*"),
        ("Dockerfile", "FROM python:slim", ""),
        ("Dockerfile", "# FROM python:3.11", ""),
    ],
)
def test_a_project_that_names_no_python_is_for_the_one_it_is_run_with(
    name: str, text: str, expected: str
) -> None:
    """Its version file or its image says which; its metadata goes before both."""
    files = {"a.py": "", "pyproject.toml": '[project]\nname = "a"', name: text}

    assert detect(files).requires_python == expected
    files["pyproject.toml"] = '[project]\nrequires-python = ">=3.9"'
    assert detect(files).requires_python == ">=3.9"


def test_a_setup_py_project_is_a_package_whose_dependencies_only_a_build_knows() -> None:
    setup = "setup(name='old', python_requires='>=3.8', extras_require={'test': ['pytest']})"

    found = detect({"old/__init__.py": "", "setup.py": setup, "tests/test_old.py": "import pytest"})

    assert (found.name, found.requires_python, found.test_extras) == ("old", ">=3.8", ("test",))
    assert (found.is_package, found.has_dynamic_dependencies) == (True, True)
    assert (found.has_tests, found.test_paths, found.packages) == (True, ("tests",), ("old",))


def test_a_poetry_project_without_package_mode_is_no_package() -> None:
    text = "[build-system]\nrequires = []\n[tool.poetry]\npackage-mode = false"

    assert detect({"app.py": "", "pyproject.toml": text}).is_package is False


def test_the_tools_a_project_configured_are_found_wherever_they_are_configured() -> None:
    files = {
        "app.py": "",
        "pyproject.toml": "[tool.ruff.format]\nindent-width = 2\n[tool.mypy]\nfiles = ['app.py']",
        ".pre-commit-config.yaml": "- id: black",
        "tox.ini": "[flake8]",
    }

    found = detect(files)

    assert found.tools == ("black", "flake8", "mypy", "ruff", "ruff-format")
    assert found.mypy_knows_files is True


@pytest.mark.parametrize("backend", ["setuptools_scm[toml]>=8", "hatch-vcs", "uv-dynamic-versioning>=0.7"])
def test_a_version_from_tags_is_noticed(backend: str) -> None:
    text = f"[build-system]\nrequires = ['setuptools', '{backend}']"

    assert detect({"a.py": "", "pyproject.toml": text}).version_from_git is True


def test_what_hatchs_environments_for_tests_need_is_installed() -> None:
    text = """
[project]
dependencies = ["attrs"]
[tool.hatch.envs.test]
dependencies = ["psutil", "mine @ {root:uri}/mine"]
[tool.hatch.envs.hatch-test]
extra-dependencies = ["pytest-mock"]
[tool.hatch.envs.docs]
dependencies = ["sphinx"]
"""

    assert detect({"a.py": "", "pyproject.toml": text}).requirements == ("attrs", "pytest-mock", "psutil")


def test_a_damaged_pyproject_is_left_to_the_tools_that_need_it() -> None:
    assert detect({"a.py": "", "pyproject.toml": "[["}).installer == "none"


@pytest.mark.parametrize(
    ("files", "plugins"),
    [
        pytest.param(
            {"pytest.ini": "[pytest]\naddopts = -n auto --cov=a\nasyncio_mode = auto"},
            ("pytest-asyncio", "pytest-cov", "pytest-xdist"),
            id="pytest.ini",
        ),
        pytest.param(
            {"pyproject.toml": "[tool.pytest.ini_options]\naddopts = ['--timeout=3', '-q']"},
            ("pytest-timeout",),
            id="pyproject",
        ),
        pytest.param(
            {"setup.cfg": "[tool:pytest]\nrequired_plugins = pytest-mock>=3 pytest-env"},
            ("pytest-env", "pytest-mock>=3"),
            id="required plugins",
        ),
        pytest.param({"tox.ini": "[pytest"}, (), id="damaged"),
    ],
)
def test_plugins_that_pytests_own_settings_name_are_needed(
    files: dict[str, str], plugins: tuple[str, ...]
) -> None:
    assert detect({"test_a.py": "", **files}).test_plugins == plugins


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        pytest.param(["a.py", "tests.py"], ("tests.py",), id="a file called tests"),
        pytest.param(["a.py", "test_a.py"], (), id="beside the code"),
        pytest.param(["a/b.py", "tests/test_b.py"], ("tests",), id="folder"),
        pytest.param(["shop/tests.py", "bar/tests.py"], ("shop/tests.py", "bar/tests.py"), id="applications"),
        pytest.param(["shop/tests/test_a.py"], ("shop",), id="inside the package"),
    ],
)
def test_what_pytest_is_told_to_look_at(files: list[str], paths: tuple[str, ...]) -> None:
    """Nothing when the project's own settings say, or when pytest finds it by itself."""
    tested = dict.fromkeys(files, "def test_a(): ...")

    assert detect(tested).test_paths == paths
    assert detect({**tested, "pytest.ini": "[pytest]\ntestpaths = x"}).test_paths == ()


def test_the_empty_tests_file_of_a_framework_is_no_test() -> None:
    """It stands in every new application of Django: that project has no tests yet."""
    found = detect({"shop/models.py": "", "shop/tests.py": "from django.test import TestCase\n"})

    assert (found.has_tests, found.test_paths) == (False, ())


def test_versions_that_commit_hooks_fix_are_read() -> None:
    hooks = """
repos:
  - repo: https://github.com/astral-sh/ruff-pre-commit
    rev: c60c980e561ed3e73101667fe8365c609d19a438  # frozen: v0.15.9
    hooks:
      - id: ruff-check
  - repo: https://github.com/psf/black
    rev: "23.10.1"
  - repo: https://github.com/PyCQA/flake8
    rev: 0123456789012345678901234567890123456789
"""

    assert detect({"a.py": "", ".pre-commit-config.yaml": hooks}).tool_pins == (
        "ruff==0.15.9",
        "black==23.10.1",
    )


def test_poetrys_groups_are_those_it_installs_by_itself_without_documentation() -> None:
    text = """
[tool.poetry.group.dev.dependencies]
[tool.poetry.group.lint.dependencies]
[tool.poetry.group.docs.dependencies]
[tool.poetry.group.bench]
optional = true
"""

    assert detect({"a.py": "", "poetry.lock": "", "pyproject.toml": text}).test_groups == ("dev", "lint")

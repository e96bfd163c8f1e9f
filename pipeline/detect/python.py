"""Facts about a Python project, read from its file listing and `pyproject.toml`; nothing is run.

`detect_python` is pure; `load_python` reads the few files it needs.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.detect.checks import HOOKS, find_pins, find_tools, mypy_knows_files
from pipeline.detect.suites import Suite, find_suites
from pipeline.detect.testing import (
    TEST_FOLDERS,
    configures_coverage,
    find_plugins,
    find_test_files,
    find_test_paths,
    parse_pytest_settings,
    uses_unittest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Installer = Literal["uv", "poetry", "pdm", "pip", "metadata", "none"]
"""How dependencies are given: a tool's lock file, requirement files, or the project's own metadata."""

REQUIREMENTS: Final = re.compile(r"(?:requirements|dev-requirements|test-requirements)[\w.-]*\.(?:txt|lock)$")
LOCAL_EXTRAS: Final = re.compile(r"^\s*(?:-e\s+|--editable[ =])?(?:\.|file:\.)\[([^]\n]*)\]", re.MULTILINE)
NOT_REQUIRED: Final = re.compile(r"docs?\b|lint|example|typing|release|publish|mypy")
TEST_GROUPS: Final = ("test", "tests", "testing", "dev", "develop", "development")
LOCKS: Final[Mapping[str, Installer]] = {"uv.lock": "uv", "poetry.lock": "poetry", "pdm.lock": "pdm"}
PYTHON_CHOICES: Final[Mapping[str, str]] = {
    ".python-version": r"^(3\.\d+)",
    "runtime.txt": r"^python-(3\.\d+)",
    "Dockerfile": r"^FROM\s+(?:--platform=\S+\s+)?(?:\S+/)?python:(3\.\d+)",
}
DEPENDENCY_FILES: Final = ("pyproject.toml", "setup.py", "setup.cfg", *LOCKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonProject:
    """What the stages must know of a Python project; paths are relative to its root."""

    name: str = ""
    version: str = ""  # "" when only a build tells it
    description: str = ""
    license: str = ""  # an SPDX expression
    requires_python: str = ""
    installer: Installer = "none"
    requirement_files: tuple[str, ...] = ()  # for `pip`, in the order they are installed
    requirements: tuple[str, ...] = ()  # for `metadata`: dependencies and those of the test groups
    test_extras: tuple[str, ...] = ()  # extras of the project that tests need
    test_groups: tuple[str, ...] = ()  # dependency groups that tests need
    workspace: tuple[str, ...] = ()  # the metadata of the other members of uv's workspace
    is_package: bool = False  # has a build backend: a wheel can be built of it
    has_dynamic_dependencies: bool = False  # known only by building
    version_from_git: bool = False  # the build backend reads tags, which a container has not
    packages: tuple[str, ...] = ()  # folders of importable code, for tools that are told what to look at
    mypy_knows_files: bool = False  # its configuration says what to check
    import_roots: tuple[str, ...] = ()  # folders for PYTHONPATH where nothing can be installed
    test_paths: tuple[str, ...] = ()  # empty where the runner's own configuration says
    test_plugins: tuple[str, ...] = ()  # packages without which pytest would refuse its own settings
    configures_coverage: bool = False
    has_tests: bool = False
    has_unit_tests: bool = False  # some that are no suite's
    suites: tuple[Suite, ...] = ()  # integration, end-to-end and security tests
    uses_playwright: bool = False
    uses_unittest: bool = False  # tests, but nothing that speaks of pytest
    tools: tuple[str, ...] = ()  # configured: ruff, ruff-format, black, mypy, pytest, flake8
    tool_pins: tuple[str, ...] = ()  # versions the commit hooks fix, such as "ruff==0.12.1"
    dependency_files: tuple[str, ...] = ()


def detect_python(files: Sequence[str], read: Callable[[str], str | None]) -> PythonProject | None:
    """Say what Python project the listing shows; None when it shows none.

    Args:
        files: Tracked files, `/` between parts.
        read: Gives the text of a file, or None when it is missing or no UTF-8.
    """
    names = set(files)
    if not any(name.endswith(".py") for name in names):
        return None
    pyproject = _parse_toml(read("pyproject.toml")) if "pyproject.toml" in names else {}
    setup = "\n".join(read(name) or "" for name in ("setup.py", "setup.cfg") if name in names)
    project = pyproject.get("project", {})
    poetry = pyproject.get("tool", {}).get("poetry", {})
    requirement_files = _requirement_files(files, pyproject)
    has_backend = "build-system" in pyproject or "setup.py" in names
    is_package = has_backend and poetry.get("package-mode") is not False
    test_files = find_test_files(files, read)

    def read_listed(name: str) -> str | None:
        return read(name) if name in names else None

    members = _members(pyproject, files)
    extras = _local_extras(requirement_files, read)
    settings = parse_pytest_settings(pyproject, read_listed)
    test_paths = find_test_paths(settings, test_files)
    shared_out = find_suites(settings, test_paths, test_files, files, read)
    dependency_files = tuple(n for n in files if n in {*DEPENDENCY_FILES, *requirement_files, *members})
    return PythonProject(
        name=str(project.get("name") or poetry.get("name") or _setup_name(setup)),
        version=str(project.get("version") or poetry.get("version") or ""),
        description=str(project.get("description") or poetry.get("description") or ""),
        license=_license(project.get("license") or poetry.get("license")),
        requires_python=_requires_python(project, poetry, setup)
        or _chosen_python(read_listed, requirement_files),
        installer=_installer(names, requirement_files, has_metadata=is_package or bool(project)),
        requirement_files=requirement_files,
        requirements=_requirements(pyproject, extras),
        test_extras=_wanted(project.get("optional-dependencies") or poetry.get("extras", {}), setup, extras),
        test_groups=_groups_of_all([pyproject, *(_parse_toml(read(name)) for name in members)]),
        workspace=members,
        is_package=is_package,
        version_from_git=_version_from_git(pyproject, setup),
        packages=_packages(files),
        mypy_knows_files=mypy_knows_files(names, pyproject, read),
        has_dynamic_dependencies=is_package and ("dependencies" in project.get("dynamic", ()) or not project),
        import_roots=("src",) if any(name.startswith("src/") for name in files) else (".",),
        test_paths=shared_out.unit_paths,
        test_plugins=find_plugins(settings),
        configures_coverage=configures_coverage(pyproject, read_listed),
        has_tests=bool(test_files),
        has_unit_tests=shared_out.has_unit_tests,
        suites=shared_out.suites,
        uses_playwright=any("playwright" in (read(name) or "") for name in dependency_files),
        uses_unittest=uses_unittest(settings, test_files, names, read),
        tools=find_tools(names, pyproject, read),
        tool_pins=find_pins(read(HOOKS) or "" if HOOKS in names else ""),
        dependency_files=dependency_files,
    )


def load_python(root: Path, files: Sequence[str]) -> PythonProject | None:
    """Detect the Python project in `root`."""

    def read(name: str) -> str | None:
        try:
            return (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    return detect_python(files, read)


def _parse_toml(text: str | None) -> dict[str, Any]:
    """Read a table; a damaged file counts as empty here: the tool that needs it will say so."""
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return {}


def _setup_name(setup: str) -> str:
    found = re.search(r"\bname\s*=\s*[\"']?([A-Za-z0-9._-]+)", setup)
    return found.group(1) if found else ""


def _license(value: object) -> str:
    """Return a license given as an expression; the older table holds a text or a file."""
    return value if isinstance(value, str) and "\n" not in value else ""


def _requires_python(project: Mapping[str, Any], poetry: Mapping[str, Any], setup: str) -> str:
    if "requires-python" in project:
        return str(project["requires-python"])
    wanted = poetry.get("dependencies", {}).get("python")
    if isinstance(wanted, str):
        return _caret(wanted)
    found = re.search(r"python_requires\s*=\s*[\"']?([<>=!~0-9., *]+)", setup)
    return found.group(1).strip(" ,") if found else ""


def _chosen_python(read: Callable[[str], str | None], requirement_files: Sequence[str]) -> str:
    """Return what else says which Python the project is for: a version file, or the image it is built on.

    They lie at the root or beside the requirement files.
    """
    folders = dict.fromkeys(["", *(name[: name.rfind("/") + 1] for name in requirement_files)])
    for folder in folders:
        for name, pattern in PYTHON_CHOICES.items():
            if found := re.search(pattern, read(folder + name) or "", re.MULTILINE | re.IGNORECASE):
                return f"=={found.group(1)}.*"
    return ""


def _local_extras(requirement_files: Sequence[str], read: Callable[[str], str | None]) -> frozenset[str]:
    """Return the extras of the project itself that its requirement files ask for, as `-e .[socks]` does."""
    texts = [read(name) or "" for name in requirement_files if "/" not in name]
    lists = [found for text in texts for found in LOCAL_EXTRAS.findall(text)]
    return frozenset(_normal(name) for one in lists for name in one.split(","))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _caret(text: str) -> str:
    """Return a Poetry constraint in the standard form, as far as one comma-separated line goes."""
    parts = []
    for part in (piece.strip() for piece in text.replace("||", ",").split(",")):
        if part.startswith("^"):
            major = part[1:].split(".")[0]
            parts += [f">={part[1:]}", f"<{int(major) + 1}"] if major.isdigit() else []
        elif part.startswith("~") and not part.startswith("~="):
            version = part[1:].split(".")
            upper = (
                ".".join([*version[:1], str(int(version[1]) + 1)])
                if len(version) > 1
                else str(int(version[0]) + 1)
            )
            parts += [f">={part[1:]}", f"<{upper}"]
        elif part and part[0].isdigit():
            parts.append(f"=={part}")
        elif part and part != "*":
            parts.append(part)
    return ",".join(parts)


def _requirement_files(files: Sequence[str], pyproject: Mapping[str, Any]) -> tuple[str, ...]:
    """Return requirement files at the root or in `requirements/`: the main ones first.

    Where nothing at the root names dependencies: those of the one folder that has some.
    """
    found = [n for n in files if "/" not in n and REQUIREMENTS.match(n)]
    found += [n for n in files if re.fullmatch(r"requirements/[\w.-]+\.(?:txt|lock)", n)]
    is_settings_only = not {"project", "build-system"} & pyproject.keys() and "poetry" not in pyproject.get(
        "tool", {}
    )
    others = [n for n in files if n in DEPENDENCY_FILES and n != "pyproject.toml"]
    if not found and not others and is_settings_only:
        below = [n for n in files if n.count("/") == 1 and REQUIREMENTS.match(n.partition("/")[2])]
        below = [n for n in below if not NOT_REQUIRED.search(n) and n.partition("/")[0] not in TEST_FOLDERS]
        found = below if len({n.partition("/")[0] for n in below}) == 1 else []
    wanted = [n for n in found if not NOT_REQUIRED.search(n)]

    def stem(name: str) -> str:
        return re.sub(r"\.(?:txt|lock)$", "", name)

    locked = {stem(n) for n in wanted if n.endswith(".lock")}
    kept = [n for n in wanted if n.endswith(".lock") or stem(n) not in locked]
    return tuple(sorted(kept, key=lambda n: (bool(re.search("dev|test", n)), n)))


def _installer(names: set[str], requirement_files: Sequence[str], *, has_metadata: bool) -> Installer:
    for lock, installer in LOCKS.items():
        if lock in names:
            return installer
    if requirement_files:
        return "pip"
    return "metadata" if has_metadata else "none"


def _requirements(pyproject: Mapping[str, Any], extras: frozenset[str]) -> tuple[str, ...]:
    """Return what the metadata says is needed to run and to test, as pip takes it."""
    project = pyproject.get("project", {})
    found: list[str] = [str(one) for one in project.get("dependencies", ())]
    own = re.compile(rf"^{re.escape(str(project.get('name', '')))}\s*\[", re.IGNORECASE)
    for name, items in project.get("optional-dependencies", {}).items():
        if name.lower() in TEST_GROUPS or _normal(name) in extras:
            found += [str(item) for item in items if not own.match(str(item))]
    groups: Mapping[str, Any] = pyproject.get("dependency-groups", {})
    for name in groups:
        if name.lower() in TEST_GROUPS:
            found += _group(groups, name, set())
    return tuple(dict.fromkeys([*found, *_hatch_requirements(pyproject)]))


def _hatch_requirements(pyproject: Mapping[str, Any]) -> list[str]:
    """Return what Hatch's environments for tests add, without what lies in the project's own folders."""
    environments = pyproject.get("tool", {}).get("hatch", {}).get("envs", {})
    tables = [environments.get(name, {}) for name in ("default", "hatch-test", *TEST_GROUPS)]
    keys = ("dependencies", "extra-dependencies")
    found = [str(one) for table in tables for key in keys for one in table.get(key, ())]
    return [one for one in found if "{" not in one]


def _group(groups: Mapping[str, Any], name: str, seen: set[str]) -> list[str]:
    """Return a dependency group with those it includes; a circle ends where it closes."""
    if name in seen:
        return []
    found: list[str] = []
    for item in groups.get(name, ()):
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict) and "include-group" in item:
            found += _group(groups, str(item["include-group"]), seen | {name})
    return found


def _members(pyproject: Mapping[str, Any], files: Sequence[str]) -> tuple[str, ...]:
    """Return the `pyproject.toml` of each other member of uv's workspace."""
    table = pyproject.get("tool", {}).get("uv", {}).get("workspace", {})
    out = [str(one).rstrip("/") for one in table.get("exclude", ())]
    wanted = [str(one).removeprefix("./").rstrip("/") for one in table.get("members", ())]
    folders = {n: n.rpartition("/")[0] for n in files if n.endswith("/pyproject.toml")}
    return tuple(n for n, folder in folders.items() if _is_one(folder, wanted) and not _is_one(folder, out))


def _is_one(folder: str, globs: Sequence[str]) -> bool:
    """Whether a glob is the folder's; `*` stays inside a part."""
    return any(
        fnmatchcase(folder, one) and ("**" in one or one.count("/") == folder.count("/")) for one in globs
    )


def _groups_of_all(projects: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in projects for name in _groups_to_install(one)))


def _groups_to_install(pyproject: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the groups that tests need; of Poetry's, those it installs by itself, without docs."""
    named = _wanted(pyproject.get("dependency-groups", {}), "")
    poetry = pyproject.get("tool", {}).get("poetry", {})
    groups = poetry.get("group", {})
    own = [
        name
        for name, table in groups.items()
        if name.lower() in TEST_GROUPS or not (table.get("optional") or re.match(r"docs?$", name.lower()))
    ]
    older = ["dev"] if "dev-dependencies" in poetry else []
    return tuple(dict.fromkeys([*named, *own, *older]))


def _wanted(table: Mapping[str, Any], setup: str, extras: frozenset[str] = frozenset()) -> tuple[str, ...]:
    named = [name for name in table if name.lower() in TEST_GROUPS or _normal(name) in extras]
    for name in TEST_GROUPS:
        if name not in named and re.search(rf"[\"']{name}[\"']\s*:\s*\[", setup):
            named.append(name)
    return tuple(named)


def _version_from_git(pyproject: Mapping[str, Any], setup: str) -> bool:
    needed = " ".join(map(str, pyproject.get("build-system", {}).get("requires", ()))) + setup
    known = r"setuptools[-_.]scm|hatch[-_]vcs|flit[-_.]scm|(?:uv|poetry)[-_]dynamic[-_]versioning"
    return re.search(known, needed) is not None


def _packages(files: Sequence[str]) -> tuple[str, ...]:
    """Return the top folders that hold a package, under `src/` or at the root, without tests and the like."""
    if any(name.startswith("src/") and name.endswith(".py") for name in files):
        return ("src",)
    tops = {name.split("/")[0] for name in files if re.fullmatch(r"[A-Za-z_]\w*/__init__\.py", name)}
    return tuple(sorted(tops - {*TEST_FOLDERS, "docs", "examples", "benchmarks", "scripts"}))

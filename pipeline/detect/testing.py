"""Where a project's tests are, and which pytest plugins its settings take for granted."""

from __future__ import annotations

import configparser
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TEST_FOLDERS: Final = ("tests", "test", "testing")
TEST_FILE: Final = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_test|tests)\.py$")
NAMED_TESTS: Final = re.compile(r"(?:^|/)tests\.py$")  # pytest looks into these only when they are named

# Options and settings that only a plugin knows, and the package that has it.
PLUGIN_OPTIONS: Final[Mapping[str, str]] = {
    r"--cov(?:-.*)?": "pytest-cov",
    r"-n|-n(?:auto|logical|\d+)|--numprocesses|--dist|--maxprocesses": "pytest-xdist",
    r"--timeout(?:-method)?": "pytest-timeout",
    r"--asyncio-mode": "pytest-asyncio",
    r"--benchmark-.*": "pytest-benchmark",
    r"--randomly-.*": "pytest-randomly",
    r"--random-order.*": "pytest-random-order",
    r"--reruns(?:-delay)?": "pytest-rerunfailures",
    r"--ds|--nomigrations|--no-migrations|--reuse-db|--create-db": "pytest-django",
    r"--html|--self-contained-html": "pytest-html",
    r"--snapshot-.*": "syrupy",
    r"--disable-socket|--allow-hosts|--allow-unix-socket": "pytest-socket",
    r"--mypy.*": "pytest-mypy",
}
PLUGIN_SETTINGS: Final[Mapping[str, str]] = {
    "asyncio_mode": "pytest-asyncio",
    "asyncio_default_fixture_loop_scope": "pytest-asyncio",
    "timeout": "pytest-timeout",
    "timeout_method": "pytest-timeout",
    "django_settings_module": "pytest-django",
    "env": "pytest-env",
    "mock_use_standalone_module": "pytest-mock",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PytestSettings:
    """pytest's own settings in a project; `is_there` False: nothing speaks of pytest."""

    is_there: bool
    values: Mapping[str, Any]

    def words(self, name: str) -> list[str]:
        """A setting as the words it consists of."""
        value = self.values.get(name, ())
        if isinstance(value, str):
            try:
                return shlex.split(value)
            except ValueError:  # an open quote: pytest will say so
                return value.split()
        return [str(one) for one in value]


def parse_pytest_settings(pyproject: Mapping[str, Any], read: Callable[[str], str | None]) -> PytestSettings:
    """Return the settings pytest would use: of the first file in its own order of precedence."""
    for name, section in (("pytest.ini", "pytest"), (".pytest.ini", "pytest")):
        if (text := read(name)) is not None:
            return PytestSettings(is_there=True, values=_ini(text, section) or {})
    table = pyproject.get("tool", {}).get("pytest", {})
    if table:
        native = {name: value for name, value in table.items() if name != "ini_options"}
        return PytestSettings(is_there=True, values=table.get("ini_options", native))
    for name, section in (("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        found = _ini(read(name) or "", section)
        if found is not None:
            return PytestSettings(is_there=True, values=found)
    return PytestSettings(is_there=False, values={})


def _ini(text: str, section: str) -> dict[str, str] | None:
    """Return one section of an ini file; a damaged file counts as empty here."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return dict(parser.items(section)) if parser.has_section(section) else None


def find_test_files(files: Sequence[str], read: Callable[[str], str | None]) -> list[str]:
    """Return the files of tests; a `tests.py` without one, as frameworks put there, is left out."""
    found = [name for name in files if TEST_FILE.search(name)]
    return [name for name in found if not NAMED_TESTS.search(name) or "def test" in (read(name) or "")]


def find_test_paths(settings: PytestSettings, tests: Sequence[str]) -> tuple[str, ...]:
    """Return what pytest must be told to look at: nothing when its own settings say."""
    if "testpaths" in settings.values:
        return ()
    folders = [f for f in TEST_FOLDERS if any(name.startswith(f + "/") for name in tests)]
    usual = tuple(folders) or tuple(sorted({name.split("/")[0] for name in tests if "/" in name}))
    named = () if "python_files" in settings.values else tuple(filter(NAMED_TESTS.search, tests))
    at_root = [name for name in tests if "/" not in name and not NAMED_TESTS.search(name)]
    if at_root and not folders:
        return named and (".", *named)
    only_named = all(NAMED_TESTS.search(name) for name in tests)
    return named if only_named and named else (*usual, *named)


def find_plugins(settings: PytestSettings) -> tuple[str, ...]:
    """Return the plugins that pytest's settings cannot do without, as packages to install."""
    found = {package for name, package in PLUGIN_SETTINGS.items() if name in map(str.lower, settings.values)}
    for word in settings.words("addopts"):
        option = word.partition("=")[0]
        found |= {package for known, package in PLUGIN_OPTIONS.items() if re.fullmatch(known, option)}
    required = settings.values.get("required_plugins", ())
    lines = re.split(r"[\n ](?=[A-Za-z])", required) if isinstance(required, str) else required
    found |= {str(line).strip() for line in lines if str(line).strip()}
    return tuple(sorted(found))


def uses_unittest(
    settings: PytestSettings, test_files: Sequence[str], files: set[str], read: Callable[[str], str | None]
) -> bool:
    """Say whether there are tests and nothing among them speaks of pytest."""
    if (
        settings.is_there
        or not test_files
        or {"conftest.py", "tests/conftest.py", "test/conftest.py"} & files
    ):
        return False
    return not any("pytest" in (read(name) or "") for name in test_files[:20])


def configures_coverage(pyproject: Mapping[str, Any], read: Callable[[str], str | None]) -> bool:
    """Say whether the project tells coverage how to measure."""
    if read(".coveragerc") is not None or "run" in pyproject.get("tool", {}).get("coverage", {}):
        return True
    return any(_ini(read(name) or "", "coverage:run") is not None for name in ("setup.cfg", "tox.ini"))

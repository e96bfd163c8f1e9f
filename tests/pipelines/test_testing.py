"""Tests of a project in real containers: shards, retries, and tests that break whatever runs them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pipeline.junit import read_junit
from tests.pipelines.projects import new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.projects import Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = {
    "pyproject.toml": """
[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
[tool.pipeline.coverage]
total = 75
""",
    "shop/__init__.py": "def price(n):\n    return 7 * n\n\n\ndef free(n):\n    return 0 * n\n",
    "shop/unused.py": "X = 1\n",
    "tests/test_a.py": """
import pytest
from shop import free

@pytest.mark.parametrize("x", ["<é&>", "a::b[c]", "\\x00\\x1b"])
def test_odd(x): assert free(x) == ""
""",
    "tests/test_b.py": """
import os
from shop import price

def test_price(): assert price(2) == 14
def test_flaky(): assert "rerun" in os.environ["PIPELINE_PART"]
""",
    "tests/test_c.py": "def test_c(): pass\n",
    ".gitignore": ".pipeline\n__pycache__\n",
}
SHARDED = "[tool.pipeline.stages.unit]\nshards = 3\nrerun_failed = 1\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Repository:
    """A small project whose dependencies are installed."""
    made = new_repository(tmp_path_factory.mktemp("testing") / "project", store, PROJECT)
    assert made.run("--only", "deps").code == 0
    return made


def test_shards_and_retries_come_to_one_report_that_is_flagged(project: Repository, tmp_path: Path) -> None:
    """Each test is told once; what passed at the second attempt is flaky, also from the cache.

    What only one shard measured counts; a module that no test imports counts as not covered.
    """
    shop = project.copy(tmp_path / "project")
    shop.write({"pyproject.toml": PROJECT["pyproject.toml"] + SHARDED})

    first = shop.run("--only", "unit,coverage")
    second = shop.run("--only", "unit,coverage")

    assert (first.code, first.outcomes["unit"], first.outcomes["coverage"]) == (0, "success", "success"), (
        first
    )
    assert [ran.stages["unit"]["flaky"] for ran in (first, second)] == [True, True]
    assert second.outcomes["unit"] == "cached"
    results = read_junit(first.folder / "junit.xml")
    names = sorted(case.name for case in results.cases)
    assert (len(set(names)), results.tests, results.bad) == (6, 6, ())
    (flaky,) = results.flaky
    assert flaky.name == "test_flaky"
    assert flaky.attempts[0].message.startswith("AssertionError: assert 'rerun' in 'shard ")
    assert first.result("unit")["result"]["flaky"] == ["tests/test_b.py::test_flaky"]
    assert "3 shards: " in first.log("unit")
    assert "flaky: tests/test_b.py::test_flaky passed at attempt 2" in first.log("unit")
    measured = json.loads((first.files("coverage") / "coverage.json").read_text())
    assert {name: one["missing"] for name, one in measured["files"].items()} == {
        "shop/__init__.py": "",
        "shop/unused.py": "1",
    }
    assert "test_flaky" in (first.folder / "summary.md").read_text()


@dataclass(frozen=True, kw_only=True)
class Breaking:
    """A test that breaks something, and what must be said of it."""

    test: str
    outcome: str = "failure"
    message: str
    tail: str = ""


FORGED = '<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
BREAKING = {
    "crashes": Breaking(
        test="import ctypes\n    ctypes.string_at(0)",
        message="the test runner was killed by SIGSEGV (a segmentation fault) while "
        "tests/test_x.py::test_x ran",
        tail="in test_x",
    ),
    "kills its process group": Breaking(
        test="import os\n    os.killpg(0, 9)",
        outcome="error",
        message="the test runner was killed by SIGKILL (often for want of memory) while "
        "tests/test_x.py::test_x ran",
    ),
    "forges a report and leaves": Breaking(
        test=f"import os\n    open('/reports/junit.xml', 'w').write('{FORGED}')\n    os._exit(0)",
        message="the test runner ended with exit code 0 while tests/test_x.py::test_x ran",
    ),
    "forges a report at the end": Breaking(
        test=f"import atexit\n    atexit.register(lambda: open('/reports/junit.xml', 'w').write('{FORGED}'))",
        outcome="error",
        message="cannot say whether the tests passed: 6 tests were collected and not in the report: "
        "tests/test_a.py::test_odd[",
    ),
    "cuts the report short": Breaking(
        test="import atexit\n    atexit.register(lambda: open('/reports/junit.xml', 'r+').truncate(200))",
        outcome="error",
        message="the test runner ended with exit code 0 and its report cannot be read: ",
    ),
    "writes 200 MB that are no text": Breaking(
        test="import os\n    for _ in range(200):\n        os.write(1, b'\\xff\\x00\\x1b[1m' * 166_667)\n"
        "    print('last words')\n    assert 0, 'at last'",
        message="1 of 6 tests failed; first: tests/test_x.py::test_x: AssertionError: at last",
        tail="last words",
    ),
    "links to this machine": Breaking(
        test="import os\n    os.symlink('/etc/shadow', '/reports/secrets.txt')\n"
        "    os.symlink('/etc', '/reports/etc')\n    assert 0, 'linked'",
        message="1 of 6 tests failed; first: tests/test_x.py::test_x: AssertionError: linked",
    ),
}


@pytest.mark.parametrize("one", BREAKING.values(), ids=BREAKING.keys())
def test_a_test_that_breaks_what_runs_it_is_told_and_never_green(
    project: Repository, tmp_path: Path, one: Breaking
) -> None:
    """The other tests' outcomes are in the report; nothing of this machine is."""
    shop = project.copy(tmp_path / "project")
    shop.write(
        {"tests/test_x.py": f"def test_x():\n    {one.test}\n", "tests/test_b.py": "def test_b(): pass\n"}
    )
    shop.git("add", "-A")

    ran = shop.run("--only", "unit")

    failure = ran.result("unit")["failure"]
    assert (ran.code, ran.outcomes["unit"]) == (1, one.outcome), ran.stderr
    assert failure["message"].startswith(one.message)
    assert one.tail in "\n".join(failure["tail"])
    kept = {path.name for path in ran.files("unit").rglob("*")}
    assert kept <= {"junit.xml"}
    if one.outcome == "failure":
        cases = {case.name: case.kind for case in read_junit(ran.files("unit") / "junit.xml").cases}
        assert (cases["test_b"], cases["test_x"] in ("failure", "error")) == ("passed", True)
    assert sum(path.stat().st_size for path in ran.files("unit").rglob("*")) < 1 << 20

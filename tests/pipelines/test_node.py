"""Tests of Node projects by their own runners, and of any language by a command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.pipelines.projects import new_repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

PRICE = "module.exports = (count) => 7 * count\n"
TESTS = "test('price', () => { expect(price(2)).toBe(14) })\n"
RUNNERS: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "node": (
        {},
        {
            "price.test.js": """
const { test } = require('node:test')
const assert = require('node:assert')
const price = require('./price.js')
test('price', () => assert.equal(price(2), 14))
test('free <&>', () => assert.equal(price(1), 0))
"""
        },
    ),
    "mocha": (
        {"mocha": "^11"},
        {
            "test/price.js": """
const assert = require('node:assert')
const price = require('../price.js')
it('price', () => assert.equal(price(2), 14))
it('free <&>', () => assert.equal(price(1), 0))
"""
        },
    ),
    "jest": ({"jest": "^29"}, {"price.test.js": "const price = require('./price.js')\n" + TESTS}),
    "vitest": (
        {"vitest": "^2", "@vitest/coverage-v8": "^2"},
        {
            "price.test.js": "import { test, expect } from 'vitest'\nimport price from './price.js'\n"
            + TESTS,
            "price.js": "export default (count) => 7 * count\n",
        },
    ),
}
BAD = ("node", "mocha")  # those whose projects have a test that fails


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_node_project_is_tested_by_its_own_runner(tmp_path: Path, store: Path, runner: str) -> None:
    """Nothing is configured: a failing test is named, and good ones leave JUnit and what they covered."""
    needed, files = RUNNERS[runner]
    package = {
        "name": "shop",
        "scripts": {"test": "node --test" if runner == "node" else runner},
        "devDependencies": needed,
        **({"type": "module"} if runner == "vitest" else {}),
    }
    all_files = {"price.js": PRICE, **files, "package.json": json.dumps(package), ".gitignore": ".pipeline\n"}
    shop = new_repository(tmp_path / "project", store, all_files)

    ran = shop.run("--only", "unit")

    kept = {path.name for path in ran.files("unit").glob("*.xml")}
    if runner in BAD:
        message = ran.result("unit")["failure"]["message"]
        assert (ran.outcomes["unit"], kept) == ("failure", {"junit.xml"}), ran.stdout
        assert message.startswith("1 of 2 tests failed; first: "), message
        assert "free <&>" in message
    else:
        assert (ran.outcomes["unit"], kept) == ("success", {"junit.xml", "coverage.xml"}), ran.stdout
        assert "1 test, 0 skipped, 100% of lines covered" in ran.log("unit")


def test_any_language_is_tested_by_a_command_that_leaves_junit(tmp_path: Path, store: Path) -> None:
    """Perl here, whose tests come out as JUnit by a few lines of its own; services are bound as elsewhere."""
    files = {
        "pyproject.toml": """
[tool.pipeline.services.web]
image = "python:3.13-slim"
command = ["python", "-m", "http.server", "8000"]
ports = [8000]

[tool.pipeline.stages.integration]
image = "python:3.13-slim"
command = "perl t/web.pl > $PIPELINE_REPORTS/junit.xml"
""",
        "t/web.pl": """
use IO::Socket::INET;
my $good = IO::Socket::INET->new(PeerAddr => "web:8000") ? "" : "<failure message='no answer'/>";
print "<testsuite><testcase name='web answers' classname='web'>$good</testcase></testsuite>";
""",
        ".gitignore": ".pipeline\n",
    }
    project = new_repository(tmp_path / "project", store, files)

    ran = project.run("--only", "integration")

    assert (ran.code, ran.outcomes["integration"]) == (0, "success"), ran.stdout
    assert "1 test, 0 skipped" in ran.log("integration")

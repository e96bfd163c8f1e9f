"""What is known of a Node project from its `package.json`."""

from __future__ import annotations

import json

import pytest

from pipeline.detect.node import NodeProject, find_node
from pipeline.stages.node_tests import node_command, node_version

JUNIT = "/reports/junit.xml"


def found(files: dict[str, object]) -> NodeProject | None:
    texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in files.items()}
    return find_node(sorted(texts), texts.get)


@pytest.mark.parametrize(
    ("files", "project"),
    [
        (
            {
                "package.json": {"scripts": {"test": "vitest run"}, "devDependencies": {"vitest": "^2"}},
                "package-lock.json": "{}",
                ".nvmrc": "v22.3.0\n",
            },
            NodeProject(runner="vitest", version="22", words=("vitest", "run"), has_lock=True),
        ),
        (
            {
                "app/package.json": {
                    "scripts": {"test": "tsc && jest"},
                    "engines": {"node": ">=18"},
                    "dependencies": {"jest": "*"},
                }
            },
            NodeProject(folder="app", runner="jest", version="18", has_coverage=True),
        ),
        (
            {"package.json": {"scripts": {"test": "node --import x --test a.js"}, "workspaces": ["a"]}},
            NodeProject(words=("node", "--import", "x", "--test", "a.js"), has_workspaces=True),
        ),
        (
            {"package.json": {"devDependencies": {"mocha": "^10"}}, "yarn.lock": ""},
            NodeProject(runner="mocha", other_installer="yarn"),
        ),
        ({"package.json": {"scripts": {"test": "eslint . --ext .jest.js"}}}, None),
        ({"package.json": {"devDependencies": {"prettier": "3"}}}, None),
        ({"package.json": "{ broken"}, None),
        ({"a/b/package.json": {"scripts": {"test": "jest"}}}, None),
    ],
    ids=["vitest", "jest-in-a-folder", "node", "yarn", "no-runner", "tools-only", "broken", "deep"],
)
def test_a_project_with_a_known_runner_is_found(
    files: dict[str, object], project: NodeProject | None
) -> None:
    assert found(files) == project


@pytest.mark.parametrize(
    ("project", "argv"),
    [
        (
            NodeProject(words=("node", "--import", "x", "--test", "a.js")),
            [
                *("node", "--import", "x", "--test"),
                *("--test-reporter=spec", "--test-reporter-destination=stdout"),
                *("--test-reporter=junit", f"--test-reporter-destination={JUNIT}"),
                "a.js",
            ],
        ),
        (
            NodeProject(runner="mocha", words=("mocha", "spec")),
            ["npm", "test", "--", "--reporter", "xunit", "--reporter-option", f"output={JUNIT}"],
        ),
        (
            NodeProject(runner="vitest"),
            [
                *("npx", "--no-install", "vitest"),
                *("--run", "--reporter=default", "--reporter=junit", f"--outputFile.junit={JUNIT}"),
            ],
        ),
    ],
)
def test_runners_are_asked_for_junit(project: NodeProject, argv: list[str]) -> None:
    """By the project's own script where that is one command, else the runner itself."""
    assert node_command(project) == argv


@pytest.mark.parametrize(
    ("project", "version"),
    [
        (NodeProject(version="18"), "20"),
        (NodeProject(version="22"), "22"),
        (NodeProject(runner="jest", version="18"), "18"),
        (NodeProject(), "lts"),
    ],
)
def test_nodes_own_runner_gets_a_version_that_writes_reports(project: NodeProject, version: str) -> None:
    assert node_version(project) == version

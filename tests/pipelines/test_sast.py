"""The stage `sast` in its containers: what it finds, what it must not take for a pass, and what comes new."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines.projects import new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.projects import Ran, Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

ONLY = ("--only", "sast")
SERVICE = """
import os

from flask import Flask, request

app = Flask(__name__)


@app.route("/ping")
def ping():
    return str(os.system("ping -c 1 " + request.args["host"]))
"""
NEWER = """
type Pair[T] = tuple[T, T]


def read(text):
    return eval(text)
"""
FAST = '[tool.pipeline.sast]\nscanners = ["ruff"]\n'


@pytest.fixture
def project(tmp_path: Path, store: Path) -> Repository:
    """A project of one file without faults, looked at by ruff alone."""
    files = {"app.py": "X = 1\n", "pyproject.toml": FAST, ".gitignore": ".pipeline\n"}
    return new_repository(tmp_path / "project", store, files)


def verdict(ran: Ran) -> dict[str, Any]:
    """The verdict, as the stage keeps it."""
    kept: dict[str, Any] = json.loads((ran.files("sast") / "findings.json").read_text())["verdict"]
    return kept


def test_a_command_from_a_request_blocks_and_all_three_look(project: Repository) -> None:
    """It is one finding with three witnesses, as bad as the worst of them says."""
    project.write({"app.py": SERVICE, "pyproject.toml": ""})
    project.commit()

    ran = project.run(*ONLY)

    assert (ran.code, ran.outcomes["sast"]) == (1, "failure")
    [blocking] = [one["finding"] for one in verdict(ran)["judged"] if one["action"] == "block"]
    assert {one["tool"]: one["rule"] for one in blocking["witnesses"]} == {
        "ruff": "S605",
        "bandit": "B605",
        "semgrep": "command-from-request",
    }
    assert (blocking["severity"]["level"], blocking["place"]["line"]) == ("critical", 11)
    assert "use `subprocess.run()` with a list of arguments" in ran.log("sast")


def test_what_was_not_read_warns_and_blocks_in_an_environment(project: Repository) -> None:
    """A file that does not parse, one that is not UTF-8, and settings that leave everything out."""
    project.write({"broken.py": "def f(:\n", "ruff.toml": 'exclude = ["*"]\n'})
    (project.root / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nNAME = '\xe9'\n")
    project.commit()

    ran = project.run(*ONLY)

    assert (ran.code, ran.outcomes["sast"]) == (0, "success")
    [unchecked] = verdict(ran)["unchecked"]
    assert (unchecked["scanner"], unchecked["state"], unchecked["action"]) == ("ruff", "incomplete", "warn")
    assert "2 files were not checked" in ran.log("sast")


def test_settings_that_bandit_would_drop_are_an_error(project: Repository) -> None:
    project.write(
        {
            ".bandit": "exclude_dirs:\n  - tests\n",
            "pyproject.toml": FAST.replace('"ruff"', '"ruff", "bandit"'),
        }
    )
    project.commit()

    ran = project.run(*ONLY)

    assert (ran.code, ran.outcomes["sast"]) == (1, "error")
    assert "`.bandit` is not INI" in ran.log("sast")
    assert "write `.bandit` as INI" in ran.stderr + ran.stdout


def test_code_newer_than_the_tools_python_is_read_by_the_projects_own(project: Repository) -> None:
    """The second run, in which another file changed, says of it what the first one said."""
    settings = FAST.replace('"ruff"', '"ruff", "bandit"')
    head = '[project]\nname = "newer"\nversion = "1"\nrequires-python = ">=3.13"\n'
    project.write({"newer.py": NEWER, "pyproject.toml": head + settings})
    project.commit()

    first = verdict(project.run(*ONLY))
    project.write({"app.py": "X = 2\n"})
    second = verdict(project.run(*ONLY))

    assert first["unchecked"] == []
    [found] = [one["finding"] for one in first["judged"] if one["finding"]["rule"]["id"] == "S307"]
    assert {one["tool"] for one in found["witnesses"]} == {"ruff", "bandit"}
    assert second == first

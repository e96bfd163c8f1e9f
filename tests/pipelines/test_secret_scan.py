"""`secret_scan` in whole runs: what it finds in a project, its commits, its image and its logs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pipelines.projects import new_repository
from tests.unit.scan.secrets.places import AWS, GITHUB, URL_PASSWORD

if TYPE_CHECKING:
    from tests.pipelines.projects import Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

CLEAN = {
    "Dockerfile": "FROM debian:12-slim\nCOPY app.sh /app/app.sh\n",
    "app.sh": "#!/bin/sh\necho hello\n",
    ".gitignore": ".pipeline\n",
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's store that the tests share; `PIPELINE_TEST_STORE` names one with base images."""
    kept = os.environ.get("PIPELINE_TEST_STORE")
    return Path(kept) if kept else tmp_path_factory.mktemp("store")


@pytest.fixture
def project(tmp_path: Path, store: Path) -> Repository:
    """A project without a secret."""
    return new_repository(tmp_path / "project", store, CLEAN)


def test_a_project_without_secrets_passes_and_says_all_that_was_looked_at(project: Repository) -> None:
    """Files, commits and every layer of the image; nothing is told of the base image's software."""
    ran = project.run("--until", "secret_scan")

    result = ran.result("secret_scan")["result"]
    seen = {one["name"]: (one["state"], one["unit"]) for one in result["scanners"]}
    assert (ran.code, result["result"], result["counts"]) == (0, "pass", {}), ran.stderr
    assert seen == {
        "secrets": ("complete", "files"),
        "secrets-commits": ("complete", "commits"),
        "secrets-image": ("complete", "layers"),
        "secrets-logs": ("complete", "logs"),
    }


def test_a_secret_blocks_wherever_it_is_and_is_shown_nowhere(project: Repository) -> None:
    """In a file, in a commit that was reverted, and in the image's environment alone."""
    project.write({"gone.env": f"AWS_ID={AWS}\n"})
    project.git("add", "gone.env")
    project.git("commit", "-q", "-m", "add settings")
    project.git("rm", "-q", "gone.env")
    project.write({"deploy.env": f"TOKEN={GITHUB}\n"})
    part, rest = URL_PASSWORD[:5], URL_PASSWORD[5:]
    project.write({"Dockerfile": f"FROM debian:12-slim\nARG A={part}\nENV URL=redis://:${{A}}{rest}@cache\n"})
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "take them out")
    project.git("branch", "-q", "base", "HEAD~2")

    ran = project.run("--until", "secret_scan", GITHUB_BASE_REF="base")

    document = json.loads((ran.files("secret_scan") / "findings.json").read_text())
    told = json.dumps(document)
    assert (ran.code, ran.outcomes["secret_scan"]) == (1, "failure"), ran.stderr
    assert ran.result("secret_scan")["failure"]["error_class"] == "FindingsBlock"
    for rule in ("github-token", "aws-access-key-id", "url-password"):
        assert rule in told
    leaks = [
        str(path)
        for path in ran.folder.rglob("*")
        if path.is_file() and any(one.encode() in path.read_bytes() for one in (GITHUB, AWS, URL_PASSWORD))
    ]
    assert [path for path in leaks if not path.endswith(".tar")] == []

"""The repository that releases are tried in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.release.world import ISOLATED, World, make_world

if TYPE_CHECKING:
    from pathlib import Path

CI = (
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "GITHUB_REF_NAME",
    "GITHUB_REF_TYPE",
    "GITHUB_WORKFLOW_REF",
    "CI_COMMIT_BRANCH",
    "CI_PROJECT_PATH",
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git knows no settings of this machine, and no CI speaks through the environment."""
    for name, value in ISOLATED.items():
        monkeypatch.setenv(name, value)
    for name in CI:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty repository with an empty remote."""
    return make_world(tmp_path)

"""The real tools, each installed once for all tests here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.scan.sast.real import install

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def ruff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ruff's program."""
    return install("ruff", tmp_path_factory.mktemp("tool"))


@pytest.fixture(scope="session")
def bandit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of bandit's program."""
    return install("bandit", tmp_path_factory.mktemp("tool"))


@pytest.fixture(scope="session")
def semgrep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of semgrep's programs."""
    return install("semgrep", tmp_path_factory.mktemp("tool"))

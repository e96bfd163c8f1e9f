"""The project that commands are tried in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import FILES, CliProject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cli(tmp_path: Path) -> CliProject:
    """A project of three stages and an effect."""
    made = empty(tmp_path)
    made.write(FILES)
    return made


@pytest.fixture
def bare(tmp_path: Path) -> CliProject:
    """A folder with nothing in it."""
    return empty(tmp_path)


def empty(tmp_path: Path) -> CliProject:
    (tmp_path / "project").mkdir()
    (tmp_path / "home").mkdir()
    return CliProject(root=tmp_path / "project", home=tmp_path / "home")

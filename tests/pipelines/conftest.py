"""The room and the project that robustness is tried in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.busybox import require_launcher
from tests.pipelines.robust import (
    STAGES,
    RobustProject,
    Room,
    adopting_orphans,
    make_project,
    make_rootfs,
    opened_room,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's store that the tests share, so that base images are made once.

    `PIPELINE_TEST_STORE` names one that has them already.
    """
    kept = os.environ.get("PIPELINE_TEST_STORE")
    return Path(kept) if kept else tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A busybox root file system."""
    require_launcher()
    return make_rootfs(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def room() -> Iterator[Room]:
    """A room of this test's own; whatever is started in it stays in sight."""
    with adopting_orphans(), opened_room() as room:
        yield room


@pytest.fixture
def bare(tmp_path: Path, rootfs: Path, room: Room) -> RobustProject:
    """A project without stages."""
    return make_project(tmp_path, rootfs, room)


@pytest.fixture
def project(bare: RobustProject) -> RobustProject:
    """A project of four cheap stages."""
    bare.write({"ci/stages.py": STAGES, "salt.txt": "first"})
    return bare

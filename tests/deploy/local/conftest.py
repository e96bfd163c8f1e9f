"""The image and the environment that deployments to this machine are tried with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.deploy.local.product import build_image, end_all, local_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.deploy.targets.local import LocalTarget


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's store; `PIPELINE_TEST_STORE` names one that has base images already."""
    kept = os.environ.get("PIPELINE_TEST_STORE")
    return Path(kept) if kept else tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """The image of the app, as an OCI archive."""
    return anyio.run(build_image, tmp_path_factory.mktemp("image"), store)


@pytest.fixture
def target(
    tmp_path: Path, archive: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalTarget]:
    """An environment of this test's own; nothing of it is left when the test has ended."""
    monkeypatch.setenv("PIPELINE_STORE", str(store))
    monkeypatch.setenv("PIPELINE_IMAGE_FALLBACK", "recipe")
    target = local_target(tmp_path, archive)
    yield target
    anyio.run(end_all, target)

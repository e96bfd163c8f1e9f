"""Fixtures for every suite."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("PIPELINE_ENGINE_IDLE", "0")  # engines end with the test that started them


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which the engine uses."""
    return "asyncio"

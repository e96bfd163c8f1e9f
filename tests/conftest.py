"""Fixtures for every suite."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which the engine uses."""
    return "asyncio"

"""Fixtures for every suite."""

from __future__ import annotations

import os
import signal

import pytest

os.environ.setdefault("PIPELINE_ENGINE_IDLE", "0")  # engines end with the test that started them

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Under `nohup`: programs would inherit that it is ignored, and keep to it. A handler is not inherited.
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which the engine uses."""
    return "asyncio"

"""The service as a process of its own, for tests that speak HTTP to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 30.0


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the service answers; it keeps its notes where the environment says."""
    argv = ["-m", "uvicorn", "--factory", "notes.app:main_app", "--port", "8765"]
    environ = {**os.environ, "NOTES_A_MINUTE": "5"}
    with subprocess.Popen([sys.executable, *argv], env=environ) as process:
        try:
            wait_until_healthy("http://127.0.0.1:8765")
            yield "http://127.0.0.1:8765"
        finally:
            process.terminate()


def wait_until_healthy(address: str) -> None:
    """Return when the service answers; raise what it last failed with after `START_S`."""
    ends = time.monotonic() + START_S
    while True:
        try:
            httpx.get(f"{address}/health").raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)
        else:
            return

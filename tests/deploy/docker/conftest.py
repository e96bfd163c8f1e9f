"""Fixtures of the Docker target: one bed of hosts for all tests of a process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.deploy.docker import bed as beds

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def bed() -> Iterator[beds.Bed]:
    """Docker hosts, which are started when they are asked for."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces and Docker daemons")
    if lack := beds.missing():
        pytest.skip(f"not installed: {lack}")
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        one = beds.Bed(folder=Path(folder))
        try:
            yield one
        finally:
            one.close()


@pytest.fixture(scope="session")
def images(bed: beds.Bed) -> dict[str, str]:
    """References of images in the registry: "1", "2" and "3" are versions, "proxy" is HAProxy."""
    serve = ("-c", f'CMD ["/bin/sh", "-c", "{beds.SERVE}"]')
    built = {str(n): bed.image(f"app{n}:1", beds.app(n), *serve) for n in (1, 2, 3)}
    return {**built, "proxy": bed.image("proxy:1", beds.proxy())}


@pytest.fixture
def host(bed: beds.Bed) -> Iterator[beds.BedHost]:
    """The first host, with nothing on it."""
    one = bed.host(1)
    yield one
    one.clear()

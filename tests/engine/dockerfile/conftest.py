"""Fixtures of the Dockerfile tests."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.oci.config import ImageConfig
from tests.engine import busybox
from tests.engine.dockerfile.helpers import CopyingSession
from tests.engine.dockerfile.workshop import Workshop, open_workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1001:\nweb:x:33:\n"


@pytest.fixture
def session(tmp_path: Path) -> CopyingSession:
    """Return a session with one image, `base`."""
    session = CopyingSession(folder=tmp_path)
    config = ImageConfig(env=(("PATH", "/usr/bin:/bin"),), cmd=("sh",), workdir="/")
    session.image("base", config, {"etc/passwd": PASSWD, "etc/group": GROUP, "bin/sh": "#!"})
    return session


@pytest.fixture(scope="session")
def base_tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return an archive of a small root file system."""
    root = tmp_path_factory.mktemp("base")
    busybox.fill(root)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(root, arcname=".")
    return buffer.getvalue()


@pytest.fixture
async def workshop(tmp_path: Path, base_tar: bytes) -> AsyncIterator[Workshop]:
    """Return a workshop with a store of its own."""
    async with open_workshop(tmp_path, base_tar) as workshop:
        yield workshop

"""Fixtures of the Dockerfile tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.engine.oci.config import ImageConfig
from tests.engine.dockerfile.helpers import CopyingSession

if TYPE_CHECKING:
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

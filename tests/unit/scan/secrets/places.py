"""Repositories and image archives to look into."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Made of parts, so that no scanner takes this file for a leak.
GITHUB = "ghp_" + "x7Kq2mV9bTz4Wc8LpR3nYd6HsJ1fGa5QeU0i"
AWS = "AKIA" + "Q3EGRT7ZKD5WLHNB"
URL_PASSWORD = "w8Kd0pQz" + "3vXr"
CHOSEN = "t4Wq9Zk" + "Lx7Vd!"
PLANTED = (GITHUB, AWS, URL_PASSWORD, CHOSEN)


class Repository:
    """A git repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *argv: str) -> str:
        name = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *name, *argv], cwd=self.root, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def commit(self, message: str, files: Mapping[str, str | bytes | None]) -> str:
        """Write (or with None delete) files and commit them; return the commit."""
        for name, text in files.items():
            path = self.root / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer's tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_image(
    path: Path,
    layers: Sequence[tuple[bytes, str]],
    config: Mapping[str, object] | None = None,
    attestation: bytes = b"",
) -> list[str]:
    """Write an OCI archive of (blob, media type); return the layers' digests.

    Args:
        attestation: What a builder says of the image, beside it in an index of platforms.
    """
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return digest

    settings = put(json.dumps({"os": "linux", "architecture": "amd64", **(config or {})}).encode())
    digests = [put(blob) for blob, _ in layers]
    rows = [{"mediaType": kind, "digest": put(blob), "size": len(blob)} for blob, kind in layers]
    manifest = put(json.dumps({"config": {"digest": settings}, "layers": rows}).encode())
    told = [{"digest": manifest, "platform": {"os": "linux", "architecture": "amd64"}}]
    if attestation:
        rows = [{"mediaType": "application/vnd.in-toto+json", "digest": put(attestation)}]
        beside = put(json.dumps({"config": {"digest": settings}, "layers": rows}).encode())
        told.append({"digest": beside, "platform": {"os": "unknown", "architecture": "unknown"}})
        told = [{"digest": put(json.dumps({"manifests": told}).encode())}]
    index = json.dumps({"manifests": told}).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in {
            "index.json": index,
            **{f"blobs/{d.replace(':', '/')}": b for d, b in blobs.items()},
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return digests

"""What a runner is given: one exec, with everything resolved to host paths, ids and descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """An overlay file system: `lowers` top first; without `upper` and `work` it is read-only."""

    lowers: tuple[Path, ...]
    upper: Path | None = None
    work: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayMount:
    """`source_path` inside an overlay, mounted at `target`."""

    target: str
    overlay: Overlay
    source_path: str = "/"
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A host path mounted at `target`."""

    target: str
    source: Path
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsMount:
    """A fresh tmpfs at `target`."""

    target: str
    size_bytes: int | None = None
    mode: int = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """One process to run in fresh namespaces; mounts are in the order they are to be made."""

    id: str
    rootfs: Overlay
    mounts: tuple[OverlayMount | BindMount | TmpfsMount, ...]
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    hostname: str = "dagger"
    network_namespace: Path | None = None  # None: a new one with loopback only
    host_network: bool = False
    init: bool = True
    insecure: bool = False


class Runner(Protocol):
    """Runs one spec; an OCI runtime or our launcher."""

    name: str

    async def run(self, spec: ExecSpec, *, stdin: int, stdout: int, stderr: int) -> int:
        """Run to the end and return the exit code (128+n for a signal).

        The descriptors stay the caller's. When the awaiting task is cancelled every process of
        the container is killed and gone before this returns.

        Raises:
            RunnerFailed: The process could not be started (bad mount, missing runtime).
        """

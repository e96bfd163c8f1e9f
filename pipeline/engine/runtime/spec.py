"""What a runner is given: one exec, with everything resolved to host paths, ids and descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.engine.runtime.cgroups import Cgroups


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
class FileMount:
    """A file that exists only in memory, mounted read-only at `target`; for secrets and name files."""

    target: str
    content: bytes = field(repr=False)
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


Mounted = OverlayMount | BindMount | TmpfsMount | FileMount


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """One process to run in fresh namespaces; mounts are in the order they are to be made."""

    id: str
    rootfs: Overlay
    mounts: tuple[Mounted, ...]
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
    redirect_stdin: str = ""  # a file of the container, instead of the given descriptor
    redirect_stdout: str = ""  # opened and handed to `started`; the caller writes it
    redirect_stderr: str = ""
    cgroups: tuple[Path, ...] = ()  # directories of a leaf, one in each hierarchy
    devices_are_guarded: bool = False  # by the leaf; otherwise device files work in `/dev` only


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container whose process is about to start; the descriptors become the receiver's.

    `pidfd` is the first process of the container: a signal sent to it reaches the command's
    process group through the init.
    """

    id: str
    pidfd: int
    redirect_stdout: int | None = None
    redirect_stderr: int | None = None


class Runner(Protocol):
    """Runs specs; an OCI runtime or our launcher."""

    name: str
    cgroups: Cgroups | None  # where specs may be given a leaf; None: this runner takes none

    async def run(
        self,
        spec: ExecSpec,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        started: Callable[[Running], None] | None = None,
    ) -> int:
        """Run to the end and return the exit code (128+n for a signal).

        The descriptors stay the caller's. `started` is called once, when everything is set up and
        before the command runs. When the awaiting task is cancelled every process of the
        container is killed and gone before this returns.

        Raises:
            RunnerFailed: The process could not be started (bad mount, missing runtime).
            RedirectFailed: A file to redirect to or from could not be opened.
        """

    async def run_inside(
        self, running: Running, spec: ExecSpec, *, stdin: int, stdout: int, stderr: int
    ) -> int:
        """Run `spec.argv` inside a running container, with the environment and user of `spec`.

        Raises:
            RunnerFailed: The container is gone.
        """

"""What the runners by other programs share: the container's file systems, merged by a thread of ours.

The mounts are made in a mount namespace of the thread's own, which the program is started from; they vanish
when both have ended.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.locks import own
from pipeline.engine.mounts import bind, mount_overlay
from pipeline.engine.rootpath import find_status, make_directories, resolve
from pipeline.engine.runtime.errors import RedirectFailed, RunnerFailed
from pipeline.engine.runtime.spec import BindMount, FileMount, OverlayMount, Running, TmpfsMount
from pipeline.engine.runtime.syscalls import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.runtime.spec import ExecSpec, Mounted

INIT: Final = "/.init"
_POLL_S: Final = 0.005


def lock_folder(root: Path) -> int:
    """Own a runner's folder as long as the descriptor is open; -1 when somebody else does."""
    return own(root / "lock", os.O_RDWR | os.O_CREAT)


async def run_merged(container: MergedContainer) -> int:
    """Run to the end and return the exit code; a cancelled one is gone before this returns."""
    thread = threading.Thread(target=container.live, name=f"run-{container.spec.id}", daemon=True)
    thread.start()
    try:
        return await asyncio.shield(container.result)
    except asyncio.CancelledError:
        container.cancelled.set()
        while not container.result.done():
            with suppress(asyncio.CancelledError, EngineError):
                await asyncio.shield(container.result)
        raise
    finally:
        thread.join()


class MergedContainer(ABC):
    """One run, by a program that a thread starts from the mount namespace in which it has made the mounts."""

    def __init__(
        self,
        root: Path,
        spec: ExecSpec,
        stdio: tuple[int, int, int],
        started: Callable[[Running], None] | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.spec = spec
        self.stdio = stdio
        self.started = started
        self.bundle = Path(tempfile.mkdtemp(prefix="bundle-", dir=root))
        self.rootfs = self.bundle / "rootfs"
        self.rootfs.mkdir()  # seen from outside too, where `runc exec` wants a directory of this name
        self.redirects: dict[str, int] = {}
        self.result: asyncio.Future[int] = self.loop.create_future()
        self.cancelled = threading.Event()

    @abstractmethod
    def supervise(self) -> int:
        """Start the program, see it through, and return the exit code; in the thread."""

    def helper(self) -> Path | None:
        """Return what the container needs of ours at `INIT`; None for nothing."""
        return None

    def tell_started(self, pidfd: int) -> None:
        """Tell that everything is set up, and wait until that was heard; the descriptor is given away."""
        running = Running(
            id=self.spec.id,
            pidfd=pidfd,
            redirect_stdout=self.redirects.pop("stdout", None),
            redirect_stderr=self.redirects.pop("stderr", None),
        )
        told = threading.Event()

        def tell() -> None:
            assert self.started is not None  # noqa: S101 - only called when there is one
            self.started(running)
            told.set()

        self.loop.call_soon_threadsafe(tell)
        while not told.wait(_POLL_S) and not self.cancelled.is_set():
            pass

    def live(self) -> None:
        """Do everything, in a thread that ends with it."""
        try:
            outcome: int | EngineError = self._run()
        except RunnerFailed as error:
            outcome = error
        except (EngineError, OSError) as error:
            outcome = RunnerFailed(f"cannot set up the container: {error}")
        finally:
            for descriptor in self.redirects.values():
                os.close(descriptor)
        self.loop.call_soon_threadsafe(self._tell, outcome)

    def _tell(self, outcome: int | EngineError) -> None:
        shutil.rmtree(self.bundle)
        if isinstance(outcome, EngineError):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)

    def _run(self) -> int:
        unshare(CLONE_NEWNS)
        mount("none", "/", "", MS_REC | MS_PRIVATE, "")
        # On a tmpfs of this namespace: what is below it goes when the namespace goes.
        mount("tmpfs", os.fspath(self.bundle), "tmpfs", 0, "mode=700")
        self._make_mounts()
        self._open_redirects()
        return self.supervise()

    def _make_mounts(self) -> None:
        overlay = self.spec.rootfs
        stubs = self.bundle / "stubs"
        stubs.mkdir()
        helper = self.helper()
        if helper is not None:
            place = stubs / INIT.lstrip("/")
            place.mkdir() if helper.is_dir() else place.touch()
        self.rootfs.mkdir()
        mount_overlay(self.rootfs, (*overlay.lowers, stubs), overlay.upper, overlay.work)
        for number, wanted in enumerate(self.spec.mounts):
            self._make_mount(wanted, self.bundle / f"mount{number}")
        if helper is not None:
            bind(helper, self.rootfs / INIT.lstrip("/"), read_only=True)
        owner = (self.spec.uid, self.spec.gid)
        make_directories(resolve(os.fspath(self.rootfs), self.spec.cwd), owner=owner)

    def _make_mount(self, wanted: Mounted, place: Path) -> None:
        if isinstance(wanted, BindMount):
            self._bind(wanted.source, wanted.target, read_only=wanted.read_only)
        elif isinstance(wanted, TmpfsMount):
            size = f",size={wanted.size_bytes}" if wanted.size_bytes else ""
            target = self.reach(wanted.target, is_dir=True)
            mount("tmpfs", target, "tmpfs", 0x2 | 0x4, f"mode={wanted.mode:o}{size}")
        elif isinstance(wanted, FileMount):
            place.write_bytes(wanted.content)
            os.chown(place, wanted.uid, wanted.gid)
            os.chmod(place, wanted.mode)
            self._bind(place, wanted.target, read_only=True)
        elif isinstance(wanted, OverlayMount):
            place.mkdir()
            mount_overlay(place, wanted.overlay.lowers, wanted.overlay.upper, wanted.overlay.work)
            source = resolve(os.fspath(place), wanted.source_path)
            self._bind(Path(source), wanted.target, read_only=wanted.read_only)

    def _bind(self, source: Path, target: str, *, read_only: bool) -> None:
        bind(source, Path(self.reach(target, is_dir=source.is_dir())), read_only=read_only)

    def reach(self, target: str, *, is_dir: bool) -> str:
        """Return the host path of a place in the container, made if it is missing."""
        place = resolve(os.fspath(self.rootfs), target)
        if is_dir:
            make_directories(place)
        elif find_status(place) is None:
            make_directories(os.path.dirname(place))
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        return place

    def _open_redirects(self) -> None:
        spec = self.spec
        for name in ("stdin", "stdout", "stderr"):
            path = {
                "stdin": spec.redirect_stdin,
                "stdout": spec.redirect_stdout,
                "stderr": spec.redirect_stderr,
            }[name]
            if path:
                self.redirects[name] = self._open_redirect(name, path)

    def _open_redirect(self, name: str, path: str) -> int:
        try:
            place = resolve(os.fspath(self.rootfs), os.path.join(self.spec.cwd, path))
            if name == "stdin":
                return os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            is_new = find_status(place) is None
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(place, flags, 0o600)
            if is_new:
                os.fchown(descriptor, self.spec.uid, self.spec.gid)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RedirectFailed(f"open redirect {name} file: open {path}: {reason}") from error
        return descriptor

"""The reference runner: `runc` with a specification that means the same as the launcher's set-up.

The mounts are made by a thread in a mount namespace of its own, which `runc` is started from; they
vanish when both have ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.mounts import bind, mount_overlay
from pipeline.engine.rootpath import find_status, make_directories, resolve
from pipeline.engine.runtime.errors import RedirectFailed, RunnerFailed
from pipeline.engine.runtime.launcher import LAUNCHER
from pipeline.engine.runtime.runc_spec import process_of, runc_spec
from pipeline.engine.runtime.spec import BindMount, FileMount, OverlayMount, Running, TmpfsMount
from pipeline.engine.runtime.syscalls import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.runtime.cgroups import Cgroups
    from pipeline.engine.runtime.spec import ExecSpec, Mounted

_STATE: Final = Path("/run/pipeline-runc")
_POLL_S: Final = 0.005
_STATE_POLLS: Final = 50
_INIT: Final = "/.init"


class RuncMissing(EngineError):
    """`runc` or `setpriv` is not installed."""

    def __init__(self, program: str) -> None:
        super().__init__(f"`{program}` is not installed")


class RuncRunner:
    """Runs each spec by `runc run`; containers that a dead engine left are removed when it is made."""

    name = "runc"

    def __init__(self) -> None:
        for program in ("runc", "setpriv"):
            if shutil.which(program) is None:
                raise RuncMissing(program)
        _STATE.mkdir(mode=0o700, exist_ok=True)
        _sweep()
        self._root = Path(tempfile.mkdtemp(prefix="engine-", dir=_STATE))
        self._lock = _lock(self._root)
        self.cgroups: Cgroups | None = None  # `runc` makes its own

    async def run(
        self,
        spec: ExecSpec,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        started: Callable[[Running], None] | None = None,
    ) -> int:
        """Run to the end; see `Runner.run`."""
        container = _Container(self._root, spec, (stdin, stdout, stderr), started)
        thread = threading.Thread(target=container.live, name=f"runc-{spec.id}", daemon=True)
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

    async def run_inside(
        self, running: Running, spec: ExecSpec, *, stdin: int, stdout: int, stderr: int
    ) -> int:
        """Run in a running container; see `Runner.run_inside`."""
        await self._wait_until_it_runs(running)
        with tempfile.NamedTemporaryFile("w", prefix="process-", dir=self._root, suffix=".json") as file:
            json.dump(process_of(spec, spec.argv), file)
            file.flush()
            process = await asyncio.create_subprocess_exec(
                "runc", "--root", self._root / "state", "exec", "--process", file.name, running.id,
                stdin=stdin, stdout=stdout, stderr=stderr,
            )  # fmt: skip
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _wait_until_it_runs(self, running: Running) -> None:
        """`started` is told from inside `runc run`, a moment before other `runc`s know the container."""
        for _ in range(_STATE_POLLS):
            process = await asyncio.create_subprocess_exec(
                "runc", "--root", self._root / "state", "state", running.id,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            answer, _nothing = await process.communicate()
            if process.returncode == 0 and json.loads(answer)["status"] == "running":
                return
            await asyncio.sleep(_POLL_S)
        raise RunnerFailed(f"cannot run a command in `{running.id}`: it is not running")


class _Container:
    """One `runc run`, from the thread that made its mounts."""

    def __init__(
        self,
        root: Path,
        spec: ExecSpec,
        stdio: tuple[int, int, int],
        started: Callable[[Running], None] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._runc = ["runc", "--root", os.fspath(root / "state")]
        self._spec = spec
        self._stdio = stdio
        self._started = started
        self._bundle = Path(tempfile.mkdtemp(prefix="bundle-", dir=root))
        self._rootfs = self._bundle / "rootfs"
        self._rootfs.mkdir()  # seen from outside too, where `runc exec` wants a directory of this name
        self._redirects: dict[str, int] = {}
        self.result: asyncio.Future[int] = self._loop.create_future()
        self.cancelled = threading.Event()

    def live(self) -> None:
        """Do everything, in a thread that ends with it."""
        try:
            outcome: int | EngineError = self._run()
        except RunnerFailed as error:
            outcome = error
        except (EngineError, OSError) as error:
            outcome = RunnerFailed(f"cannot set up the container: {error}")
        finally:
            for descriptor in self._redirects.values():
                os.close(descriptor)
        self._loop.call_soon_threadsafe(self._tell, outcome)

    def _tell(self, outcome: int | EngineError) -> None:
        shutil.rmtree(self._bundle)
        if isinstance(outcome, EngineError):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)

    def _run(self) -> int:
        unshare(CLONE_NEWNS)
        mount("none", "/", "", MS_REC | MS_PRIVATE, "")
        # On a tmpfs of this namespace: what is below it goes when the namespace goes.
        mount("tmpfs", os.fspath(self._bundle), "tmpfs", 0, "mode=700")
        self._make_mounts()
        self._open_redirects()
        has_init = self._spec.init and os.access(LAUNCHER, os.X_OK)
        argv = (_INIT, "init", *self._spec.argv) if has_init else self._spec.argv
        gate = self._bundle / "gate" if self._started else None
        if gate:
            os.mkfifo(gate)
        spec = runc_spec(self._spec, argv, self._rootfs, gate)
        (self._bundle / "config.json").write_text(json.dumps(spec))
        return self._supervise(gate)

    def _make_mounts(self) -> None:
        overlay = self._spec.rootfs
        stubs = self._bundle / "stubs"
        stubs.mkdir()
        (stubs / _INIT.lstrip("/")).touch()
        self._rootfs.mkdir()
        mount_overlay(self._rootfs, (*overlay.lowers, stubs), overlay.upper, overlay.work)
        for number, wanted in enumerate(self._spec.mounts):
            self._make_mount(wanted, self._bundle / f"mount{number}")
        if self._spec.init and os.access(LAUNCHER, os.X_OK):
            bind(LAUNCHER, self._rootfs / _INIT.lstrip("/"), read_only=True)
        owner = (self._spec.uid, self._spec.gid)
        make_directories(resolve(os.fspath(self._rootfs), self._spec.cwd), owner=owner)

    def _make_mount(self, wanted: Mounted, place: Path) -> None:
        if isinstance(wanted, BindMount):
            self._bind(wanted.source, wanted.target, read_only=wanted.read_only)
        elif isinstance(wanted, TmpfsMount):
            size = f",size={wanted.size_bytes}" if wanted.size_bytes else ""
            target = self._reach(wanted.target, is_dir=True)
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
        bind(source, Path(self._reach(target, is_dir=source.is_dir())), read_only=read_only)

    def _reach(self, target: str, *, is_dir: bool) -> str:
        place = resolve(os.fspath(self._rootfs), target)
        if is_dir:
            make_directories(place)
        elif find_status(place) is None:
            make_directories(os.path.dirname(place))
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        return place

    def _open_redirects(self) -> None:
        spec = self._spec
        for name in ("stdin", "stdout", "stderr"):
            path = {
                "stdin": spec.redirect_stdin,
                "stdout": spec.redirect_stdout,
                "stderr": spec.redirect_stderr,
            }[name]
            if path:
                self._redirects[name] = self._open_redirect(name, path)

    def _open_redirect(self, name: str, path: str) -> int:
        try:
            place = resolve(os.fspath(self._rootfs), os.path.join(self._spec.cwd, path))
            if name == "stdin":
                return os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            is_new = find_status(place) is None
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(place, flags, 0o600)
            if is_new:
                os.fchown(descriptor, self._spec.uid, self._spec.gid)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RedirectFailed(f"open redirect {name} file: open {path}: {reason}") from error
        return descriptor

    def _supervise(self, gate: Path | None) -> int:
        stdin, stdout, stderr = self._stdio
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._runc, "run", "--bundle", self._bundle, self._spec.id],
            stdin=self._redirects.get("stdin", stdin),
            stdout=stdout,
            stderr=stderr,
        )
        try:
            while process.poll() is None:
                if self.cancelled.is_set():
                    break
                if gate is not None and self._open_gate(gate):
                    gate = None
                time.sleep(_POLL_S)
        finally:
            if process.returncode is None:
                self._kill(process)
        code = process.returncode
        return 128 - code if code < 0 else code

    def _open_gate(self, gate: Path) -> bool:
        """Tell that the container is set up, once it is, and let its command go."""
        state = gate.with_name("state")
        if not state.exists():
            return False
        pidfd = os.pidfd_open(json.loads(state.read_text())["pid"])
        running = Running(
            id=self._spec.id,
            pidfd=pidfd,
            redirect_stdout=self._redirects.pop("stdout", None),
            redirect_stderr=self._redirects.pop("stderr", None),
        )
        told = threading.Event()

        def tell() -> None:
            assert self._started is not None  # noqa: S101 - there is a gate only for it
            self._started(running)
            told.set()

        self._loop.call_soon_threadsafe(tell)
        while not told.wait(_POLL_S):
            if self.cancelled.is_set():
                return True
        gate.write_bytes(b"")
        return True

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        subprocess.run([*self._runc, "delete", "--force", self._spec.id], capture_output=True, check=False)
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            subprocess.run(
                [*self._runc, "delete", "--force", self._spec.id], capture_output=True, check=False
            )


def _sweep() -> None:
    """Remove what engines that are gone have left."""
    for root in _STATE.glob("engine-*"):
        lock = _lock(root)
        if lock < 0:
            continue
        for container in (root / "state").glob("*"):
            command = ["runc", "--root", os.fspath(root / "state"), "delete", "--force", container.name]
            subprocess.run(command, capture_output=True, check=False)
        shutil.rmtree(root)
        os.close(lock)


def _lock(root: Path) -> int:
    """Own a state directory as long as the descriptor is open; -1 when somebody else does."""
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    return lock

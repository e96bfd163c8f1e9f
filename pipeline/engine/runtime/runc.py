"""The reference runner: `runc` with a specification that means the same as the launcher's set-up."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime.errors import RunnerFailed
from pipeline.engine.runtime.launcher import LAUNCHER
from pipeline.engine.runtime.merged import INIT, MergedContainer, lock_folder, run_merged
from pipeline.engine.runtime.runc_spec import process_of, runc_spec
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.runtime.cgroups import Cgroups
    from pipeline.engine.runtime.spec import ExecSpec, Running

_STATE: Final = Path("/run/pipeline-runc")
_POLL_S: Final = 0.005
_STATE_POLLS: Final = 50


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
        self._lock = lock_folder(self._root)
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
        return await run_merged(_Container(self._root, spec, (stdin, stdout, stderr), started))

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


class _Container(MergedContainer):
    """One `runc run`."""

    def __init__(
        self,
        root: Path,
        spec: ExecSpec,
        stdio: tuple[int, int, int],
        started: Callable[[Running], None] | None,
    ) -> None:
        super().__init__(root, spec, stdio, started)
        self._runc = ["runc", "--root", os.fspath(root / "state")]

    def helper(self) -> Path | None:
        """Return the init, if there is one."""
        return LAUNCHER if self.spec.init and os.access(LAUNCHER, os.X_OK) else None

    def supervise(self) -> int:
        """Make the bundle and see `runc run` through."""
        argv = (INIT, "init", *self.spec.argv) if self.helper() else self.spec.argv
        gate = self.bundle / "gate" if self.started else None
        if gate:
            os.mkfifo(gate)
        (self.bundle / "config.json").write_text(json.dumps(runc_spec(self.spec, argv, self.rootfs, gate)))
        stdin, stdout, stderr = self.stdio
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._runc, "run", "--bundle", self.bundle, self.spec.id],
            stdin=self.redirects.get("stdin", stdin),
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
        self.tell_started(pidfd)
        if self.cancelled.is_set():
            return True
        gate.write_bytes(b"")
        return True

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        subprocess.run([*self._runc, "delete", "--force", self.spec.id], capture_output=True, check=False)
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            subprocess.run([*self._runc, "delete", "--force", self.spec.id], capture_output=True, check=False)


def _sweep() -> None:
    """Remove what engines that are gone have left."""
    for root in _STATE.glob("engine-*"):
        lock = lock_folder(root)
        if lock < 0:
            continue
        for container in (root / "state").glob("*"):
            command = ["runc", "--root", os.fspath(root / "state"), "delete", "--force", container.name]
            subprocess.run(command, capture_output=True, check=False)
        shutil.rmtree(root)
        os.close(lock)

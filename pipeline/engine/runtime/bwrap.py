"""The runner for machines without a C compiler: bubblewrap, with the isolation of the launcher.

Bubblewrap always sets `no_new_privs`, so that set-user-id programs gain nothing; its first process passes no
signals on; and nothing can be run inside a running container. The system call filter is a file that
`launcher filter` has printed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime.cgroups import Cgroups
from pipeline.engine.runtime.errors import RunnerFailed
from pipeline.engine.runtime.merged import INIT, MergedContainer, lock_folder, run_merged
from pipeline.engine.runtime.runc_spec import KEPT, MASKED, READ_ONLY
from pipeline.engine.runtime.syscalls import CLONE_NEWNET, mount, setns, unshare
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.runtime.cgroups import Limits
    from pipeline.engine.runtime.spec import ExecSpec, Running

_STATE: Final = Path("/run/pipeline-bwrap")
_POLL_MS: Final = 20
_PROGRAMS: Final = ("setpriv", "env")
_MORE_DEVICES: Final = ("kmsg", "cuse", "fuse", "kvm", "loop-control", "net", *(f"loop{n}" for n in range(8)))
_READ_ONLY_FLAG: Final = 1
_SYSFS_FLAGS: Final = _READ_ONLY_FLAG | 2 | 4 | 8  # read-only, no set-user-id, no devices, no programs
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP_AND_RUNNING: Final = 0x41
_DECIDED_BY_LOADER: Final = ("LD_", "GLIBC_")


class BwrapMissing(EngineError):
    """Bubblewrap, or what it needs, is not on this machine."""


class BwrapRunner:
    """Runs each spec by one `bwrap`; nothing stays behind when it ends."""

    name = "bwrap"

    def __init__(self, *, limits: Limits | None = None) -> None:
        for program in ("bwrap", *_PROGRAMS, "ldd"):
            if shutil.which(program) is None:
                raise BwrapMissing(f"`{program}` is not installed")
        self._filter = Path(__file__).with_name(f"seccomp-{os.uname().machine}.bpf")
        if not self._filter.exists():
            raise BwrapMissing(f"there is no system call filter for `{os.uname().machine}`")
        _STATE.mkdir(mode=0o700, exist_ok=True)
        _sweep()
        self._root = Path(tempfile.mkdtemp(prefix="engine-", dir=_STATE))
        self._lock = lock_folder(self._root)
        self.close = weakref.finalize(self, shutil.rmtree, self._root)
        self._tools = self._root / "tools"
        _copy_tools(self._tools)
        self.cgroups: Cgroups | None = Cgroups(limits)

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
        stdio = (stdin, stdout, stderr)
        return await run_merged(_Container(self._root, spec, stdio, started, self._tools, self._filter))

    async def run_inside(
        self, running: Running, spec: ExecSpec, *, stdin: int, stdout: int, stderr: int
    ) -> int:
        """Refuse: bubblewrap only starts containers."""
        raise RunnerFailed(f"cannot run `{spec.argv[0]}` in `{running.id}`: bubblewrap enters no containers")


def _sweep() -> None:
    """Remove what engines that are gone have left."""
    for root in _STATE.glob("engine-*"):
        # Made first and locked then: a folder without tools may be somebody's who is about to lock it.
        if (root / "tools/loader").exists() and (lock := lock_folder(root)) >= 0:
            shutil.rmtree(root)
            os.close(lock)


def _copy_tools(folder: Path) -> None:
    """Copy the programs that become the user, with their libraries; a container may have none."""
    folder.mkdir(mode=0o755)
    for name in _PROGRAMS:
        program = shutil.which(name)
        assert program is not None  # noqa: S101 - asked for before
        shutil.copy(program, folder / name)
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for word in said.split():
            if word.startswith("/") and not (folder / Path(word).name).exists():
                shutil.copy(word, folder)
    loader = next(folder.glob("ld-*"), None)
    if loader is None:
        raise BwrapMissing("the C library's loader was not found")
    loader.rename(folder / "loader")


def become(spec: ExecSpec) -> list[str]:
    """Return the command that becomes the user of `spec`, and then its command."""
    tools = [f"{INIT}/loader", "--library-path", INIT]
    kept = [] if spec.insecure else ["--bounding-set=-all" + "".join(f",+{name.lower()}" for name in KEPT)]
    groups = f"--groups={','.join(map(str, spec.groups))}" if spec.groups else "--clear-groups"
    user = [f"--reuid={spec.uid}", f"--regid={spec.gid}", groups, "--inh-caps=-all", "--ambient-caps=-all"]
    # What tells the loader something is for the command alone: the loader works with all rights.
    late = [f"{name}={value}" for name, value in spec.env if name.startswith(_DECIDED_BY_LOADER)]
    command = [f"{INIT}/loader", "--library-path", INIT, f"{INIT}/env", *late] if late else []
    return [*tools, f"{INIT}/setpriv", *kept, *user, "--", *command, *spec.argv]


def arguments(spec: ExecSpec, rootfs: Path) -> list[str]:
    """Return what bubblewrap is told, but for descriptors.

    Args:
        rootfs: The merged root, with every mount of the spec and sysfs made in it already.
    """
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent"]
    words += [
        "--hostname",
        spec.hostname,
        "--bind",
        os.fspath(rootfs),
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]
    words += ["--dev", "/dev", "--perms", "1777", "--size", str(64 << 20), "--tmpfs", "/dev/shm"]  # noqa: S108 - its own
    words += ["--mqueue", "/dev/mqueue", "--clearenv", "--chdir", spec.cwd or "/"]
    for name, value in spec.env:
        if not name.startswith(_DECIDED_BY_LOADER):
            words += ["--setenv", name, value]
    if spec.insecure:
        devices = [f"/dev/{name}" for name in _MORE_DEVICES]
        words += ["--cap-add", "ALL"]
        return words + [word for path in devices for word in ("--dev-bind-try", path, path)]
    for path in READ_ONLY:
        words += ["--ro-bind-try", path, path]
    for path in MASKED:
        if os.path.isdir(path):
            words += ["--tmpfs", path, "--remount-ro", path]
        elif os.path.exists(path):
            words += ["--dev-bind", "/dev/null", path]
    words += ["--cap-drop", "ALL"]
    return words + [word for name in KEPT for word in ("--cap-add", f"CAP_{name}")]


class _Container(MergedContainer):
    """One `bwrap`."""

    def __init__(
        self,
        root: Path,
        spec: ExecSpec,
        stdio: tuple[int, int, int],
        started: Callable[[Running], None] | None,
        tools: Path,
        seccomp: Path,
    ) -> None:
        super().__init__(root, spec, stdio, started)
        self._tools = tools
        self._filter = seccomp

    def helper(self) -> Path | None:
        """Return the folder of tools."""
        return self._tools

    def supervise(self) -> int:
        """Enter the network, start `bwrap`, let the command go when all is told, wait for its end."""
        self._enter_network()
        mount(
            "sysfs",
            self.reach("/sys", is_dir=True),
            "sysfs",
            _SYSFS_FLAGS & (~1 if self.spec.insecure else ~0),
            "",
        )
        status, status_end = os.pipe2(os.O_CLOEXEC)
        gate_end, gate = os.pipe2(os.O_CLOEXEC)
        try:
            process = self._start(status_end, gate_end)
            os.close(status_end)
            return self._see_through(process, status, gate)
        finally:
            for descriptor in (status, gate_end, gate):
                os.close(descriptor)

    def _enter_network(self) -> None:
        """Move this thread; what it starts comes along."""
        if self.spec.network_namespace is not None:
            descriptor = os.open(self.spec.network_namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(descriptor, CLONE_NEWNET)
            finally:
                os.close(descriptor)
        elif not self.spec.host_network:
            unshare(CLONE_NEWNET)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_AND_RUNNING))

    def _start(self, status: int, gate: int) -> subprocess.Popen[bytes]:
        """Start it; variables may be secret, so that no argument of a process shows them."""
        told = os.memfd_create("arguments", os.MFD_CLOEXEC)
        seccomp = os.open(self._filter, os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = arguments(self.spec, self.rootfs)
            words += ["--json-status-fd", str(status), "--block-fd", str(gate)]
            words += [] if self.spec.insecure else ["--seccomp", str(seccomp)]
            with open(told, "wb", closefd=False) as file:
                file.write(b"".join(os.fsencode(word) + b"\0" for word in words))
            os.lseek(told, 0, os.SEEK_SET)
            stdin, stdout, stderr = self.stdio
            return subprocess.Popen(
                ["bwrap", "--args", str(told), "--", *become(self.spec)],
                stdin=self.redirects.get("stdin", stdin),
                stdout=stdout,
                stderr=stderr,
                pass_fds=(told, seccomp, status, gate),
            )
        finally:
            os.close(told)
            os.close(seccomp)

    def _see_through(self, process: subprocess.Popen[bytes], status: int, gate: int) -> int:
        first = -1
        said = b""
        poll = select.poll()
        poll.register(status, select.POLLIN)
        try:
            while not self.cancelled.is_set():
                if not poll.poll(_POLL_MS):
                    continue
                piece = os.read(status, 4096)
                said += piece
                if first < 0 and b"\n" in said:
                    first = self._let_go(json.loads(said.partition(b"\n")[0])["child-pid"], gate)
                if not piece:
                    break
        finally:
            if self.cancelled.is_set() and first >= 0:
                signal.pidfd_send_signal(first, signal.SIGKILL)
            elif self.cancelled.is_set():
                process.kill()
            process.wait()
            if first >= 0:
                os.close(first)
        if b"exit-code" not in said and not self.cancelled.is_set():
            raise RunnerFailed("cannot set up the container: bubblewrap failed; its words are in the output")
        return process.returncode

    def _let_go(self, pid: int, gate: int) -> int:
        """Put the container into its groups, tell that it is set up, let its command go; return its pidfd."""
        first = os.pidfd_open(pid)
        for group in self.spec.cgroups:
            (group / "cgroup.procs").write_text(str(pid))
        if self.started is not None:
            self.tell_started(os.dup(first))
        os.write(gate, b"g")
        return first

"""What every runner does with a spec: one suite for the launcher, runc and bubblewrap."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.runtime.bwrap import BwrapRunner
from pipeline.engine.runtime.errors import NoRunner, RedirectFailed, RunnerFailed
from pipeline.engine.runtime.launcher import LAUNCHER, LauncherRunner
from pipeline.engine.runtime.runc import RuncRunner
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.spec import (
    BindMount,
    ExecSpec,
    FileMount,
    Overlay,
    OverlayMount,
    Runner,
    Running,
    TmpfsMount,
)
from tests.engine import busybox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


class Bench:
    """Runs specs over one root file system."""

    def __init__(self, runner: Runner, root: Path, scratch: Path) -> None:
        self.runner = runner
        self.root = root
        self.scratch = scratch
        self._number = 0

    def draft(self) -> tuple[Path, Path]:
        self._number += 1
        folder = self.scratch / f"draft{self._number}"
        (folder / "upper").mkdir(parents=True)
        (folder / "work").mkdir()
        return folder / "upper", folder / "work"

    def spec(self, *argv: str) -> ExecSpec:
        upper, work = self.draft()
        return ExecSpec(
            id=f"test-{os.getpid()}-{self._number}",
            rootfs=Overlay(lowers=(self.root,), upper=upper, work=work),
            mounts=(),
            argv=argv,
            env=(("PATH", "/bin"),),
            cwd="/",
            uid=0,
            gid=0,
            groups=(0,),
        )

    async def run(self, spec: ExecSpec, *, started: Callable[[Running], None] | None = None) -> Result:
        out, err = self.scratch / "stdout", self.scratch / "stderr"
        with open(os.devnull) as stdin, out.open("wb") as stdout, err.open("wb") as stderr:
            code = await self.runner.run(
                spec,
                stdin=stdin.fileno(),
                stdout=stdout.fileno(),
                stderr=stderr.fileno(),
                started=started,
            )
        return Result(code=code, stdout=out.read_text(), stderr=err.read_text())

    async def sh(self, script: str) -> Result:
        return await self.run(self.spec("sh", "-c", script))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root")
    busybox.fill(path)
    return path


@pytest.fixture(params=["launcher", "runc", "bwrap"])
def bench(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Iterator[Bench]:
    lacks = request.node.get_closest_marker("bwrap_lacks")
    if request.param == "bwrap" and lacks is not None:
        pytest.skip(f"bubblewrap: {lacks.args[0]}")
    if request.param == "launcher":
        busybox.require_launcher()
        yield Bench(LauncherRunner(), root, tmp_path)
        return
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    yield Bench(RuncRunner() if request.param == "runc" else BwrapRunner(), root, tmp_path)


async def test_output_and_exit_code_are_the_commands_own(bench: Bench) -> None:
    """Both streams are passed through, and the code is returned."""
    result = await bench.sh("echo out; echo err >&2; exit 3")

    assert result == Result(code=3, stdout="out\n", stderr="err\n")


async def test_death_by_a_signal_is_128_and_its_number(bench: Bench) -> None:
    """A command that is killed inside the container has the code a shell would report."""
    result = await bench.sh("kill -9 $$")

    assert result.code == 137


@pytest.mark.parametrize("init", [True, False], ids=["init", "no-init"])
async def test_a_command_that_is_not_there_ends_with_1(bench: Bench, init: bool) -> None:
    """The message names it and goes to stderr, as far as the runner can put it there."""
    result = await bench.run(replace(bench.spec("nope"), init=init))

    # Bubblewrap starts it by `setpriv`, whose code for this is the shell's.
    assert result.code == (127 if bench.runner.name == "bwrap" else 1)
    if bench.runner.name == "bwrap":
        assert "nope" in result.stderr
    elif init or bench.runner.name == "launcher":
        assert result == Result(
            code=1, stdout="", stderr='exec: "nope": executable file not found in $PATH\n'
        )


async def test_changes_go_to_the_upper_directory(bench: Bench) -> None:
    """The lower layer stays as it is."""
    spec = bench.spec("sh", "-c", "echo new > /file; rm /etc/group")
    assert spec.rootfs.upper is not None

    await bench.run(spec)

    assert (spec.rootfs.upper / "file").read_text() == "new\n"
    assert (bench.root / "etc/group").read_text() == busybox.GROUP


async def test_the_root_keeps_docker_s_default_capabilities_only(bench: Bench) -> None:
    """The sets are equal, and nothing is inheritable or ambient."""
    result = await bench.sh("grep Cap /proc/self/status")

    assert result.stdout.split() == [
        "CapInh:", "0000000000000000",
        "CapPrm:", "00000000a80425fb",
        "CapEff:", "00000000a80425fb",
        "CapBnd:", "00000000a80425fb",
        "CapAmb:", "0000000000000000",
    ]  # fmt: skip


INHERITING = """
import asyncio, sys
from pathlib import Path
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.spec import ExecSpec, Overlay

kind, root, upper, work = sys.argv[1:]
spec = ExecSpec(
    id="inheriting", rootfs=Overlay(lowers=(Path(root),), upper=Path(upper), work=Path(work)),
    mounts=(), argv=("grep", "CapInh", "/proc/self/status"),
    env=(("PATH", "/bin"),), cwd="/", uid=1000, gid=1000, groups=(1000,),
)
asyncio.run(find_runner(kind).run(spec, stdin=0, stdout=1, stderr=2))
"""


async def test_no_capability_of_the_engine_is_inheritable_by_a_user(bench: Bench) -> None:
    """A program with file capabilities would gain it, bounding set or not."""
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here")
    upper, work = bench.draft()
    command = ["setpriv", "--inh-caps=+sys_admin,+chown", sys.executable, "-c", INHERITING]

    done = subprocess.run(
        [*command, bench.runner.name, bench.root, upper, work], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["CapInh:", "0000000000000000"]


async def test_an_insecure_exec_has_every_capability(bench: Bench) -> None:
    """As many as this process has, and there is no system call filter."""
    spec = replace(bench.spec("sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status"), insecure=True)

    result = await bench.run(spec)

    words = result.stdout.split()
    own = Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split()[0]
    assert words == ["CapEff:", own, "Seccomp:", "0"]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("mount -t tmpfs none /tmp", id="mount"),
        pytest.param("unshare -r true", id="user-namespace"),
        pytest.param("echo 1 > /proc/sys/kernel/sysrq", id="sysctl"),
        pytest.param("echo b > /proc/sysrq-trigger", id="sysrq"),
        pytest.param("hostname other", id="hostname"),
        pytest.param("touch /sys/kernel/new", id="sysfs"),
        pytest.param("chroot /proc/1/root/../.. /bin/sh -c 'test -e /proc/1/root/boot'", id="escape"),
        pytest.param("mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk", id="disk"),
    ],
)
async def test_what_a_container_must_not_do_fails(bench: Bench, script: str) -> None:
    """Each is refused, whichever layer refuses it."""
    result = await bench.sh(script)

    assert result.code != 0


async def test_the_container_sees_only_itself(bench: Bench) -> None:
    """Its processes, its host name, its loopback; and no file system of the host."""
    result = await bench.sh(
        "hostname; ls /proc | grep -c '^[0-9]'; ip -o link | grep -c .; "
        "cut -d' ' -f2 /proc/mounts | grep -vE '^/(|proc|sys|dev|.init)(/.*)?$'; cat /proc/kcore | wc -c"
    )

    lines = result.stdout.split()
    assert lines[0] == "dagger"
    assert int(lines[1]) <= 6
    assert lines[2:] == ["1", "0"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is a filter for bubblewrap on x86-64")
async def test_bubblewrap_s_filter_is_the_launcher_s() -> None:
    """`launcher filter > pipeline/engine/runtime/seccomp-x86_64.bpf` after a change."""
    busybox.require_launcher()

    printed = subprocess.run([LAUNCHER, "filter"], capture_output=True, check=True).stdout

    assert LAUNCHER.with_name("seccomp-x86_64.bpf").read_bytes() == printed


CALLS = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static long call32(long number, long first, long second) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(first), "c"(second), "d"(0) : "memory");
    return answer;
}
static long call64(long number, long first, long second) {
    long answer = syscall(number, first, second, 0, 0, 0);
    return answer < 0 ? -errno : answer;
}
int main(void) {
    printf("%ld ", call64(SYS_keyctl, 0, -3));
    printf("%ld ", call64(SYS_clone3, 0, 0));
    printf("%ld ", call64(SYS_socket, 40, 1));
    printf("%ld ", call64(SYS_personality, 0x0040000, 0));
    printf("%ld ", call64(0x40000000L | SYS_getppid, 0, 0));
    printf("%ld ", call32(288 /* keyctl */, 0, -3));
    printf("%d\n", call32(20 /* getpid */, 0, 0) == getpid());
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
async def test_denied_calls_are_denied_in_every_instruction_set(bench: Bench, tmp_path: Path) -> None:
    """Natively, by the numbers of 32-bit programs, and by those of x32."""
    if bench.runner.name == "runc":
        pytest.skip("runc makes the filter itself, from names")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    layer = tmp_path / "layer"
    layer.mkdir()
    subprocess.run(
        ["cc", "-static", "-x", "c", "-", "-o", layer / "calls"], input=CALLS, text=True, check=True
    )
    spec = bench.spec("/calls")

    result = await bench.run(replace(spec, rootfs=replace(spec.rootfs, lowers=(layer, bench.root))))

    assert result.stdout.split() == ["-1", "-38", "-1", "-1", "-38", "-1", "1"]


@pytest.mark.parametrize("device", ["b 7 0", "c 10 237"], ids=["disk", "loop-control"])
async def test_a_new_device_file_opens_nothing(bench: Bench, device: str) -> None:
    """Wherever it is made: root in the container may make one."""
    result = await bench.sh(
        f"for at in /tmp/x /dev/x /dev/shm/x; do mknod $at {device}; (: < $at) 2>&1; done | "
        "grep -c 'not permitted\\|ermission denied'"
    )

    assert result.stdout == "3\n"


async def test_devices_are_the_usual_ones(bench: Bench) -> None:
    """They work, and no disk of the host is among them."""
    result = await bench.sh(
        "ls /dev; head -c 2 /dev/zero | wc -c; echo gone > /dev/null; echo 1 > /dev/full; echo $?"
    )

    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()  # noqa: SIM905
    assert [w for w in result.stdout.split() if w not in ("core", "console")] == [*names, "2", "1"]


async def test_a_user_has_its_groups_and_no_capability(bench: Bench) -> None:
    """The working directory is made for it when it is missing."""
    spec = replace(
        bench.spec("sh", "-c", "id -u; id -g; id -G; pwd; touch made; ls -ld . | cut -c1-10; "
                   "grep CapEff /proc/self/status | cut -f2; umask"),
        uid=1000, gid=1000, groups=(1000, 10), cwd="/home/bob/a/b",
    )  # fmt: skip

    result = await bench.run(spec)

    assert result.stdout.splitlines() == [
        "1000", "1000", "1000 10", "/home/bob/a/b", "drwxr-xr-x", "0000000000000000", "0022",
    ]  # fmt: skip


async def test_mounts_are_made_where_they_belong(bench: Bench, tmp_path: Path) -> None:
    """A part of a tree, a bind, a tmpfs and a file, each with its rights."""
    tree, upper = tmp_path / "tree", bench.draft()
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/one").write_text("1\n")
    (tree / "secret").write_text("not mounted\n")
    source = tmp_path / "source"
    source.mkdir()
    spec = replace(
        bench.spec(
            "sh", "-c",
            "cat /t/one; echo 2 > /t/two; ls /t/..; echo x > /b/y || echo ro; "
            "echo z > /m/z && cat /m/z; ls -l /s | cut -c1-10; ls -n /s | awk '{print $3, $4}'; cat /s",
        ),
        mounts=(
            OverlayMount(
                target="/t",
                overlay=Overlay(lowers=(tree,), upper=upper[0], work=upper[1]),
                source_path="/sub",
            ),
            BindMount(target="/b", source=source, read_only=True),
            TmpfsMount(target="/m", size_bytes=1 << 20),
            FileMount(target="/s", content=b"word\n", mode=0o440, uid=1000, gid=10),
        ),
    )  # fmt: skip

    result = await bench.run(spec)

    assert result.stdout.split() == [
        "1", *sorted(["b", "bin", "dev", "etc", "home", "m", "proc", "s", "sys", "t", "tmp"]),
        "ro", "z", "-r--r-----", "1000", "10", "word",
    ]  # fmt: skip
    assert (upper[0] / "sub/two").read_text() == "2\n"


async def test_a_link_of_the_image_leads_nowhere_outside(bench: Bench, tmp_path: Path) -> None:
    """A mount place behind an absolute link is made inside the container."""
    layer, outside = tmp_path / "layer", tmp_path / "outside"
    layer.mkdir()
    (layer / "data").symlink_to(outside)
    (layer / "up").symlink_to("../../../../../../made")
    spec = bench.spec("sh", "-c", "cat /data/f /up/f")
    overlay = replace(spec.rootfs, lowers=(layer, bench.root))

    result = await bench.run(
        replace(
            spec,
            rootfs=overlay,
            mounts=(
                FileMount(target="/data/f", content=b"one\n"),
                FileMount(target="/up/f", content=b"two\n"),
            ),
        )
    )

    assert result == Result(code=0, stdout="one\ntwo\n", stderr="")
    assert not outside.exists()


async def test_a_hundred_layers_can_be_mounted(bench: Bench, tmp_path: Path) -> None:
    """Their names do not have to fit into one page."""
    layers = []
    for number in range(100):
        layer = tmp_path / ("layer-with-a-long-name-" * 4 + str(number))
        layer.mkdir()
        (layer / f"file{number}").touch()
        layers.append(layer)
    spec = bench.spec("sh", "-c", "ls / | grep -c file")

    result = await bench.run(replace(spec, rootfs=replace(spec.rootfs, lowers=(*layers, bench.root))))

    assert result.stdout == "100\n"


async def test_redirect_files_belong_to_the_user(bench: Bench) -> None:
    """Standard input comes from a file; the files for output are opened and handed over."""
    handed: list[int] = []

    def started(running: Running) -> None:
        os.close(running.pidfd)
        assert running.redirect_stdout is not None
        handed.append(running.redirect_stdout)

    spec = replace(
        bench.spec("sh", "-c", "cat; ls -ln /tmp/out | cut -c1-10; ls -ln /tmp/out | awk '{print $3}'"),
        uid=1000, gid=1000, groups=(1000,), cwd="/tmp",
        redirect_stdin="../etc/group", redirect_stdout="out",
    )  # fmt: skip

    result = await bench.run(spec, started=started)

    os.close(handed[0])
    assert result.stdout == busybox.GROUP + "-rw-------\n1000\n"


async def test_a_redirect_file_that_cannot_be_opened_is_named(bench: Bench) -> None:
    """The command does not run."""
    spec = replace(bench.spec("touch", "/ran"), redirect_stdout="/no/where")

    with pytest.raises(RedirectFailed) as caught:
        await bench.run(spec, started=lambda running: os.close(running.pidfd))

    assert str(caught.value) == "open redirect stdout file: open /no/where: no such file or directory"
    assert spec.rootfs.upper is not None
    assert not (spec.rootfs.upper / "ran").exists()


async def test_a_mount_whose_source_is_missing_is_a_failure_of_the_runner(bench: Bench) -> None:
    """It is told apart from a command's own exit code."""
    spec = replace(bench.spec("true"), mounts=(BindMount(target="/x", source=Path("/no/such/source")),))

    with pytest.raises(RunnerFailed, match="cannot set up the container"):
        await bench.run(spec)


@pytest.mark.parametrize("init", [True, False], ids=["init", "no-init"])
async def test_cancelling_kills_the_whole_container_within_a_second(bench: Bench, init: bool) -> None:
    """Whoever ignores signals, was forked twice or leads a session is gone too, and no mount is left."""
    marker = str(time.monotonic_ns())
    began = asyncio.Event()
    stubborn = f"trap '' TERM HUP INT; setsid sh -c '(setsid sleep 98.{marker} &) & sleep 100.{marker}' &"
    spec = bench.spec("sh", "-c", f"{stubborn} sleep 99.{marker}; true")

    def started(running: Running) -> None:
        os.close(running.pidfd)
        began.set()

    task = asyncio.ensure_future(bench.run(replace(spec, init=init), started=started))
    await began.wait()
    while not all(_processes(f"sleep\0{number}.{marker}") for number in (98, 99, 100)):
        await asyncio.sleep(0.01)
    before = time.monotonic()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert time.monotonic() - before < 1
    assert _processes(marker) == []
    assert str(spec.rootfs.upper) not in Path("/proc/self/mountinfo").read_text()


async def test_orphans_are_reaped_and_killed_with_the_command(bench: Bench) -> None:
    """What the command left running does not keep the container alive."""
    result = await bench.sh("(sleep 100 &) ; (true &) ; sleep 0.1; ps -o stat | grep -c Z; true")

    assert result == Result(code=0, stdout="0\n", stderr="")


@pytest.mark.bwrap_lacks("its first process passes no signals on")
async def test_a_signal_to_the_container_reaches_the_command_s_group(bench: Bench) -> None:
    """Its handler runs, and its exit code counts."""
    began = asyncio.Event()
    pidfds: list[int] = []

    def started(running: Running) -> None:
        pidfds.append(running.pidfd)
        began.set()

    spec = bench.spec("sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    task = asyncio.ensure_future(bench.run(spec, started=started))
    await began.wait()
    while (bench.scratch / "stdout").read_text() != "ready\n":
        await asyncio.sleep(0.01)

    signal.pidfd_send_signal(pidfds[0], signal.SIGTERM)
    result = await task

    os.close(pidfds[0])
    assert (result.code, result.stdout) == (7, "ready\nbye\n")


@pytest.mark.bwrap_lacks("it enters no running container")
async def test_a_command_can_be_run_inside_a_running_container(bench: Bench) -> None:
    """It sees the container's files and processes, as the same user."""
    began = asyncio.Event()
    running: list[Running] = []

    def started(one: Running) -> None:
        running.append(one)
        began.set()

    spec = replace(bench.spec("sh", "-c", "touch /tmp/mark; sleep 100"), uid=1000, gid=1000, groups=(1000,))
    task = asyncio.ensure_future(bench.run(spec, started=started))
    await began.wait()
    out = bench.scratch / "inside"

    with open(os.devnull) as null, out.open("wb") as stdout:
        code = await bench.runner.run_inside(
            running[0],
            replace(spec, argv=("sh", "-c", "while [ ! -e /tmp/mark ]; do sleep 0.01; done; id -u; ls /tmp")),
            stdin=null.fileno(),
            stdout=stdout.fileno(),
            stderr=stdout.fileno(),
        )

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    os.close(running[0].pidfd)
    assert (out.read_text(), code) == ("1000\nmark\n", 0)


async def test_no_descriptor_of_the_engine_is_inherited(bench: Bench) -> None:
    """Even one that was left inheritable by mistake stays outside."""
    with open("/etc/passwd") as file:
        leaked = fcntl.fcntl(file, fcntl.F_DUPFD, 50)

        result = await bench.sh("ls /proc/self/fd")

    os.close(leaked)
    assert result.stdout.split() == ["0", "1", "2", "3"]


ENGINE = """
import asyncio, os, sys
from pathlib import Path
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.spec import ExecSpec, Overlay

kind, root, upper, work, marker = sys.argv[1:]
spec = ExecSpec(
    id=f"doomed-{os.getpid()}",
    rootfs=Overlay(lowers=(Path(root),), upper=Path(upper), work=Path(work)),
    mounts=(), argv=("sh", "-c", f"sleep 100.{marker} & sleep 99.{marker}; true"),
    env=(("PATH", "/bin"),), cwd="/", uid=0, gid=0, groups=(0,),
)
asyncio.run(find_runner(kind).run(spec, stdin=0, stdout=1, stderr=2))
"""


async def test_the_container_dies_when_the_engine_is_killed(bench: Bench) -> None:
    """Also by a signal that the engine cannot catch."""
    marker = str(time.monotonic_ns())
    upper, work = bench.draft()
    command = [sys.executable, "-c", textwrap.dedent(ENGINE), bench.runner.name]
    engine = subprocess.Popen([*command, bench.root, upper, work, marker], stdin=subprocess.DEVNULL)
    while len(_processes(marker)) < 4 and engine.poll() is None:
        await asyncio.sleep(0.01)

    engine.kill()
    engine.wait()

    for _ in range(100):
        if not _processes(marker):
            break
        await asyncio.sleep(0.01)
    assert _processes(marker) == []


async def test_an_unknown_runner_is_refused_with_the_known_ones() -> None:
    """The error says what would work."""
    with pytest.raises(NoRunner) as caught:
        find_runner("docker")

    assert str(caught.value) == (
        "cannot find a container runner: docker: unknown; the runners are launcher, runc, bwrap"
    )
    assert caught.value.hint is not None


def _processes(marker: str) -> list[int]:
    """Return the processes whose command line holds `marker`, but for those about to be gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found

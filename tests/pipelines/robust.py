"""Small projects on a busybox root file system, run in a room of their own; and what runs may not leave.

A room is a network and a mount namespace: what a command leaves in it, and only that, can be counted. The
test process adopts whatever loses its parent, so that no process of a room is ever out of sight.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.engine.busybox import fill

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND: Final = Path(sys.executable).parent / "pipeline"
LIMIT_S: Final = 100.0
GONE_WITHIN_S: Final = 5.0
_PR_SET_CHILD_SUBREAPER: Final = 36

STAGES: Final = '''
"""Four cheap stages in containers; `salt.txt` changes what they make."""

from pathlib import Path

from pipeline import Context, stage

drop = ["*"]


async def base(ctx: Context):
    client = await ctx.dagger()
    salt = (ctx.root / "salt.txt").read_text()
    rootfs = client.host().directory("ROOTFS")
    return client.container().with_rootfs(rootfs).with_env_variable("SALT", salt)


@stage(inputs=["salt.txt"])
async def chain(ctx: Context) -> str:
    """Commands in a row, each on what the one before left."""
    container = await base(ctx)
    for number in range(5):
        container = container.with_exec(["sh", "-c", f"echo {number} $SALT >> /log"])
    return await container.with_exec(["md5sum", "/log"]).stdout()


@stage(inputs=["salt.txt"])
async def tree(ctx: Context) -> str:
    """A directory that goes out to the host, by way of a cache volume."""
    client = await ctx.dagger()
    container = (await base(ctx)).with_mounted_cache("/cache", client.cache_volume("robust"))
    script = "echo $SALT > /cache/last; mkdir /out; for i in $(seq 50); do echo $i $SALT > /out/$i; done"
    made = container.with_exec(["sh", "-c", script]).directory("/out")
    await made.export(str(ctx.root / "out"))
    return await made.digest()


@stage(inputs=["salt.txt"])
async def image(ctx: Context) -> str:
    """An image as a file."""
    container = (await base(ctx)).with_exec(["sh", "-c", "echo $SALT > /image"])
    path = ctx.root / "image.tar"
    await container.export(str(path))
    ctx.keep("image.txt", str(path.stat().st_size > 1000))
    return await container.file("/image").contents()


@stage()
async def join(ctx: Context, chain: str, tree: str, image: str) -> str:
    """All of it together."""
    return f"{chain.split()[0]} {image.strip()}"
'''


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Room:
    """A network namespace with loopback alone, and mounts of its own; held by one process."""

    holder: int

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in here."""
        return ["nsenter", "-t", str(self.holder), "-n", "-m", "--", *argv]

    def do(self, *argv: str) -> str:
        """Run a tool in here and return what it printed."""
        return subprocess.run(self.argv(*argv), check=True, capture_output=True, text=True).stdout

    def inside(self, path: Path) -> Path:
        """The path by which something in here can be reached from outside."""
        return Path(f"/proc/{self.holder}/root{path}")

    def mounts(self) -> list[str]:
        """The places where something is mounted."""
        return sorted(
            line.split()[4] for line in Path(f"/proc/{self.holder}/mountinfo").read_text().splitlines()
        )

    def links(self) -> list[str]:
        """The names of network devices."""
        return sorted(link["ifname"] for link in json.loads(self.do("ip", "-j", "link", "show")))

    def rules(self) -> list[str]:
        """The rules of the packet filter that somebody added."""
        return [line for line in self.do("iptables-save").splitlines() if line.startswith("-A")]


@contextmanager
def opened_room() -> Iterator[Room]:
    """Make a room; everything in it ends with the block."""
    script = "ip link set lo up && echo ready && exec sleep infinity"
    process = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Room(holder=process.pid)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of every descendant whose parent ends, while the block lasts."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants(*, but: frozenset[int]) -> dict[int, str]:
    """The living processes below this one by their command lines, without those in `but` and theirs."""
    children: dict[int, list[int]] = {}
    states: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(parent), []).append(int(entry))
            states[int(entry)] = state
    found: dict[int, str] = {}
    todo = [child for child in children.get(os.getpid(), ()) if child not in but]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, ())
        if states[pid] not in "ZX":
            found[pid] = command_of(pid)
    return found


def command_of(pid: int) -> str:
    """The command line of a process; "" when it has none any more."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        )
    except (FileNotFoundError, ProcessLookupError):
        return ""


def reap(known: frozenset[int]) -> None:
    """Collect the adopted processes that have ended; `known` are others' to collect."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if int(child) not in known:
            try:
                os.waitpid(int(child), os.WNOHANG)
            except ChildProcessError:
                continue


@dataclass(frozen=True, kw_only=True)
class RobustProject:
    """A project in a folder of its own, with a store of its own, in a room."""

    root: Path
    store: Path
    rootfs: Path
    home: Path
    room: Room
    environ: Mapping[str, str] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)  # by us: not ours to collect as orphans

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files by their path; `ROOTFS` in Python files becomes the root file system's path."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and name.endswith(".py"):
                content = content.replace("ROOTFS", str(self.rootfs))
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def start(self, *argv: str, before: tuple[str, ...] = (), **environ: str) -> subprocess.Popen[str]:
        """Start `pipeline` in the room, in a session of its own; `before` are words before the command's."""
        process = subprocess.Popen(
            self.room.argv(*before, str(COMMAND), "-C", str(self.root), *argv),
            env=self.environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.add(process.pid)
        return process

    def __call__(self, *argv: str, **environ: str) -> Done:
        """Run `pipeline` to its end."""
        return finish(self.start(*argv, before=(), **environ))

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """The variables of the command: nothing of this machine but where programs are."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PIP_CONFIG_FILE": os.devnull,
            "PIPELINE_CA_BUNDLE": "/dev/null",
            "PIPELINE_STORE": str(self.store),
            "PIPELINE_ENGINE_IDLE": "0",
            "LC_ALL": "C.UTF-8",
            **self.environ,
            **more,
        }

    def runs(self) -> list[Path]:
        """The run folders, oldest first."""
        return sorted(self.room.inside(self.root / ".pipeline/runs").iterdir())

    def record(self) -> dict[str, Any]:
        """What `run.json` of the newest run holds."""
        found: dict[str, Any] = json.loads((self.runs()[-1] / "run.json").read_text())
        return found

    def result(self, stage: str, run: Path | None = None) -> Any:
        """The result of a stage in a run; the newest unless said."""
        path = (run or self.runs()[-1]) / "stages" / stage / "result.json"
        return json.loads(path.read_text())["result"]

    def expected(self, salt: str) -> str:
        """What `join` of `STAGES` gives with this salt."""
        log = "".join(f"{number} {salt}\n" for number in range(5))
        return f"{hashlib.md5(log.encode(), usedforsecurity=False).hexdigest()} {salt}"

    def left(self) -> dict[int, str]:
        """The processes of ours that live, but for the room's holder."""
        reap(frozenset({self.room.holder, *self.started}))
        return descendants(but=frozenset({self.room.holder}))

    def wait_until_gone(self, within_s: float = GONE_WITHIN_S) -> dict[int, str]:
        """Wait until no process of ours lives; return those that still do after `within_s`."""
        until = time.monotonic() + within_s
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.02)
        return left

    def wait_for(self, pattern: str, within_s: float = 30) -> int:
        """Wait for a process of ours whose command line matches; return its id."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for pid, command in self.left().items():
                if re.search(pattern, command):
                    return pid
            time.sleep(0.02)
        raise AssertionError(f"no process of ours matches {pattern!r}: {self.left()}")


def finish(process: subprocess.Popen[str], within_s: float = LIMIT_S) -> Done:
    """Wait for a command; one that takes too long is killed, with what it started."""
    try:
        stdout, stderr = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Done(code=process.returncode, stdout=stdout, stderr=stderr)


def make_rootfs(path: Path) -> Path:
    """A busybox root file system in `path`."""
    fill(path)
    return path


def make_project(folder: Path, rootfs: Path, room: Room, *, store: Path | None = None) -> RobustProject:
    """An empty project with a home, and unless said otherwise a store, beside it."""
    for name in ("project", "home"):
        (folder / name).mkdir(parents=True)
    return RobustProject(
        root=folder / "project",
        store=store or folder / "store",
        rootfs=rootfs,
        home=folder / "home",
        room=room,
    )


def problems_of_store(root: Path) -> list[str]:
    """What is wrong in a store that no engine uses; needs one that was opened after the last death.

    Looks at the database itself, and that rows and files are the same on both sides.
    """
    with sqlite3.connect(f"file:{root}/engine.db?mode=ro", uri=True) as connection:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        snapshots = dict(connection.execute("SELECT id, parent FROM snapshots"))
        flat = {number for (number,) in connection.execute("SELECT id FROM snapshots WHERE flat")}
        blobs = {
            digest.removeprefix("sha256:") for (digest,) in connection.execute("SELECT digest FROM blobs")
        }
        drafts = [number for (number,) in connection.execute("SELECT id FROM drafts")]
        results = list(connection.execute("SELECT key, trees, blobs FROM results"))
        contents = list(connection.execute("SELECT digest, snapshot FROM contents"))
        volumes = {
            name.removeprefix("sha256:") for (name,) in connection.execute("SELECT identity FROM volumes")
        }
    connection.close()
    problems += [f"draft {number} of nobody" for number in drafts]
    problems += _both(root / "snapshots", {"0", *map(str, snapshots)})
    problems += _both(root / "blobs/sha256", blobs)
    problems += _both(root / "blobs/new", set())
    problems += _both(root / "owners", set())
    problems += _both(root / "volumes", volumes)
    for number, parent in snapshots.items():
        if parent not in {0, *snapshots}:
            problems.append(f"snapshot {number} stands on {parent}, which is gone")
        for name in ["fs", *(["flat"] if number in flat else [])]:
            if not (root / "snapshots" / str(number) / name).is_dir():
                problems.append(f"snapshot {number} has no {name}")
    known = {0, *snapshots}
    problems += [f"content {digest} is gone" for digest, number in contents if number not in known]
    for key, trees, names in results:
        if not set(json.loads(trees).values()) <= known:
            problems.append(f"result {key} names a snapshot that is gone")
        if not {name.removeprefix("sha256:") for name in json.loads(names)} <= blobs:
            problems.append(f"result {key} names a blob that is gone")
    for name in sorted(blobs):
        path = root / "blobs/sha256" / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != name:
            problems.append(f"blob {name} is damaged")
    return problems


def _both(folder: Path, rows: set[str]) -> list[str]:
    """What only the folder has, and what only the rows have."""
    files = set(os.listdir(folder))
    return [f"{folder.name}/{name} has no row" for name in sorted(files - rows)] + [
        f"{folder.name}/{name} has no file" for name in sorted(rows - files)
    ]

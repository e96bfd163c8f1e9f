"""Lends each exec a leaf of the control groups, where this machine lets us make some.

A leaf says whether the kernel killed a process of the exec for want of memory, bounds what the exec may take,
guards devices, and finds what an exec left running. Leaves are used again: a removed one that files were
written in stays in the kernel for as long as the files stay in its memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.locks import own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.engine.runtime.spec import ExecSpec

ROOT: Final = Path("/sys/fs/cgroup")
_PREFIX: Final = "pipeline-"
_OOM_KILL: Final = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)
_VERSION_1: Final = ("memory", "pids", "devices")
# What Docker lets a container use: making any device file, and using these.
_DEVICES: Final = (
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
    "c 5:2 rwm", "c 136:* rwm",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one exec may take at most; None: as much as there is."""

    memory_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One control group, as a directory in each hierarchy; `devices` is the one that guards them.

    `memory_events` is the file that counts what the kernel killed for want of memory.
    """

    directories: tuple[Path, ...]
    devices: Path | None = None
    memory_events: str | None = None
    _kills_before: list[int] = field(default_factory=list)

    def begin(self) -> None:
        """Count from now on."""
        self._kills_before[:] = [self._memory_kills()]

    def ran_out_of_memory(self) -> bool:
        """Say whether the kernel has killed a process for want of memory since `begin`."""
        return self._memory_kills() > self._kills_before[0]

    def _memory_kills(self) -> int:
        if self.memory_events is None:
            return 0
        with open(self.memory_events, "rb") as file:
            found = _OOM_KILL.search(file.read())
        return int(found[1]) if found else 0

    def kill(self) -> bool:
        """Kill what runs in it, if anything; say whether there was nothing."""
        processes = (self.directories[0] / "cgroup.procs").read_text().split()
        if not processes:
            return True
        try:
            (self.directories[0] / "cgroup.kill").write_text("1")
        except (FileNotFoundError, PermissionError):  # version 1 has no such file
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
        return False


class Cgroups:
    """A pool of leaves, removed with this object; those of an engine that was killed go with the next one.

    `problem` says why there are none; execs then run without.
    """

    def __init__(self, limits: Limits | None = None, *, root: Path = ROOT) -> None:
        self._limits = limits or Limits()
        self._free: list[Leaf] = []
        self._dying: list[Leaf] = []
        self._made = 0
        self._bases: list[Path] = []
        self.problem = ""
        locks: list[int] = []
        try:
            for parent in parents_of(Path("/proc/self/cgroup").read_text(), root):
                _sweep(parent)
                base, lock = _make_base(parent)
                self._bases.append(base)
                locks.append(lock)
                _pass_on(parent)
                _pass_on(base)
        except OSError as error:
            self.problem = f"`{error.filename}`: {(error.strerror or str(error)).lower()}"
        else:
            self.problem = "" if self._bases else f"no control groups are mounted at `{root}`"
        self.close = weakref.finalize(self, _remove, os.getpid(), self._bases, locks)
        if self.problem:
            self.close()

    @contextlib.contextmanager
    def lease(self) -> Iterator[Leaf | None]:
        """Lend a leaf that nobody else uses; None where there are none."""
        if self.problem:
            yield None
            return
        leaf = self._take_empty() or self._make()
        leaf.begin()
        try:
            yield leaf
        finally:
            (self._free if leaf.kill() else self._dying).append(leaf)

    def _take_empty(self) -> Leaf | None:
        """Take a leaf that nothing runs in any more, if there is one."""
        if self._free:
            return self._free.pop()
        empty = next((leaf for leaf in self._dying if leaf.kill()), None)
        if empty is not None:
            self._dying.remove(empty)
        return empty

    def _make(self) -> Leaf:
        self._made += 1
        directories = tuple(base / str(self._made) for base in self._bases)
        for directory in directories:
            directory.mkdir()
            for name, value in (
                ("memory.max", self._limits.memory_bytes),
                ("memory.limit_in_bytes", self._limits.memory_bytes),
                ("memory.oom.group", 0),
                ("pids.max", self._limits.pids),
            ):
                if value is not None and (directory / name).exists():
                    (directory / name).write_text(str(value))
        events = [place / name for place in directories for name in ("memory.events", "memory.oom_control")]
        return Leaf(
            directories=directories,
            devices=next(filter(_guard_devices, directories), None),
            memory_events=next((os.fspath(file) for file in events if file.exists()), None),
        )


@contextlib.contextmanager
def in_leaf(cgroups: Cgroups | None, spec: ExecSpec) -> Iterator[tuple[ExecSpec, Leaf | None]]:
    """Lend `spec` a leaf; an insecure exec gets one that guards no devices."""
    if cgroups is None:
        yield spec, None
        return
    with cgroups.lease() as leaf:
        if leaf is None:
            yield spec, None
            return
        guarded = leaf.devices is not None and not spec.insecure
        directories = tuple(place for place in leaf.directories if guarded or place != leaf.devices)
        yield replace(spec, cgroups=directories, devices_are_guarded=guarded), leaf


def find_problem() -> str:
    """Say why execs have no control groups on this machine; "" when they do."""
    cgroups = Cgroups()
    cgroups.close()
    return cgroups.problem


def parents_of(groups: str, root: Path = ROOT) -> list[Path]:
    """Return where leaves may be made: one directory for version 2, one a controller for version 1.

    Args:
        groups: The text of `/proc/self/cgroup`.
    """
    own: dict[str, str] = {}
    for line in groups.splitlines():
        _number, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    if (root / "cgroup.controllers").exists():
        # Beside the group we are in: one with processes may not give controllers to groups below it.
        place = root / own.get("", "")
        return [place.parent if place != root and place.is_dir() else root]
    found = []
    for controller in _VERSION_1:
        mounted = root / controller
        if controller in own and (mounted / "cgroup.procs").exists():
            place = mounted / own[controller]
            found.append(place if place.is_dir() else mounted)
    return found


def _make_base(parent: Path) -> tuple[Path, int]:
    while True:
        base = parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"
        base.mkdir()
        lock = own(base, os.O_RDONLY | os.O_DIRECTORY)
        if lock >= 0 and base.is_dir():
            return base, lock
        # Another engine took it for one that is left over, before it was locked.
        if lock >= 0:
            os.close(lock)


def _pass_on(group: Path) -> None:
    """Let groups below use what this one may; where it may not, they tell and bound less."""
    for controller in ("memory", "pids"):
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _guard_devices(directory: Path) -> bool:
    if not (directory / "devices.deny").exists():
        return False
    (directory / "devices.deny").write_text("a")
    for device in _DEVICES:
        (directory / "devices.allow").write_text(device)
    return True


def _sweep(parent: Path) -> None:
    """Remove what engines that are gone have left."""
    for base in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else sweeps too, or something still runs in it
            lock = own(base, os.O_RDONLY | os.O_DIRECTORY)
            if lock >= 0:
                _remove(os.getpid(), [base], [lock])


def _remove(owner: int, bases: Sequence[Path], locks: Sequence[int]) -> None:
    if os.getpid() != owner:
        return  # a process that was forked off
    for base in bases:
        with contextlib.suppress(OSError):  # something still runs in it: the next engine sweeps it
            for leaf in base.iterdir():
                if leaf.is_dir():
                    leaf.rmdir()
            base.rmdir()
    for lock in locks:
        os.close(lock)

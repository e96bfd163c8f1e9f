"""Choose what runs containers on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.engine.runtime.errors import NoRunner
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.runtime.cgroups import Limits
    from pipeline.engine.runtime.spec import Runner


def find_runner(preferred: str | None = None, *, limits: Limits | None = None) -> Runner:
    """Return the first runner that works: `launcher`, `runc`, `bwrap`; or just the preferred one.

    Nothing is run; what can be known without (the program, the rights, the kernel) is checked. `limits`
    hold for each exec where the runner takes control groups and the machine has them.

    Raises:
        NoRunner: None works; says why for each.
    """
    makers: dict[str, Callable[[], Runner]] = {
        "launcher": lambda: _launcher(limits),
        "runc": _runc,
        "bwrap": lambda: _bwrap(limits),
    }
    tried: list[tuple[str, str]] = []
    for name in [preferred] if preferred else list(makers):
        if name not in makers:
            raise NoRunner([(name, f"unknown; the runners are {', '.join(makers)}")])
        try:
            return makers[name]()
        except EngineError as error:
            tried.append((name, str(error)))
    raise NoRunner(tried)


class _NotRoot(EngineError):
    """Containers need root until user namespaces are supported."""

    def __init__(self) -> None:
        super().__init__("it needs root")


class _OldKernel(EngineError):
    """The kernel lacks the calls the launcher is built on."""

    def __init__(self, release: str) -> None:
        super().__init__(f"it needs Linux 5.12 or newer, this is {release}")


def _launcher(limits: Limits | None) -> Runner:
    from pipeline.engine.runtime.launcher import LauncherRunner

    if os.geteuid() != 0:
        raise _NotRoot
    release = os.uname().release
    major, minor = (int("".join(c for c in part if c.isdigit()) or 0) for part in release.split(".")[:2])
    if (major, minor) < (5, 12):
        raise _OldKernel(release)
    return LauncherRunner(limits=limits)


def _runc() -> Runner:
    from pipeline.engine.runtime.runc import RuncRunner

    if os.geteuid() != 0:
        raise _NotRoot
    try:
        return RuncRunner()
    except PermissionError as error:  # its state is root's: in a user namespace of an ordinary user's
        raise _NotRoot from error


def _bwrap(limits: Limits | None) -> Runner:
    from pipeline.engine.runtime.bwrap import BwrapRunner

    if os.geteuid() != 0:
        raise _NotRoot
    return BwrapRunner(limits=limits)

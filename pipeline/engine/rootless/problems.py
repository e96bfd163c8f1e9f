"""What on this machine keeps an ordinary user from running the engine, and the command that allows it.

Only reads what the kernel and the distribution say; whether it then works is for a try to tell.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pipeline.engine.rootless.subids import parse_ranges
from pipeline.engine.rootless.uplink import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

Topic = Literal["rights", "ids", "uplink"]
_SETTINGS: Final = (
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=28633"),
    ("user/max_mnt_namespaces", "0", "user.max_mnt_namespaces=28633"),
    ("user/max_net_namespaces", "0", "user.max_net_namespaces=28633"),
)
_PLACES: Final = ("usr/bin", "bin", "usr/local/bin", "usr/sbin", "sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is forbidden or missing; without what `is_fatal` the engine does not start."""

    topic: Topic
    what: str
    fix: str
    is_fatal: bool = True


def find_problems(name: str, uid: int, *, root: Path = Path("/")) -> tuple[Problem, ...]:
    """Return what stands in the way of a user, the most basic first, in the system below `root`."""
    return (*_forbidden(root), *_of_ids(name, uid, root), *_of_uplink(root))


def _forbidden(root: Path) -> Iterator[Problem]:
    for file, forbidding, allowing in _SETTINGS:
        path = root / "proc/sys" / file
        if path.exists() and path.read_text().strip() == forbidding:
            setting = file.replace("/", ".")
            what = f"the setting {setting} = {forbidding} forbids namespaces of ordinary users"
            yield Problem(topic="rights", what=what, fix=f"sudo sysctl -w {allowing}")
    mounts = root / "proc/self/mountinfo"
    places = [line.split()[4] for line in mounts.read_text().splitlines()] if mounts.exists() else []
    covered = [place for place in places if place.startswith("/proc/") and "binfmt_misc" not in place]
    if covered:
        what = f"`{covered[0]}` is covered, as in a container, so that the kernel allows no new /proc"
        fix = "start the outer container with --security-opt systempaths=unconfined"
        yield Problem(topic="rights", what=what, fix=fix)


def _of_ids(name: str, uid: int, root: Path) -> Iterator[Problem]:
    missing = [file for file in ("etc/subuid", "etc/subgid") if not _lends(root / file, {name, str(uid)})]
    if missing:
        what = f"`/{missing[0]}` lends `{name}` no ids: files of other owners than one cannot be kept"
        fix = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        yield Problem(topic="ids", what=what, fix=fix, is_fatal=False)
        return  # then nothing is mapped with the programs below
    for program in ("newuidmap", "newgidmap"):
        path = _find(program, root)
        if path is None:
            fix = "sudo apt-get install uidmap"
            yield Problem(topic="ids", what=f"`{program}` is not installed", fix=fix)
        elif not path.stat().st_mode & stat.S_ISUID and not _has_capabilities(path):
            where = f"/{path.relative_to(root)}"
            what = f"`{where}` may not map ids: it is neither setuid nor has it capabilities"
            yield Problem(topic="ids", what=what, fix=f"sudo chmod u+s {where}")


def _of_uplink(root: Path) -> Iterator[Problem]:
    tun = root / "dev/net/tun"
    if not tun.exists():
        what = "there is no /dev/net/tun: containers reach nothing outside"
        yield Problem(topic="uplink", what=what, fix="sudo modprobe tun", is_fatal=False)
    elif not os.access(tun, os.R_OK | os.W_OK):
        what = "/dev/net/tun may not be opened: containers reach nothing outside"
        yield Problem(topic="uplink", what=what, fix="sudo chmod 666 /dev/net/tun", is_fatal=False)
    if all(_find(program, root) is None for program in PROGRAMS):
        what = f"neither `{PROGRAMS[0]}` nor `{PROGRAMS[1]}` is installed: containers reach nothing outside"
        yield Problem(topic="uplink", what=what, fix="sudo apt-get install slirp4netns", is_fatal=False)


def _lends(file: Path, names: set[str]) -> bool:
    return file.exists() and bool(parse_ranges(file.read_text(), names))


def _find(program: str, root: Path) -> Path | None:
    return next((root / place / program for place in _PLACES if (root / place / program).exists()), None)


def _has_capabilities(path: Path) -> bool:
    return "security.capability" in os.listxattr(path)

"""Makes this process root of a user namespace of its own; it keeps its pid, its files and the host's network.

Inside, user 0 is the user outside, and the users 1 to 65535 are the ones `/etc/subuid` lends to them. So what
the engine writes as root belongs to the user, and nothing it does reaches further than the user could.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from pipeline.engine.rootless.subids import find_ranges
from pipeline.engine.runtime.syscalls import CLONE_NEWUSER, unshare
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.rootless.subids import Range

SINGLE_ID: Final = (
    "only one user id is mapped, because {reason}: files of other owners cannot be kept, which most images "
    "and `USER` need (`pipeline doctor` says how to allow more)"
)
_ADMINISTRATION: Final = ("/usr/sbin", "/sbin")
_log = logging.getLogger(__name__)


class UserNamespaceRefused(EngineError):
    """This machine does not let an ordinary user make a user namespace, or map ids into it."""

    hint = "run `pipeline doctor`: it names the setting that forbids it"

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot be root in a user namespace: {what}")


def enter_user_namespace() -> bool:
    """Become root of a new user namespace; does nothing for one who is root already.

    Returns whether it did something. Has to be called before the first thread is started.

    Raises:
        UserNamespaceRefused: The kernel, a security module or `newuidmap` refuses.
    """
    if os.geteuid() == 0:
        return False
    _stay_at_home()
    users, groups = find_ranges("/etc/subuid"), find_ranges("/etc/subgid")
    if users and groups:
        _enter_with(users, groups)
    else:
        _enter_alone()
        missing = "/etc/subuid" if not users else "/etc/subgid"
        _log.warning(SINGLE_ID.format(reason=f"`{missing}` lends you no ids"))
    return True


def mapping_argv(program: str, pid: int, own: int, ranges: Sequence[Range]) -> list[str]:
    """Return the command that maps 0 to `own` and what follows to the ranges, in order."""
    argv = [program, str(pid), "0", str(own), "1"]
    inside = 1
    for lent in ranges:
        argv += [str(inside), str(lent.first), str(lent.count)]
        inside += lent.count
    return argv


def _stay_at_home() -> None:
    """Name what is found by the user's id or name, which are root's inside."""
    os.environ.setdefault("XDG_DATA_HOME", os.path.expanduser("~/.local/share"))
    os.environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    # Programs that the engine starts as root are kept where a user's PATH does not look.
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*path, *(place for place in _ADMINISTRATION if place not in path)])


def _enter_with(users: Sequence[Range], groups: Sequence[Range]) -> None:
    commands = [
        mapping_argv("newuidmap", os.getpid(), os.getuid(), users),
        mapping_argv("newgidmap", os.getpid(), os.getgid(), groups),
    ]
    go_read, go = os.pipe()
    told, tell = os.pipe()
    helper = os.fork()  # the mapping has to be written from outside
    if helper == 0:
        os.close(go)
        os.close(told)
        if os.read(go_read, 1):
            os.write(tell, _map(commands)[:4096])
        os._exit(0)
    os.close(go_read)
    os.close(tell)
    try:
        unshare(CLONE_NEWUSER)
        os.write(go, b"1")
        words = os.read(told, 4096).decode("utf-8", "replace").strip()
    except OSError as error:
        raise UserNamespaceRefused((error.strerror or str(error)).lower()) from error
    finally:
        os.close(go)
        os.close(told)
        os.waitpid(helper, 0)
    if words:
        raise UserNamespaceRefused(words)


def _map(commands: Sequence[Sequence[str]]) -> bytes:
    """Run each command and return what went wrong; nothing when all went well."""
    for argv in commands:
        try:
            found = shutil.which(argv[0]) or f"/usr/bin/{argv[0]}"
            done = subprocess.run(
                [found, *argv[1:]], capture_output=True, check=False, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            return f"cannot run `{argv[0]}`: {error.strerror}".encode()
        if done.returncode != 0:
            return done.stderr.strip() or f"`{argv[0]}` ended with {done.returncode}".encode()
    return b""


def _enter_alone() -> None:
    """Map nobody but the user; the kernel allows that to everybody who gives up `setgroups`."""
    user, group = os.getuid(), os.getgid()
    try:
        unshare(CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    except OSError as error:
        raise UserNamespaceRefused((error.strerror or str(error)).lower()) from error

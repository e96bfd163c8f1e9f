"""What `doctor` looks at, one function a check; each says what it found and how to mend it.

Where it can, a check tries the thing in a process of its own: a kernel that lists a feature may refuse it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pipeline.errors import PipelineError
from pipeline.report.words import size
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.config import Config
    from pipeline.engine.rootless.problems import Problem, Topic

LIMIT_S: Final = 20.0
LOW_BYTES: Final = 2 * 10**9
SCARCE_BYTES: Final = 10 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check: "good", "note" (works, with less) or "bad" (something cannot work)."""

    check: str
    state: Literal["good", "note", "bad"]
    what: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the checks look at."""

    root: Path  # of the project
    config: Config
    store: Path


def check_all(machine: Machine) -> list[Finding]:
    """Make every check, in an order in which the first bad one is the one to mend first."""
    return [check(machine) for check in CHECKS]


def check_python(_: Machine) -> Finding:
    """Which Python runs this."""
    return Finding(check="python", state="good", what=f"{platform.python_version()} at {sys.executable}")


def check_system(_: Machine) -> Finding:
    """The embedded engine needs Linux."""
    name = platform.system()
    if name == "Linux":
        return Finding(
            check="system", state="good", what=f"Linux {platform.release()} on {platform.machine()}"
        )
    return Finding(
        check="system",
        state="bad",
        what=f"the embedded engine runs on Linux, this is {name}",
        fix="use a Dagger engine: pipeline run --engine dagger",
    )


def check_rights(_: Machine) -> Finding:
    """Containers need root, or user namespaces."""
    if os.geteuid() == 0:
        said = _try(["unshare", "--mount", "true"])
        if said is None:
            return Finding(check="rights", state="good", what="root, with mount namespaces")
        return Finding(
            check="rights",
            state="bad",
            what=f"root, but mount namespaces are refused: {said}",
            fix="run where CAP_SYS_ADMIN is granted (in Docker: --privileged)",
        )
    if problem := _find_problem("rights"):
        return Finding(check="rights", state="bad", what=f"not root, and {problem.what}", fix=problem.fix)
    said = _try(["unshare", "--user", "--map-root-user", "--mount", "--net", "true"])
    if said is None:
        return Finding(check="rights", state="good", what="user namespaces work")
    return Finding(
        check="rights",
        state="bad",
        what=f"not root, and user namespaces are refused: {said}",
        fix="run as root, or look for a security module or container that forbids them",
    )


def check_ids(_: Machine) -> Finding:
    """Without root, files of other owners need ids that the machine lends to the user."""
    if os.geteuid() == 0:
        return Finding(check="ids", state="good", what="root may use every id")
    if problem := _find_problem("ids"):
        state: Literal["note", "bad"] = "bad" if problem.is_fatal else "note"
        return Finding(check="ids", state=state, what=problem.what, fix=problem.fix)
    return Finding(
        check="ids", state="good", what="/etc/subuid and /etc/subgid lend some, and they can be mapped"
    )


def check_uplink(_: Machine) -> Finding:
    """Without root, containers reach the network through a program of the user's."""
    if os.geteuid() == 0:
        return Finding(check="uplink", state="good", what="root needs none")
    if problem := _find_problem("uplink"):
        return Finding(check="uplink", state="note", what=problem.what, fix=problem.fix)
    return Finding(check="uplink", state="good", what="/dev/net/tun, and a program that uses it")


def _find_problem(topic: Topic) -> Problem | None:
    """Return the first thing that stands in the way of this user, of one kind."""
    import getpass

    from pipeline.engine.rootless.problems import find_problems

    found = find_problems(getpass.getuser(), os.getuid())
    return next((problem for problem in found if problem.topic == topic), None)


def check_runner(machine: Machine) -> Finding:
    """Something that starts containers."""
    from pipeline.engine.runtime.runner import find_runner

    chosen = machine.config.engine.runner
    if os.geteuid() != 0:
        return _runner_inside(chosen)
    try:
        runner = find_runner(chosen)
    except PipelineError as error:
        fix = error.hint or "install one: sudo apt-get install runc"
        return Finding(check="runner", state="bad", what=str(error), fix=fix)
    return Finding(check="runner", state="good", what=type(runner).__name__)


def check_cgroups(_: Machine) -> Finding:
    """Control groups bound what a command takes, and tell when memory ended it."""
    from pipeline.engine.runtime.cgroups import find_problem

    if os.geteuid() != 0:
        what = "an ordinary user's commands run in none: limits of memory and processes cannot be kept"
        fix = "run as root where you need such limits"
        return Finding(check="cgroups", state="note", what=what, fix=fix)
    if problem := find_problem():
        what = f"{problem}: limits of memory and processes cannot be kept"
        fix = "mount control groups where this user may write: /sys/fs/cgroup"
        return Finding(check="cgroups", state="note", what=what, fix=fix)
    return Finding(check="cgroups", state="good", what="a leaf for each command")


def _runner_inside(chosen: str | None) -> Finding:
    """Look for a runner as root of a user namespace, in a process that ends with the look."""
    program = (
        "import sys; from pipeline.engine.rootless.enter import enter_user_namespace as enter; enter();"
        "from pipeline.engine.runtime.runner import find_runner as find;"
        "print(type(find(sys.argv[1] or None)).__name__)"
    )
    argv = [sys.executable, "-c", program, chosen or ""]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode == 0:
        return Finding(check="runner", state="good", what=f"{done.stdout.strip()}, in a user namespace")
    said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
    fix = "mend what the lines above name, or install a runner: sudo apt-get install runc"
    return Finding(check="runner", state="bad", what=said[0].partition(": ")[2] or said[0], fix=fix)


def check_overlay(machine: Machine) -> Finding:
    """Overlay mounts, where the store is."""
    place = next(folder for folder in (machine.store, *machine.store.parents) if folder.is_dir())
    if not os.access(place, os.W_OK):
        fix = f"make `{place}` writable, or set engine.store"
        return Finding(check="overlayfs", state="bad", what=f"`{place}` is not writable", fix=fix)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as folder:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(folder, name))
        mount = (
            "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && touch merged/x"
        )
        unshare = ["unshare", "--mount"]
        if os.geteuid() != 0:
            unshare += ["--user", "--map-root-user"]
        said = _try([*unshare, "sh", "-c", mount], folder)
    if said is None:
        return Finding(check="overlayfs", state="good", what=f"works in `{place}`")
    return Finding(
        check="overlayfs",
        state="bad",
        what=f"overlay mounts fail in `{place}`: {said}",
        fix="put the store on ext4, xfs or tmpfs: set engine.store or PIPELINE_STORE",
    )


def check_git(_: Machine) -> Finding:
    """Tracked files are found by git."""
    return _program("git", "note", "without it every file counts as tracked", "sudo apt-get install git")


def check_mmdebstrap(machine: Machine) -> Finding:
    """Stand-ins for images are built by mmdebstrap."""
    wanted = machine.config.images.fallback == "recipe"
    why = "stand-ins for images cannot be built" + ("" if wanted else " (only for images.fallback = recipe)")
    return _program("mmdebstrap", "bad" if wanted else "note", why, "sudo apt-get install mmdebstrap")


def check_iptables(_: Machine) -> Finding:
    """Containers reach the network through rules of the kernel's packet filter."""
    why = "containers may not reach the network"
    if _find_program("iptables-restore") is None and _find_program("nft") is not None:
        return _program("nft", "note", why, "")
    return _program("iptables", "note", why, "sudo apt-get install iptables")


def check_certificates(machine: Machine) -> Finding:
    """The CA bundle that containers get."""
    path = machine.config.network.ca_bundle
    if path is None:
        fix = "sudo apt-get install ca-certificates, or set network.ca_bundle"
        return Finding(check="certificates", state="note", what="no CA bundle was found", fix=fix)
    origin = machine.config.origins.get("network.ca_bundle", "default")
    try:
        count = Path(path).read_bytes().count(b"-----BEGIN CERTIFICATE-----")
    except OSError as error:
        what = f"`{path}` ({origin}) cannot be read: {(error.strerror or str(error)).lower()}"
        return Finding(check="certificates", state="bad", what=what, fix="name a file that is there")
    if not count:
        what = f"`{path}` ({origin}) holds no certificate"
        return Finding(check="certificates", state="bad", what=what, fix="name a file in PEM format")
    return Finding(check="certificates", state="good", what=f"{count} in `{path}` ({origin})")


def check_disk(machine: Machine) -> Finding:
    """Room for images and layers."""
    place = next(folder for folder in (machine.store, *machine.store.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    what = f"{size(free)} free in `{place}`"
    if free >= SCARCE_BYTES:
        return Finding(check="disk", state="good", what=what)
    state: Literal["bad", "note"] = "bad" if free < LOW_BYTES else "note"
    fix = "pipeline engine prune --max-size 5GB, or set engine.store"
    return Finding(check="disk", state=state, what=what, fix=fix)


def check_shadow(machine: Machine) -> Finding:
    """A project's own `pipeline` module hides this one from `python -m`."""
    from pipeline.cli.project import find_shadow

    shadow = find_shadow(machine.root)
    if shadow is None:
        return Finding(check="module name", state="good", what="no other module `pipeline` in this project")
    return Finding(
        check="module name",
        state="note",
        what=f"the project's own `{shadow}` is what `python -m pipeline` runs here",
        fix="use the command `pipeline`",
    )


def check_project(machine: Machine) -> Finding:
    """The graph of this project."""
    from pipeline.cli.project import load_graph

    try:
        graph = load_graph(machine.root, machine.config)
    except PipelineError as error:
        return Finding(check="project", state="bad", what=str(error), fix=error.hint or "mend what it says")
    what = f"{some(len(graph.order), 'stage')} in `{machine.root}`"
    if not graph.order:
        fix = "write some in ci/stages.py; `pipeline init` starts one"
        return Finding(check="project", state="note", what=what, fix=fix)
    return Finding(check="project", state="good", what=what)


CHECKS: Final[Sequence[Callable[[Machine], Finding]]] = (
    check_python,
    check_system,
    check_rights,
    check_ids,
    check_uplink,
    check_runner,
    check_cgroups,
    check_overlay,
    check_git,
    check_mmdebstrap,
    check_iptables,
    check_certificates,
    check_disk,
    check_shadow,
    check_project,
)


def _program(name: str, missing: Literal["note", "bad"], why: str, fix: str) -> Finding:
    """Whether a program is there."""
    path = _find_program(name)
    if path is None:
        return Finding(check=name, state=missing, what=f"not found: {why}", fix=fix)
    return Finding(check=name, state="good", what=path)


def _find_program(name: str) -> str | None:
    """Look where the engine looks, which is more than an ordinary user's PATH."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


def _try(argv: Sequence[str], folder: str | None = None) -> str | None:
    """Run a command; None when it works, else the last thing it said."""
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {LIMIT_S:g} s"
    except OSError as error:
        return f"`{argv[0]}`: {(error.strerror or str(error)).lower()}"
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return None if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")

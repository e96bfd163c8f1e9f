"""A release that was killed, wherever, is completed by one more run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.release.publish import ReleaseUnfinished, publish
from pipeline.release.repository import GitRefused
from pipeline.release.tag import TagRejected, check_tag
from tests.unit.release.world import ISOLATED, World, allow, ssh_key, wheel

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.release.signing import Signer

STEPS = ["notes", "attestation", "tag", "push", "close"]

VICTIM = """
import os, signal, sys
from pathlib import Path
from pipeline.config.release import ReleaseSettings
from pipeline.release.plan import Request, make_plan
from pipeline.release.publish import Places, publish
from pipeline.release.repository import Repository
from pipeline.release.signing import Signer

root, folder, file, key, step, moment = sys.argv[1:]
repository = Repository(root=Path(root))
plan = make_plan(repository, ReleaseSettings(), Request(name="app", files=[Path(file)]))

def observe(name, when):
    if (name, when) == (step, moment):
        os.kill(os.getpid(), signal.SIGKILL)

signer = Signer(kind="ssh", key=key)
places = Places(repository=repository, folder=Path(folder), remote="origin", signer=signer)
publish(plan, places, observe)
"""


def kill(world: World, tmp_path: Path, step: str, moment: str, key: Signer) -> None:
    """Release in a process of its own, which kills itself there."""
    file = wheel(tmp_path / "dist", "0.1.0")
    argv = [sys.executable, "-c", VICTIM, str(world.root), str(tmp_path / "kept"), str(file), key.key]
    environ = {**os.environ, **ISOLATED}
    done = subprocess.run([*argv, step, moment], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("step", "moment"),
    [("notes", "begins"), *((step, "done") for step in STEPS)],
    ids=["before all", *(f"after {step}" for step in STEPS)],
)
def test_killed_between_steps_one_more_run_completes(
    world: World, tmp_path: Path, step: str, moment: str
) -> None:
    """Whatever was done stays; there is one tag, signed, here and there, and it is of the plan."""
    sha = world.commit("feat: begin")
    world.push()
    key = ssh_key(tmp_path / "keys")
    kill(world, tmp_path, step, moment, key)

    plan = world.plan(files=[wheel(tmp_path / "dist", "0.1.0")])
    told = publish(plan, world.places(signer=key))

    done = STEPS[: STEPS.index(step) + (moment == "done")]
    assert told == {name: "found" if name in done else "done" for name in STEPS}
    assert (world.local_tags(), world.remote_tags()) == (["v0.1.0"], {"v0.1.0": sha})
    check_tag(world.repository, "v0.1.0", allow(tmp_path / "keys", key))


KILLED_INSIDE = {
    "tag is being written": (
        "reference-transaction",
        '[ "$1" = prepared ] && grep -q refs/tags && kill -9 $PPID',
        False,
    ),
    "tag was written": (
        "reference-transaction",
        '[ "$1" = committed ] && grep -q refs/tags && kill -9 $PPID',
        False,
    ),
    "push begins": ("pre-push", "kill -9 $PPID", False),
    "remote has it": ("post-receive", "kill -9 $PPID", True),
}


@pytest.mark.parametrize(("hook", "script", "remote"), KILLED_INSIDE.values(), ids=KILLED_INSIDE.keys())
def test_git_killed_inside_a_step_one_more_run_completes(
    world: World, tmp_path: Path, hook: str, script: str, remote: bool
) -> None:
    """Git itself dies while it writes or pushes the tag."""
    sha = world.commit("feat: begin")
    world.push()
    world.hook(hook, f"{script}\nexit 0", remote=remote)
    plan, places = world.plan(), world.places()

    with contextlib.suppress(GitRefused, ReleaseUnfinished, TagRejected):
        publish(plan, places)
    folder = world.remote / "hooks" if remote else world.root / ".git/hooks"
    (folder / hook).unlink()
    for lock in (world.root / ".git/refs/tags").glob("*.lock"):
        lock.unlink()  # as git asks for, after a crash
    publish(plan, places)

    assert (world.local_tags(), world.remote_tags()) == (["v0.1.0"], {"v0.1.0": sha})

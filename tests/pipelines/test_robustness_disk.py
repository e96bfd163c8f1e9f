"""A full disk is one clear sentence, and once there is room again the run works."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from pipeline.session.standing import find_keepers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.robust import RobustProject

BIG = '''
from pipeline import Context, stage

drop = ["*"]


@stage()
async def big(ctx: Context) -> str:
    """Needs 40 MB in the container."""
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    made = container.with_exec(["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=40"])
    return await made.with_exec(["sh", "-c", "wc -c < /big"]).stdout()
'''


def limit(project: RobustProject, path: Path, size: str, *, mounted: bool) -> None:
    """Make `path` a disk of this size in the project's room, or change the size."""
    options = f"remount,size={size}" if mounted else f"size={size}"
    project.room.do("mount", "-t", "tmpfs", "-o", options, "none", str(path))


@pytest.mark.root
def test_a_store_on_a_full_disk_names_itself_and_works_again_with_room(bare: RobustProject) -> None:
    """Too small for the index, for the root file system, for what a command writes; then large enough."""
    bare.write({"ci/stages.py": BIG})
    bare.store.mkdir()
    limit(bare, bare.store, "16k", mounted=False)
    sentence = f"cannot use the store `{bare.store}`: no space left on device"

    tiny = bare("run", "-q")
    limit(bare, bare.store, "1200k", mounted=True)
    small = bare("run", "-q")
    limit(bare, bare.store, "20m", mounted=True)
    middle = bare("run", "-q")
    limit(bare, bare.store, "100m", mounted=True)
    large = bare("run", "-q")

    failures = [tiny.stdout.splitlines()[1:-3], small.stdout.splitlines()[1:-3]]
    after = ["  reproduce: pipeline run --only big", "  hint: prune the store, or free space on its disk"]
    assert failures[0] == [f"  cannot start the engine: {sentence}", *after]
    assert failures[1] == [f"  {sentence}", *after]
    assert "dd: error writing '/big': No space left on device" in middle.stdout
    assert [done.code for done in (tiny, small, middle, large)] == [1, 1, 1, 0]
    # If what had to be written at the end did not fit either, the engine says so beside the stage's failure.
    hint = "(hint: prune the store, or free space on its disk)"
    ended = f"engine: the engine did not end in order: {sentence} {hint}\n"
    assert [done.stderr for done in (tiny, small, large)] == ["", "", ""]
    assert middle.stderr in ("", ended)
    assert bare.result("big") == f"{40 << 20}\n"
    assert bare.left() == {}


@pytest.mark.root
def test_an_engine_that_stays_outlives_a_full_disk(bare: RobustProject) -> None:
    """The session in whose middle the disk fills up fails; the next one of the same engine works."""
    bare.write({"ci/stages.py": BIG})
    bare.store.mkdir()
    store = bare.room.inside(bare.store)
    limit(bare, bare.store, "20m", mounted=False)

    full = bare("run", "-q", PIPELINE_ENGINE_IDLE="60")
    [before] = find_keepers(store)
    limit(bare, bare.store, "100m", mounted=True)
    after = bare("run", "-q", PIPELINE_ENGINE_IDLE="60")
    [keeper] = find_keepers(store)
    os.kill(keeper["pid"], signal.SIGKILL)

    assert "No space left on device" in full.stdout
    assert (full.code, after.code) == (1, 0), after
    assert before["pid"] == keeper["pid"]
    assert bare.wait_until_gone() == {}


@pytest.mark.root
@pytest.mark.parametrize("size", ["4k", "36k"])
def test_a_run_whose_evidence_has_no_room_ends_with_one_sentence(project: RobustProject, size: str) -> None:
    """Nothing goes on without evidence; the next run, with room, is good."""
    state = project.root / ".pipeline"
    state.mkdir()
    limit(project, state, size, mounted=False)

    full = project("run", "-q")
    limit(project, state, "4m", mounted=True)
    after = project("run", "-q")

    error, hint = full.stderr.splitlines()[-2:]
    assert full.code == 1, full
    assert error.startswith(f"error: cannot write the run folder `{state}")
    assert error.endswith("`: no space left on device")
    assert hint == "hint: free space on its disk; `pipeline cache prune` empties the cache of stage results"
    assert "Traceback" not in full.stderr
    assert after.code == 0, after
    assert project.left() == {}

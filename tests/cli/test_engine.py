"""The embedded engine behind the command line: its output reaches the stage that asked for it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.session.standing import find_keepers
from tests.cli.harness import Answer, lines

if TYPE_CHECKING:
    from tests.cli.harness import CliProject

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("busybox") is None, reason="needs a static busybox"),
]

STAGES = '''
from pipeline import Context, stage

drop = ["*"]


@stage(inputs=[])
async def loud(ctx: Context) -> None:
    """Run a command that fails, in a container."""
    dag = await ctx.dagger()
    tools = dag.host().directory("BUSYBOX", include=["busybox"])
    box = dag.container().with_rootfs(dag.directory().with_directory("bin", tools))
    await box.with_exec(["/bin/busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]).sync()
'''


def test_a_failing_container_command_is_shown_by_its_own_words(cli: CliProject) -> None:
    """Command, exit code and last lines are the container's; the log has all of its output."""
    busybox = str(shutil.which("busybox")).removesuffix("/busybox")
    cli.write({"ci/stages.py": STAGES.replace("BUSYBOX", busybox)})
    store = str(cli.home / "store")

    answer = cli("run", "-q", PIPELINE_STORE=store)

    assert answer == Answer(
        stdout=lines("""
            failed loud
              `/bin/busybox` ended with exit code 3
              $ /bin/busybox sh -c 'echo out; echo err >&2; exit 3'  (exit code 3)
              | err
              reproduce: pipeline run --only loud

            failed: 1 failed in TIME
            evidence: .pipeline/runs/RUN
        """),
        stderr="",
        code=1,
    )
    log = next(cli.root.glob(".pipeline/runs/*/stages/loud/log.txt")).read_text()
    assert {"out", "err"} <= set(log.splitlines())


def test_a_command_runs_with_a_session_and_its_exit_code_is_kept(cli: CliProject) -> None:
    """Any SDK finds the session by the variables."""
    argv = ["--", "sh", "-c", 'test -n "$DAGGER_SESSION_PORT$DAGGER_SESSION_TOKEN" && exit 4']

    answer = cli("engine", "shell", *argv, PIPELINE_STORE=str(cli.home / "store"))

    assert answer == Answer(stdout="", stderr="`sh` ended with exit code 4\n", code=4)


def test_an_engine_that_stays_is_shown_and_ended(cli: CliProject) -> None:
    """`status` names it after the command that started it; `stop` ends it."""
    store = str(cli.home / "store")
    environ = {"PIPELINE_STORE": store, "PIPELINE_ENGINE_IDLE": "60"}

    ran = cli.run("engine", "shell", "--", "true", environ=environ)
    before = json.loads(cli.run("engine", "status", "--json", environ=environ).stdout)["staying"]
    stopped = json.loads(cli.run("engine", "stop", "--json", environ=environ).stdout)["stopped"]
    until = time.monotonic() + 10
    while find_keepers(Path(store)) and time.monotonic() < until:
        time.sleep(0.02)
    after = json.loads(cli.run("engine", "status", "--json", environ=environ).stdout)["staying"]

    assert ran == Answer(stdout="", stderr="", code=0)
    assert [set(keeper) for keeper in before] == [{"pid", "since", "stays_s", "idle_s", "sessions"}]
    assert (before[0]["stays_s"], before[0]["sessions"]) == (60, [])
    assert 0 <= before[0]["idle_s"] < 60
    assert stopped == [before[0]["pid"]]
    assert after == []

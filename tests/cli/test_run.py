"""`pipeline run` from outside: what it says, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.cli.harness import COMMAND, Answer, lines

if TYPE_CHECKING:
    from tests.cli.harness import CliProject


def test_a_good_run_says_one_line_a_stage_and_the_total(cli: CliProject) -> None:
    """Progress is talk on standard error; the result is data on standard output."""
    answer = cli("run", "-j", "1")

    assert answer == Answer(
        stdout=lines("""
            passed: 1 skipped, 3 passed in TIME
            evidence: .pipeline/runs/RUN
        """),
        stderr=lines("""
            skipped   ship           an effect needs an environment (--env)
            passed    make TIME
            passed    check TIME
            passed    lint TIME
        """),
        code=0,
    )


def test_a_second_run_takes_everything_from_the_cache(cli: CliProject) -> None:
    """Nothing is run twice."""
    cli("run")

    answer = cli("run", "-q")

    assert answer == Answer(
        stdout=lines("""
            passed: 1 skipped, 3 cached in TIME
            evidence: .pipeline/runs/RUN
        """),
        stderr="",
        code=0,
    )


def test_a_failure_shows_the_commands_own_last_lines_and_ends_with_1(cli: CliProject) -> None:
    """No traceback of ours: sentence, command, exit code, last lines, how to see it again, advice."""
    cli.write({"tests/bad.txt": ""})

    answer = cli("run", "-q", "--only", "check")

    assert answer == Answer(
        stdout=lines("""
            failed check
              1 test failed
              $ pytest -q 'a b'  (exit code 1)
              | E   assert 1 == 2
              | 1 failed
              reproduce: pipeline run --only check
              hint: look at the assertion

            failed: 1 failed, 1 passed, 2 not selected in TIME
            evidence: .pipeline/runs/RUN
        """),
        stderr="",
        code=1,
    )


def test_failed_runs_again_what_failed_and_what_depends_on_it(cli: CliProject) -> None:
    """The stages that were good come from the cache."""
    cli.write({"tests/bad.txt": ""})
    cli("run", "--env", "test", "--keep-going")
    (cli.root / "tests/bad.txt").unlink()

    answer = cli("run", "--failed", "--env", "test")

    verdicts = {line.split()[1]: line.split()[0] for line in answer.stderr.splitlines()}
    assert verdicts == {"make": "cached", "check": "passed", "ship": "passed"}
    assert answer.code == 0


def test_json_writes_the_whole_record_and_nothing_else_to_standard_output(cli: CliProject) -> None:
    """A program can read what a person reads."""
    answer = cli("run", "--json", "--only", "make")

    record = json.loads(answer.stdout)
    assert record["verdict"] == "passed"
    assert record["exit_code"] == 0
    assert {one["name"]: one["verdict"] for one in record["stages"]} == {
        "make": "passed",
        "check": "skipped",
        "lint": "skipped",
        "ship": "skipped",
    }


def test_an_effect_without_environment_is_refused_with_3(cli: CliProject) -> None:
    """Nothing is run, not even what it needs."""
    answer = cli("run", "--only", "ship")

    assert answer == Answer(
        stdout="",
        stderr=lines("""
            error: cannot run `ship`: an effect needs an explicit environment
            hint: name one with --env
        """),
        code=3,
    )
    assert not (cli.root / ".pipeline/runs").exists()


def test_an_unknown_stage_is_wrong_use_with_a_suggestion(cli: CliProject) -> None:
    """The name that may have been meant is said."""
    answer = cli("run", "--only", "chek")

    assert answer == Answer(
        stdout="", stderr="error: cannot use `--only chek`: no such stage; did you mean `check`?\n", code=2
    )


def test_the_deadline_of_the_run_ends_it_with_124(cli: CliProject) -> None:
    """The message says what was going on."""
    cli.write(
        {
            "ci/stages.py": "import anyio\nfrom pipeline import Context, stage\ndrop = ['*']\n\n"
            "@stage\nasync def sleep(ctx: Context) -> None:\n    await anyio.sleep(60)\n"
        }
    )

    answer = cli("run", "--timeout", "500ms")

    assert answer.code == 124
    assert "timeout" in answer.stdout.splitlines()[-3]
    assert "`sleep`" in answer.stdout


def test_an_interrupt_ends_the_run_with_130_and_leaves_its_record(cli: CliProject) -> None:
    """What was known is in the run folder, also as a page."""
    cli.write(
        {
            "ci/stages.py": "import anyio\nfrom pipeline import Context, stage\ndrop = ['*']\n\n"
            "@stage\nasync def sleep(ctx: Context) -> None:\n"
            "    ctx.log('begun')\n    await anyio.sleep(60)\n"
        }
    )
    process = subprocess.Popen(
        [str(COMMAND), "run"],
        cwd=cli.root,
        env=cli.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    limit = time.monotonic() + 30
    while not list(cli.root.glob(".pipeline/runs/*/stages/sleep/log.txt")) and time.monotonic() < limit:
        time.sleep(0.05)

    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode == 130
    assert cli("runs").stdout.splitlines()[1].split()[-2:] == ["1", "cancelled"]
    assert list(cli.root.glob(".pipeline/runs/*/report.html"))


def test_a_killed_run_can_be_reported(cli: CliProject) -> None:
    """The views are made from what it had told until then."""
    cli("run")
    folder = next(iter(cli.root.glob(".pipeline/runs/*")))
    events = folder / "events.jsonl"
    kept = [line for line in events.read_text().splitlines() if "RunFinished" not in line]
    events.write_text("\n".join(kept) + '\n{"kind": "StageFin')
    (folder / "summary.md").unlink()

    answer = cli("report")

    assert answer == Answer(
        stdout="ROOT/.pipeline/runs/RUN/summary.md\nROOT/.pipeline/runs/RUN/report.html\n",
        stderr="run `RUN` has no end: it was killed, or goes on\n",
        code=0,
    )
    assert (folder / "summary.md").read_text().startswith("## ⏳ project: unfinished")


def test_a_project_with_a_pipeline_module_of_its_own_works_and_is_told(cli: CliProject) -> None:
    """`python -m pipeline` would run theirs; the command runs ours, and says so."""
    cli.write({"pipeline/__init__.py": "raise SystemExit('theirs')\n"})

    answer = cli("run", "-q", "--only", "lint")

    assert answer.code == 0
    assert answer.stderr == (
        "note: `python -m pipeline` would run this project's own `pipeline/__init__.py`; "
        "`pipeline` runs this\n"
    )


def test_verbose_shows_what_stages_say(cli: CliProject) -> None:
    """Each line carries the stage's name."""
    answer = cli("run", "-v", "--only", "make")

    assert "          make   making it" in answer.stderr.splitlines()

"""The commands that only look: whole outputs, and the same as JSON."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.cli.app import COMMANDS, app
from tests.cli.harness import Answer, lines

if TYPE_CHECKING:
    from tests.cli.harness import CliProject


def test_list_shows_stages_with_needs_and_marks(cli: CliProject) -> None:
    assert cli("list") == Answer(
        stdout=lines("""
            STAGE  NEEDS        WHAT IT DOES
            make   -            Make a thing.
            check  make         Check the thing. [quick]
            lint   -            Look at the style.
            ship   make, check  Ship the thing. [effect]
        """),
        stderr="",
        code=0,
    )


def test_list_as_json_holds_every_fact(cli: CliProject) -> None:
    answer = cli("list", "--json")

    assert json.loads(answer.stdout)[1] == {
        "name": "check",
        "doc": "Check the thing.",
        "needs": ["make"],
        "optional": [],
        "after": [],
        "inputs": ["tests/**"],
        "effect": False,
        "enabled": True,
        "timeout_s": None,
        "attempts": 1,
        "weight": 1,
        "exclusive": None,
        "soft_fail": False,
        "tags": ["quick"],
        "where": "ci/stages.py:16",
    }


def test_plan_says_what_would_happen_and_why(cli: CliProject) -> None:
    """Without a run before, everything runs; effects are skipped without an environment."""
    assert cli("plan") == Answer(
        stdout=lines("""
            STAGE  ACTION  USUALLY  WHY
            make   run              nothing is stored for it yet
            check  run              `make` runs
            lint   run              nothing is stored for it yet
            ship   skip             an effect needs an environment (--env)
            3 to run, 0 cached, 1 skipped
        """),
        stderr="",
        code=0,
    )
    assert not (cli.root / ".pipeline").exists() or not (cli.root / ".pipeline/runs").exists()


def test_plan_names_what_effects_would_act_on(cli: CliProject) -> None:
    answer = cli("plan", "--env", "production", "--only", "ship")

    assert answer.stdout.splitlines()[-2:] == [
        "would act on production: ship (Ship the thing.)",
        "3 to run, 0 cached, 1 skipped",
    ]


def test_explain_names_the_changed_file(cli: CliProject) -> None:
    cli("run")
    cli.write({"tests/new.txt": "more\n"})

    answer = cli("explain", "check")

    assert answer.stdout.splitlines()[0] == "check would run: input `tests/new.txt` added"


def test_explain_names_the_cause_further_up(cli: CliProject) -> None:
    cli("run")
    cli.write({"src/a.txt": "two\n"})

    answer = cli("explain", "check")

    assert answer.stdout.splitlines()[:2] == [
        "check would run: `make` runs",
        "  make: input `src/a.txt` changed",
    ]


def test_explain_of_a_cached_stage(cli: CliProject) -> None:
    cli("run")

    answer = cli("explain", "lint", "--json")

    told = json.loads(answer.stdout)
    assert (told["action"], told["why"], told["changes"]) == ("cached", "nothing it depends on changed", [])


def test_explain_config_says_where_values_come_from(cli: CliProject) -> None:
    cli.write({"pyproject.toml": "[tool.pipeline.run]\njobs = 3\n"})

    answer = cli(
        "explain", "--config", PIPELINE_TIMEOUT="5m", PIP_INDEX_URL="https://me:secret@pypi.example.com/"
    )

    rows = {line.split()[0]: line.split()[1:] for line in answer.stdout.splitlines()}
    assert rows["run.jobs"] == ["3", "pyproject.toml"]
    assert rows["run.timeout"] == ["300.0", "PIPELINE_TIMEOUT", "(environment)"]
    assert rows["network.index_url"][0] == '"https://***@pypi.example.com/"'
    assert "secret" not in answer.stdout


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param(
            "text",
            """
            make
            └─ check
               └─ ship  (after make)  effect
            lint
            """,
            id="text",
        ),
        pytest.param(
            "mermaid",
            """
            flowchart LR
              s_make["make"]
              s_check["check"]
              s_lint["lint"]
              s_ship[["ship"]]
              s_make --> s_check
              s_make --> s_ship
              s_check --> s_ship
            """,
            id="mermaid",
        ),
        pytest.param(
            "dot",
            """
            digraph pipeline {
              rankdir=LR;
              node [shape=box, style=filled, fillcolor=white];
              "make";
              "check";
              "lint";
              "ship" [shape=box3d];
              "make" -> "check";
              "make" -> "ship";
              "check" -> "ship";
            }
            """,
            id="dot",
        ),
    ],
)
def test_graph_draws(cli: CliProject, form: str, expected: str) -> None:
    assert cli("graph", "--format", form) == Answer(stdout=lines(expected).rstrip(" "), stderr="", code=0)


def test_graph_is_coloured_by_a_run(cli: CliProject) -> None:
    cli("run", "-q")

    answer = cli("graph", "--run", "last")

    assert answer.stdout.splitlines()[:2] == ["make  passed", "└─ check  passed"]


def test_logs_show_what_a_stage_said(cli: CliProject) -> None:
    cli("run", "-q")

    assert cli("logs", "last", "make") == Answer(stdout="making it\n", stderr="", code=0)


def test_logs_of_an_unknown_stage_or_run(cli: CliProject) -> None:
    cli("run", "-q")

    assert cli("logs", "last", "mke").stderr == (
        'error: cannot show `mke` of run `RUN`: no such stage; did you mean "make"?\n'
    )
    assert cli("logs", "nope", "make").code == 2


def test_runs_lists_the_newest_first(cli: CliProject) -> None:
    cli("run", "-q", "--only", "lint")

    assert cli("runs") == Answer(
        stdout=lines("""
            RUN                       WHEN                 OUTCOME  TIME  STAGES
            RUN  MOMENT  passed TIME  1 passed, 3 skipped
        """),
        stderr="",
        code=0,
    )


def test_cache_shows_and_is_emptied(cli: CliProject) -> None:
    cli("run", "-q")

    before = json.loads(cli("cache", "show", "--json").stdout)
    cli("cache", "prune", "--all")
    after = json.loads(cli("cache", "show", "--json").stdout)

    assert (before["entries"], after["entries"]) == (3, 0)


def test_since_runs_only_what_changes_affect(cli: CliProject) -> None:
    """Skipped stages say why."""
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *argv], cwd=cli.root, check=True
        )
    cli.write({"tests/good.txt": "better\n"})

    answer = cli("plan", "--since", "HEAD", "--json")

    actions = {row["name"]: row["action"] for row in json.loads(answer.stdout)}
    assert actions == {"make": "run", "check": "run", "lint": "skip", "ship": "skip"}


def test_every_command_says_in_help_what_the_table_says() -> None:
    """`--help` loads no command, so its sentences stand in a table."""
    import click

    context = click.Context(app)
    told = {}
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        told[name] = (command.help or "").splitlines()[0]

    for name, sentence in told.items():
        if name not in ("explain", "logs", "report"):  # theirs name their arguments
            assert sentence == COMMANDS[name]

"""Wrong use, wrong files, and the commands that look after a machine and a project."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import COMMAND, Answer, lines

if TYPE_CHECKING:
    from tests.cli.harness import CliProject

HEAD = "from pipeline import Context, stage\ndrop = ['*']\n\n"


def test_a_misspelt_command_gets_a_suggestion(bare: CliProject) -> None:
    assert bare("lst") == Answer(
        stdout="",
        stderr=lines("""
            Usage: pipeline [OPTIONS] COMMAND [ARGS]...
            Try 'pipeline --help' for help.

            Error: no command is called `lst`; did you mean "list"?
        """),
        code=2,
    )


def test_help_lists_the_commands_and_the_exit_codes(bare: CliProject) -> None:
    answer = bare("--help")

    assert answer.code == 0
    assert "  doctor    Check this machine and say how to mend what is found.\n" in answer.stdout
    assert "Exit codes: 0 good, 1 failed, 2 wrong use" in answer.stdout


def test_a_directory_that_is_not_there(bare: CliProject) -> None:
    assert bare("-C", "nowhere", "list") == Answer(
        stdout="", stderr="error: cannot work in `nowhere`: no such directory\n", code=2
    )


def test_the_project_is_found_from_a_folder_inside_it(cli: CliProject) -> None:
    """As git does; `-C` starts the search elsewhere, before or after the command."""
    (cli.root / "src/deep").mkdir()

    inside = cli("list", cwd=cli.root / "src/deep")

    assert inside == cli("list", "-C", "src") == cli("-C", "src/deep", "list")
    assert inside.code == 0


def test_all_problems_of_the_configuration_are_told_at_once(cli: CliProject) -> None:
    cli.write({"pyproject.toml": "[tool.pipeline.run]\njob = 1\ntimeout = 3\n[tool.pipeline.stages.chek]\n"})

    answer = cli("list", PIPELINE_JOBS="x")

    assert answer == Answer(
        stdout="",
        stderr=lines("""
            error: pyproject.toml: 2 problems
              tool.pipeline.run.timeout: expected a duration such as "30s" or "5m", got 3
              tool.pipeline.run.job: unknown key; did you mean "jobs"?
            environment: 1 problem
              PIPELINE_JOBS: expected a whole number of at least 1, got "x"
        """),
        code=2,
    )


def test_settings_of_a_stage_that_is_not_there(cli: CliProject) -> None:
    cli.write({"pyproject.toml": "[tool.pipeline.stages.chek]\nretry = 1\n"})

    assert cli("list").stderr == (
        "error: pyproject.toml: 1 problem\n"
        '  tool.pipeline.stages.chek: no such stage; did you mean "check"?\n'
    )


def test_settings_are_laid_over_a_stage(cli: CliProject) -> None:
    cli.write(
        {
            "pyproject.toml": "[tool.pipeline.stages.check]\nretry = 2\ntimeout = '5m'\nsoft_fail = true\n"
            "[tool.pipeline.stages.lint]\nenabled = false\n"
        }
    )

    stages = {one["name"]: one for one in json.loads(cli("list", "--json").stdout)}

    check = stages["check"]
    assert (check["attempts"], check["timeout_s"], check["soft_fail"]) == (3, 300.0, True)
    assert "lint   skip             disabled in the settings\n" in cli("plan").stdout


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param("def broken(:\n", "cannot load `ci/stages.py:1`: invalid syntax", id="syntax"),
        pytest.param(
            "import missing_thing\n",
            "cannot load `ci/stages.py:1`: ModuleNotFoundError: No module named 'missing_thing'",
            id="import",
        ),
        pytest.param(
            HEAD + "x = 1 / 0\n",
            "cannot load `ci/stages.py:4`: ZeroDivisionError: division by zero",
            id="line",
        ),
        pytest.param(
            HEAD + "@stage\ndef plain(ctx: Context) -> None:\n    pass\n",
            "cannot load `ci/stages.py:4`: cannot make a stage of `plain`: it is not an `async def` function",
            id="stage",
        ),
        pytest.param(
            "drop = ['unti']\n",
            "cannot load `ci/stages.py`: `drop` names `unti`, which is no default stage; "
            'did you mean "unit"?',
            id="drop",
        ),
        pytest.param(
            "drop = 3\n",
            'cannot load `ci/stages.py`: `drop` must be a list of names, as in drop = ["quality"]',
            id="drop of another type",
        ),
    ],
)
def test_a_broken_stages_file_is_told_by_line_without_a_traceback(
    cli: CliProject, source: str, said: str
) -> None:
    cli.write({"ci/stages.py": source})

    assert cli("list") == Answer(stdout="", stderr=f"error: {said}\n", code=2)


def test_own_stages_may_import_their_neighbours_and_leave_no_bytecode(cli: CliProject) -> None:
    cli.write(
        {
            "ci/stages.py": "from ci.more import extra\nimport own\ndrop = ['*']\n",
            "ci/more.py": HEAD + "@stage\nasync def extra(ctx: Context) -> None:\n    '''Extra.'''\n",
            "own.py": "",
        }
    )

    assert cli("list").stdout == "STAGE  NEEDS  WHAT IT DOES\nextra  -      Extra.\n"
    assert not list(cli.root.rglob("__pycache__"))


def test_two_own_stages_of_one_name_are_both_named(cli: CliProject) -> None:
    one = "@stage(name='a')\nasync def {0}(ctx: Context) -> None:\n    pass\n\n"
    cli.write({"ci/stages.py": HEAD + one.format("x") + one.format("y")})

    assert cli("list").stderr == (
        "error: cannot build the graph: two stages are named `a`: "
        "ROOT/ci/stages.py:4 and ROOT/ci/stages.py:8\n"
    )


def test_init_writes_what_then_works_and_never_overwrites(bare: CliProject) -> None:
    bare.write({"pyproject.toml": '[project]\nname = "shop"\nversion = "1"'})

    first = bare("init")
    settings = (bare.root / "pyproject.toml").read_text()
    second = bare("init")

    assert first == Answer(
        stdout="pyproject.toml: added [tool.pipeline]\nci/stages.py: made, with one stage to replace\n",
        stderr="",
        code=0,
    )
    assert second == Answer(
        stdout="",
        stderr="pyproject.toml: [tool.pipeline] is there already\nci/stages.py: it is there already\n",
        code=0,
    )
    assert settings.startswith('[project]\nname = "shop"\nversion = "1"\n\n[tool.pipeline]\n')
    assert (bare.root / "pyproject.toml").read_text() == settings
    assert bare("run", "-q", "--only", "count_lines").code == 0


def test_doctor_names_each_check_and_how_to_mend(cli: CliProject) -> None:
    answer = cli(
        "doctor", "--json", PIPELINE_CA_BUNDLE="/nowhere.pem", PIPELINE_STORE=str(cli.home / "store")
    )

    findings = {one["check"]: one for one in json.loads(answer.stdout)}
    assert findings["certificates"] == {
        "check": "certificates",
        "state": "bad",
        "what": "`/nowhere.pem` (PIPELINE_CA_BUNDLE (environment)) cannot be read: no such file or directory",
        "fix": "name a file that is there",
    }
    assert findings["project"]["what"] == "4 stages in `ROOT`"
    assert all(one["fix"] for one in findings.values() if one["state"] != "good")
    assert answer.code == 1


def test_engine_status_makes_no_store(cli: CliProject) -> None:
    store = str(cli.home / "store")

    answer = cli("engine", "status", "--json", PIPELINE_STORE=store)

    told = json.loads(answer.stdout)
    assert (told["kind"], told["address"], told["store"]) == ("embedded", None, store)
    assert (told["processes"], told["staying"], told["usage"]) == ([], [], None)
    assert not (cli.home / "store").exists()


def test_a_reader_that_leaves_early_is_no_error(cli: CliProject) -> None:
    """`pipeline list | head -1`."""
    done = subprocess.run(
        ["sh", "-c", f"{COMMAND} explain --config | head -1"],
        cwd=cli.root,
        env=cli.environment({}),
        capture_output=True,
        check=True,
    )

    assert (done.stdout[:7], done.stderr) == (b"SETTING", b"")


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        pytest.param({}, False, id="pipe"),
        pytest.param({"FORCE_COLOR": "1"}, True, id="forced"),
        pytest.param({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, id="NO_COLOR"),
    ],
)
def test_colour_only_where_it_is_wanted(cli: CliProject, environ: dict[str, str], coloured: bool) -> None:
    answer = cli.run("plan", environ=environ)

    assert ("\x1b[" in answer.stdout) is coloured

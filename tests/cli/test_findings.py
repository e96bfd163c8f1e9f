"""`findings` and `baseline`: a stage of the project's own scans, and people decide about what it found."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.harness import Answer, lines

if TYPE_CHECKING:
    from tests.cli.harness import CliProject

STAGES = '''\
"""A scanner that finds the word `danger`."""

from pipeline import Context, stage
from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.scanner import Missed, Scan, counted
from pipeline.stages.results import Findings
from pipeline.stages.scanning import conclude, read_files


@stage(inputs=["src/**"])
async def words(ctx: Context) -> Findings:
    """Look for dangerous words."""
    files = {path: data.decode() for path, data in read_files(ctx).items()}
    found = [
        Finding(
            id="", kind="sast", rule=Rule(id="W1"), title="a dangerous word", message="a dangerous word",
            severity=Severity(level="high", basis="words"), place=InFile(path=path, line=number),
            fix="use another word", witnesses=(Witness(tool="words", version="1", rule="W1"),),
        )
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if "danger" in line
    ]
    missed = [Missed(what=path, why="it is secret") for path in files if path.startswith("src/secret")]
    scan = Scan(
        scanner="words", state="incomplete" if missed else "complete", findings=tuple(found),
        coverage=counted("files", list(files), missed),
    )
    return conclude(ctx, [scan], kinds=frozenset({"sast"}), texts=files)
'''
CODE = "fine\ndanger = 1\n"


@pytest.fixture
def words(cli: CliProject) -> CliProject:
    """A project with one finding."""
    cli.write({"ci/stages.py": STAGES, "src/app.py": CODE})
    return cli


def finding_of(project: CliProject, run: str = "last") -> str:
    """The name of the only finding of a run."""
    [one] = json.loads(project("findings", "list", "--all", "--json", "--run", run).stdout)
    return str(one["finding"]["id"])


def test_a_blocking_finding_fails_the_stage_and_says_what_to_do(words: CliProject) -> None:
    """What, where, which rule, how to mend it, how to live with it."""
    ran = words("run", "--only", "words")

    name = finding_of(words)[:12]
    assert ran.code == 1
    told = ran.stdout.partition("\nfailed: ")[0]
    assert told == lines(
        f"""
        failed words
          1 finding blocks: src/app.py:2: a dangerous word [W1]
          | src/app.py:2: a dangerous word [W1]
          |   high (words) blocks: sast `fail_on = "high"`; seen by words W1
          |   mend: use another word
          |   waive: pipeline findings waive {name} --reason ... --owner ...
          reproduce: pipeline run --only words
          hint: `pipeline findings list` lists all; `pipeline baseline update --add` lets what is there stay
        """
    )


def test_the_findings_of_a_run_are_listed_and_explained(words: CliProject) -> None:
    """By the fingerprint or its beginning."""
    words("run", "--only", "words")
    name = finding_of(words)

    listed, explained = words("findings", "list"), words("findings", "explain", name[:8])

    assert listed.stdout == lines(
        f"""
        action  severity  finding       where         what
        block   high      {name[:12]}  src/app.py:2  a dangerous word [W1]
        """
    )
    assert explained.stdout == lines(
        f"""
        finding     {name}
        what        a dangerous word [W1]
        where       src/app.py:2
        severity    high (words)
        confidence  medium
        seen by     words 1 W1
        action      block: high (words) blocks: sast `fail_on = "high"`
        mend        use another word
        waive       pipeline findings waive {name[:12]} --reason ... --owner ...
        """
    )


def test_a_waived_finding_lets_the_stage_pass_until_its_day(words: CliProject) -> None:
    """The stage runs again because of the new entry; when the entry has ended it blocks again."""
    words("run", "--only", "words")
    name = finding_of(words)
    reason = 'the "danger" is of our own making'

    waived = words("findings", "waive", name[:12], "--reason", reason, "--owner", "team-a", "--days", "30")
    passed, cached = words("run", "--only", "words"), words("run", "--only", "words", "--json")
    entries = (words.root / "pipeline.waivers.toml").read_text()
    today = datetime.datetime.now(datetime.UTC).date()
    past = today - datetime.timedelta(40), today - datetime.timedelta(10)
    ended = entries.replace(f"created = {today}", f"created = {past[0]}")
    ended = ended.replace(f"expires = {today + datetime.timedelta(30)}", f"expires = {past[1]}")
    words.write({"pipeline.waivers.toml": ended})
    blocked = words("run", "--only", "words")

    until = today + datetime.timedelta(30)
    assert (
        waived.stdout == f"pipeline.waivers.toml: waived src/app.py:2: a dangerous word [W1] until {until}\n"
    )
    assert (passed.code, blocked.code) == (0, 1)
    assert "1 finding blocks" in blocked.stdout
    assert '"cached": true' in cached.stdout
    assert json.loads(words("findings", "list", "--action", "waived", "--json").stdout) == []


def test_a_baseline_lets_what_was_there_stay_and_nothing_new(words: CliProject) -> None:
    """Where the policy counts only what is new; entries that are gone leave the file."""
    words.write({"pyproject.toml": "[tool.pipeline.policy.rules]\nonly_new = true\n"})
    words("run", "--only", "words")

    added = words("baseline", "update", "--add", "--reason", "there before we began to look")
    passed = words("run", "--only", "words")
    words.write({"src/app.py": CODE + "danger = 2\n"})
    blocked = words("run", "--only", "words")
    diff = words("findings", "diff", "last", "last")
    words.write({"src/app.py": "fine\n"})
    words("run", "--only", "words")
    removed = words("baseline", "update")

    assert added.stdout == "pipeline.baseline.json: 1 added, 0 removed, 1 known\n"
    assert (passed.code, blocked.code) == (0, 1)
    assert "1 finding blocks: src/app.py:3: a dangerous word [W1]" in blocked.stdout
    assert diff.stdout == "0 new, 0 gone, 2 the same\n"
    assert removed.stdout == "pipeline.baseline.json: 0 added, 1 removed, 0 known\n"


def test_a_scan_that_missed_something_warns_and_blocks_in_an_environment(words: CliProject) -> None:
    """It is never a plain success."""
    words.write({"src/app.py": "fine\n", "src/secret.py": "?\n"})

    here, there = words("run", "--only", "words"), words("run", "--only", "words", "--env", "production")

    missed = "words is incomplete: src/secret.py: it is secret"
    assert here.code == 0
    assert f"warning: words: {missed}\n" in here.stdout
    assert "1 warning" in here.stderr
    assert there.code == 1
    assert f"error words\n  {missed}\n" in there.stdout


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        pytest.param(
            ("explain", "zzzz"), 2, "cannot find `zzzz` in run `RUN`: no finding has that name", id="none"
        ),
        pytest.param(("list", "--run", "x"), 2, "x", id="no-run"),
        pytest.param(("list", "--stage", "x"), 2, "cannot show findings of `x`", id="no-stage"),
        pytest.param(
            ("export", "--format", "sarif", "-o", "no/such/folder/x"),
            2,
            "cannot write `no/such/folder/x`: no such file or directory",
            id="no-folder",
        ),
        pytest.param(
            ("waive", "0", "--reason", "short", "--owner", "me"), 2, "cannot find `0`", id="waive-nothing"
        ),
    ],
)
def test_what_is_not_there_gets_one_sentence(
    words: CliProject, argv: tuple[str, ...], code: int, said: str
) -> None:
    words("run", "--only", "words")

    answer = words("findings", *argv)

    assert (answer.code, answer.stdout) == (code, "")
    assert answer.stderr.startswith("error: ")
    assert said in answer.stderr


def test_a_waiver_with_a_short_reason_is_not_written(words: CliProject) -> None:
    words("run", "--only", "words")

    answer = words("findings", "waive", finding_of(words), "--reason", "because", "--owner", "team-a")

    assert answer == Answer(
        stdout="",
        stderr=lines(
            """
            error: pipeline.waivers.toml: 1 problem
              waiver 1: reason: expected at least 20 characters that say why
            """
        ),
        code=2,
    )
    assert not (words.root / "pipeline.waivers.toml").exists()


def test_a_broken_file_of_waivers_stops_the_stage(words: CliProject) -> None:
    """Nothing is waived, and nothing passes, by a file that cannot be read."""
    words.write({"pipeline.waivers.toml": "[[waiver]]\nowner = 3\n"})

    ran = words("run", "--only", "words")

    assert ran.code == 1
    assert "waiver 1: owner: expected a text, got 3" in ran.stdout


def test_findings_are_written_for_other_programs(words: CliProject) -> None:
    """Each format is JSON of its own shape."""
    words("run", "--only", "words")
    name = finding_of(words)

    def export(form: str) -> Any:
        return json.loads(words("findings", "export", "--format", form).stdout)

    log, gitlab, vex = export("sarif"), export("gitlab-sast"), export("vex")

    [run] = log["runs"]
    assert run["automationDetails"] == {"id": "pipeline/words/words/"}
    assert [one["partialFingerprints"] for one in run["results"]] == [{"pipeline/v1": name}]
    assert [one["id"] for one in gitlab["vulnerabilities"]] == [name]
    assert vex["vulnerabilities"] == []

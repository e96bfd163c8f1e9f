"""The rule pack: each rule finds its failing examples and leaves its passing ones alone, by the real tool.

Examples lie in `rules/`, with `.txt` behind their names so that no other tool takes them for code. A line
`# ruleid: NAME` stands before what the rule NAME has to report, `# ok: NAME` before what looks alike.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.sast.semgrep import CANARY, Semgrep, own_pack, rule_name, severity_of
from pipeline.scan.scanner import Target
from tests.unit.scan.sast.real import run_here

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parent / "rules"
MARK = re.compile(r"(ruleid|ok): ([a-z0-9, -]+?)(?: -->)?$", re.MULTILINE)
LEAST_RULES = 65
WORDS = {"HIGH", "MEDIUM", "LOW"}


def marks(kind: str) -> Iterator[tuple[str, int, str]]:
    """Example file, line and rule of every mark of a kind; it is about the next line that is no mark."""
    for path in sorted(EXAMPLES.glob("*.txt")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            found = MARK.search(line)
            if found and found[1] == kind:
                after = next(n for n in range(number, len(lines)) if not MARK.search(lines[n])) + 1
                yield from ((path.stem, after, rule) for rule in found[2].split(", "))


@pytest.fixture(scope="module")
def reported(semgrep: Path, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, int, str]]:
    """What one run over all examples reports: example file, line, rule."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "src").mkdir()
    for path in EXAMPLES.glob("*.txt"):
        (folder / "src" / path.stem).write_text(path.read_text())
    command, _ = Semgrep().commands(Target(root="/src", files={}))
    report = json.loads(run_here(command, folder, semgrep).stdout)
    assert report["errors"] == []
    return {
        (Path(row["path"]).name, row["start"]["line"], rule_name(row["check_id"]))
        for row in report["results"]
        if row["path"] != CANARY
    }


def test_every_rule_reports_its_failing_examples_and_nothing_else(
    reported: set[tuple[str, int, str]],
) -> None:
    """Not one line more, in any example, by any rule."""
    expected = set(marks("ruleid"))

    assert reported == expected


def test_every_rule_has_a_failing_and_a_passing_example() -> None:
    names = {str(rule["id"]) for rule in own_pack()}

    assert {rule for _, _, rule in marks("ruleid")} == names
    assert {rule for _, _, rule in marks("ok")} == names


def test_there_are_enough_rules_and_no_two_of_one_name() -> None:
    names = [str(rule["id"]) for rule in own_pack()]

    assert len(names) == len(set(names)) >= LEAST_RULES


def test_every_rule_says_what_why_how_bad_and_how_to_fix() -> None:
    """What is wrong is the first sentence, why it matters the rest; the first is the title of a finding."""
    for rule in own_pack():
        meta, name = rule["metadata"], rule["id"]
        what, _, why = rule["message"].partition(". ")
        assert what, name
        assert why, name
        assert rule["severity"] in {"ERROR", "WARNING", "INFO"}, name
        assert all(re.fullmatch(r"CWE-\d+", one) for one in meta["cwe"]), name
        assert all(re.fullmatch(r"A\d\d:2021", one) for one in meta["owasp"]), name
        assert {meta["confidence"], meta["likelihood"], meta["impact"]} <= WORDS, name
        assert meta["category"] in {"security", "performance", "correctness"}, name
        assert meta["fix"], name
        assert not meta["fix"].endswith("."), name


def test_the_reference_lists_every_rule_with_its_severity() -> None:
    """And none that is not there."""
    table = (Path(__file__).parents[4] / "docs" / "reference" / "sast.md").read_text()

    listed = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| (\w+) \|", table, re.MULTILINE)

    assert listed
    assert dict(listed) == {
        str(rule["id"]): severity_of(rule["severity"], rule["metadata"]).level for rule in own_pack()
    }

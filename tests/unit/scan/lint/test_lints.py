"""What linters say, and what counts as checked: real answers of each, and answers none should give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline.scan.lint import hadolint, manifests, shellcheck, vulture
from pipeline.scan.lint.hadolint import Hadolint
from pipeline.scan.lint.manifests import Manifests
from pipeline.scan.lint.shape import Shape
from pipeline.scan.lint.shellcheck import ShellCheck
from pipeline.scan.lint.vulture import Vulture
from pipeline.scan.lint.zizmor import Zizmor
from pipeline.scan.sast import ruff
from pipeline.scan.scanner import Missed, Ran, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import CommandScanner, Scan


def ran(value: object) -> Ran:
    """A tool that ended well and said this, as JSON unless it is text."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Ran(exit_code=0, stdout=text.encode())


def read(scanner: CommandScanner, files: dict[str, bytes], answers: Sequence[Ran]) -> Scan:
    """The scan of these files."""
    return scanner.read(Target(root="/src", files=files, version="1.0"), answers)


def hadolint_row(file: str, code: str = "DL3008", level: str = "warning") -> dict[str, Any]:
    return {"code": code, "column": 1, "file": file, "level": level, "line": 2, "message": "Pin versions"}


def test_hadolints_rows_are_findings_and_a_broken_dockerfile_is_missed() -> None:
    files = {"Dockerfile": b"", "web/app.Dockerfile": b""}
    rows = [
        hadolint_row(hadolint.CANARY),
        hadolint_row("/src/Dockerfile"),
        hadolint_row("/src/web/app.Dockerfile", "DL1000", "error"),
    ]

    scan = read(Hadolint(), files, [ran(rows)])

    assert (scan.state, scan.reason) == ("incomplete", "1 file was not checked")
    assert scan.coverage.missed == (Missed(what="web/app.Dockerfile", why="it does not parse: Pin versions"),)
    [one] = scan.findings
    assert (one.rule.id, one.where, one.severity.level) == ("DL3008", "Dockerfile:2", "low")
    assert one.rule.url == "https://github.com/hadolint/hadolint/wiki/DL3008"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Dockerfile", True),
        ("a/Dockerfile.dev", True),
        ("a/app.dockerfile", True),
        ("Containerfile", True),
        ("Dockerfile.d/readme.md", False),
        ("dockerfiles.py", False),
    ],
)
def test_dockerfiles_are_known_by_their_names(name: str, wanted: bool) -> None:
    assert (Hadolint().wants([name]) == [name]) is wanted


def shell_row(file: str, code: int = 2086, level: str = "info") -> dict[str, Any]:
    span = {"line": 2, "endLine": 2, "column": 6, "endColumn": 8}
    return {"file": file, **span, "level": level, "code": code, "message": "Double quote"}


def test_shellchecks_comments_are_findings_and_a_broken_script_is_missed() -> None:
    """What it says of a script that does not parse is only why it does not."""
    files = {"good.sh": b"", "bad.sh": b"", "tool": b"#!/usr/bin/env bash\n", "binary": b"\x7fELF"}
    comments = [
        shell_row(shellcheck.CANARY),
        shell_row("/src/good.sh"),
        shell_row("/src/bad.sh", 1073, "error"),
        shell_row("/src/bad.sh", 1009),
    ]

    scan = read(ShellCheck(), files, [ran({"comments": comments})])

    assert scan.coverage.missed == (Missed(what="bad.sh", why="it does not parse: Double quote"),)
    assert scan.coverage.expected == 3
    assert [(one.rule.id, one.where, one.severity.level) for one in scan.findings] == [
        ("SC2086", "good.sh:2", "info")
    ]


def zizmor_row(ident: str = "template-injection", severity: str = "High", **more: Any) -> dict[str, Any]:
    location = {"start_point": {"row": 6, "column": 14}, "end_point": {"row": 6, "column": 40}}
    place = {
        "symbolic": {"kind": "Primary", "annotation": "may expand into code"},
        "concrete": {"location": location},
    }
    given = {
        "ident": ident,
        "desc": "code injection",
        "url": "https://docs.example/" + ident,
        "determinations": {"severity": severity, "confidence": "High"},
        "locations": [place],
        "ignored": False,
        "fixes": [{"title": "use an environment variable"}],
    }
    return given | more


@pytest.mark.parametrize(
    ("ident", "feature", "level"),
    [
        ("unpinned-uses", "actions/checkout@v4", "medium"),
        ("unpinned-uses", '"github/codeql-action/init@v3"', "medium"),
        ("unpinned-uses", "somebody/actions/checkout@v4", "high"),
        ("unpinned-uses", "actions-of/somebody@v4", "high"),
        ("known-vulnerable-actions", "actions/checkout@v4", "high"),
    ],
)
def test_an_action_of_githubs_own_by_its_tag_only_warns(ident: str, feature: str, level: str) -> None:
    """Whoever can move such a tag runs the workflow anyway; what else is found in them counts as it is."""
    row = zizmor_row(ident)
    row["locations"][0]["concrete"]["feature"] = feature

    scan = read(Zizmor(), {".github/workflows/a.yml": b""}, [ran([row]), ran([zizmor_row()])])

    assert [one.severity.level for one in scan.findings] == [level]


def test_a_fix_is_named_where_zizmor_names_none() -> None:
    row = zizmor_row("unpinned-uses", fixes=[])

    scan = read(Zizmor(), {".github/workflows/a.yml": b""}, [ran([row]), ran([zizmor_row()])])

    assert [one.fix for one in scan.findings] == ["name the commit: `uses: owner/action@COMMIT # v1.2.3`"]


def test_zizmor_is_read_file_by_file_and_one_it_cannot_audit_is_missed() -> None:
    """Its rows count from 0."""
    files = {".github/workflows/a.yml": b"", ".github/workflows/b.yml": b""}
    fatal = Ran(exit_code=3, stdout=b"", stderr=b"fatal: no audit was performed\n")
    rows = [zizmor_row(), zizmor_row(ignored=True), zizmor_row("x", "Informational")]

    scan = read(Zizmor(), files, [ran(rows), fatal, ran([zizmor_row()])])

    why = "zizmor could not audit it: exit code 3, fatal: no audit was performed"
    assert scan.coverage.missed == (Missed(what=".github/workflows/b.yml", why=why),)
    assert [(one.rule.id, one.where, one.severity.level) for one in scan.findings] == [
        ("template-injection", ".github/workflows/a.yml:7", "high"),
        ("x", ".github/workflows/a.yml:7", "info"),
    ]
    assert scan.findings[0].message == "code injection: may expand into code"
    assert scan.findings[0].fix == "use an environment variable"


def schema_report(*rows: dict[str, Any], broken: Sequence[str] = ()) -> dict[str, Any]:
    errors = [{"filename": name, "message": "Failed to parse\nmore"} for name in broken]
    return {"status": "fail" if rows or broken else "ok", "errors": list(rows), "parse_errors": errors}


def test_manifests_are_held_against_the_schema_their_path_names() -> None:
    """The deepest match says what is wrong; one that does not parse is missed."""
    files = {"compose.yaml": b"", ".github/workflows/a.yml": b"", ".github/workflows/b.yml": b""}
    deep = {"path": "$.jobs.a.steps[0]", "message": "Additional properties are not allowed"}
    row = {
        "filename": "/src/.github/workflows/a.yml",
        "path": "$.jobs.a",
        "message": "not valid under any",
        "best_deep_match": deep,
    }
    canary = schema_report({"filename": manifests.CANARY, "path": "$", "message": "x"})

    scan = read(
        Manifests(),
        files,
        [ran(schema_report(row, broken=["/src/.github/workflows/b.yml"])), ran(schema_report()), ran(canary)],
    )

    assert scan.coverage.missed == (
        Missed(what=".github/workflows/b.yml", why="it does not parse: Failed to parse"),
    )
    [one] = scan.findings
    assert (one.rule.id, one.where) == ("schema-github-workflows", ".github/workflows/a.yml")
    assert one.message == "$.jobs.a.steps[0]: Additional properties are not allowed"


def vulture_row(file: str, *found: tuple[int, str, int], problem: str = "", uses: str = "") -> dict[str, Any]:
    return {"file": file, "problem": problem, "found": found, "uses": uses.split()}


def test_dead_code_is_advice() -> None:
    """What one file defines and another uses is not dead."""
    rows = [
        vulture_row(vulture.CANARY, (3, "unreachable code after 'return'", 100)),
        vulture_row("/src/a.py", (1, "unused import 'os'", 90), (2, "unused import 'sys'", 90)),
        vulture_row("/src/b.py", uses="a sys"),
        vulture_row("/src/broken.py", problem="/src/broken.py:1: invalid syntax at 'def (:'"),
    ]
    files = {"a.py": b"", "b.py": b"", "broken.py": b"", "gone.py": b""}

    told = read(Vulture(), files, [ran(rows)])
    scan = Vulture().settle(told)

    [one] = scan.findings
    assert (one.rule.id, one.title, one.severity.level) == (
        "dead-code-unused-import",
        "unused import 'os'",
        "info",
    )
    assert scan.coverage.missed == (
        Missed(what="broken.py", why="it does not parse: 1: invalid syntax at 'def (:'"),
        Missed(what="gone.py", why="vulture did not look at it"),
    )
    assert (len(told.findings), scan.names) == (2, {})


@pytest.mark.parametrize(("paths", "level"), [(16, "info"), (29, "info"), (30, "medium")])
def test_complex_functions_are_advice_and_very_complex_ones_warn(paths: int, level: str) -> None:
    def row(file: str) -> dict[str, Any]:
        message = f"`f` is too complex ({paths} > 15)"
        return {"code": "C901", "filename": file, "message": message, "location": {"row": 1, "column": 1}}

    answers = [ran([row(ruff.CANARY), row("/src/a.py")]), ran(f"/src/a.py\n{ruff.CANARY}\n")]

    scan = read(Shape(), {"a.py": b""}, answers)

    assert (scan.scanner, scan.state) == ("complexity", "complete")
    assert [(one.kind, one.severity.level) for one in scan.findings] == [("quality", level)]


LINTS: Final[list[tuple[CommandScanner, dict[str, bytes], object]]] = [
    (Hadolint(), {"Dockerfile": b""}, []),
    (ShellCheck(), {"a.sh": b""}, {"comments": []}),
    (Zizmor(), {".github/workflows/a.yml": b""}, []),
    (Manifests(), {"compose.yml": b""}, {"status": "ok", "errors": [], "parse_errors": []}),
    (Vulture(), {"a.py": b""}, ""),
    (Shape(), {"a.py": b""}, []),
]


@pytest.mark.parametrize(("scanner", "files", "silence"), LINTS, ids=[type(one[0]).__name__ for one in LINTS])
def test_silence_and_garbage_are_errors(
    scanner: CommandScanner, files: dict[str, bytes], silence: object
) -> None:
    """A tool that finds nothing, not even its canary, and one that says what it never should."""
    count = len(scanner.commands(Target(root="/src", files=files)))

    for answer in (ran(silence), ran("\x00{"), ran({"a": 1}), Ran(exit_code=2, stdout=b"", stderr=b"boom")):
        scan = read(scanner, files, [answer] * count)

        assert (scan.state, scan.findings) == ("error", ())
        assert scan.reason

"""What is told of a secret: where, how bad, under which name, and never the secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.graph.context import CheckFailed
from pipeline.scan.secrets.gitleaks import (
    GitleaksBroken,
    find_gitleaks,
    merge_hits,
    read_report,
    scan_with_gitleaks,
)
from pipeline.scan.secrets.report import findings_of, key_of, redacted, severity_of
from pipeline.scan.secrets.rule import Hit
from pipeline.scan.secrets.tree import scan_tree
from pipeline.stages.results import Images, Source
from pipeline.stages.secret_scan import secret_scan
from pipeline.testing import fake_context, kept, logs
from tests.unit.scan.secrets.places import AWS, CHOSEN, GITHUB, PLANTED, URL_PASSWORD, Repository

if TYPE_CHECKING:
    from pipeline.scan.finding import Finding

FILES = {
    "deploy.env": f"TOKEN={GITHUB}\nDB_PASSWORD={CHOSEN}\nDATABASE_URL=postgres://app:{URL_PASSWORD}@db/x\n",
    "tests/test_a.py": f'password = "{CHOSEN[:8]}"\n'
    f'url = "redis://:{URL_PASSWORD}Q8!@cache"\nkey = "{AWS}"\n',
}
BODY = "\n".join(
    ("MIIEKq7xW2vT9pLmZ4cRb8NhYj3Fd6GsAoUe1iV5tQwXz0nHgBk2rSyMlPfCaDjJ")[step:] for step in range(4)
)
BODY_AGAIN = BODY.replace("\n", "\\n")
KIND = "RSA PRIVATE " + "KEY"
PEM = f"-----BEGIN {KIND}-----\n{BODY}\n-----END {KIND}-----\n"
SOURCE = Source(commit="", dirty=False, digest="", files=0)


def filled(text: str, values: dict[str, str]) -> str:
    """The recorded text with values where their names stand."""
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text.replace("<kind>", KIND)


def findings(root: Path, names: list[str]) -> list[Finding]:
    found, _, _ = scan_tree(root, names)
    return findings_of(found, key_of(root))["secrets"]


def test_the_key_that_a_package_of_debian_makes_for_localhost_blocks_nothing() -> None:
    """Each build of an image makes another one, so that no waiver could hold."""
    hit = Hit(rule="private-key", title="private key", strength="structure", value="x" * 64, start=0, end=64)

    levels = [severity_of(hit, f"etc/ssl/private/{name}.key").level for name in ("ssl-cert-snakeoil", "web")]

    assert levels == ["low", "high"]


def test_severity_and_confidence_follow_the_rule_and_the_place(tmp_path: Path) -> None:
    """A live form is critical everywhere; a name with a random value is medium and unsure."""
    Repository(tmp_path).commit("first", FILES)

    found = findings(tmp_path, list(FILES))

    told = {(one.where, one.rule.id, one.severity.level, one.confidence, one.severity.basis) for one in found}
    live = "secrets: provider pattern, live prefix"
    assert told == {
        ("deploy.env:1", "github-token", "critical", "high", live),
        ("deploy.env:2", "generic-password", "medium", "low", "secrets: name and random value"),
        ("deploy.env:3", "url-password", "high", "medium", "secrets: place made for one"),
        (
            "tests/test_a.py:2",
            "url-password",
            "medium",
            "medium",
            "secrets: place made for one, in a test or example",
        ),
        ("tests/test_a.py:3", "aws-access-key-id", "critical", "high", live),
    }
    assert all(one.fix.startswith("revoke it") for one in found)


def test_a_secret_keeps_its_name_when_lines_and_files_move_and_in_every_clone(tmp_path: Path) -> None:
    """The name is made of value, rule and the repository's first commit."""
    first = Repository(tmp_path / "a")
    first.commit("first", {"a.env": f"TOKEN={GITHUB}\n"})
    before = findings(first.root, ["a.env"])
    first.git("clone", "-q", str(first.root), str(tmp_path / "b"))
    second = Repository(tmp_path / "b")
    second.commit("moved", {"a.env": None, "x/b.py": f'\n\n\ngithub = "{GITHUB}"\n'})

    after = findings(second.root, ["x/b.py"])

    assert [one.id for one in after] == [one.id for one in before]


def test_in_another_repository_the_same_secret_has_another_name(tmp_path: Path) -> None:
    """Nobody can look a name up that was seen elsewhere, or try values on it without the repository."""
    for name in ("a", "b"):
        Repository(tmp_path / name).commit(f"first of {name}", {"a.env": f"TOKEN={GITHUB}\n"})

    one, other = (findings(tmp_path / name, ["a.env"])[0].id for name in ("a", "b"))

    assert one != other


@pytest.mark.parametrize(
    ("value", "shown"),
    [("hunter2!", "…"), (CHOSEN, "…"), (GITHUB, "ghp_…"), ("ключключключключ", "…"), ("", "…")],
    ids=["short", "password", "token", "not-ascii", "empty"],
)
def test_a_secret_is_shown_by_four_characters_at_most_and_a_short_one_not_at_all(
    value: str, shown: str
) -> None:
    """Four of sixteen characters and more."""
    assert redacted(value) == shown


@pytest.mark.anyio
async def test_no_report_and_no_log_holds_a_secret(tmp_path: Path) -> None:
    """Neither values nor the lines they stand in are in what the stage keeps, logs or raises."""
    repository = Repository(tmp_path / "project")
    repository.commit("first", FILES)
    commit = repository.commit(f"use {GITHUB}", {"gone.env": f"AWS={AWS}\n"})
    log = repository.root / ".pipeline/runs/test-run/stages/unit/log.txt"
    log.parent.mkdir(parents=True)
    log.write_text(f"connecting to postgres://app:{URL_PASSWORD}@db/x\n")
    names = [*FILES, "gone.env"]
    ctx = fake_context(tmp_path, stage="secret_scan", root=repository.root, commit=commit, files=names)

    with pytest.raises(CheckFailed) as caught:
        await secret_scan(ctx, checkout=SOURCE, container_build=Images(images=()))

    kept_files = kept(ctx)
    assert sorted(kept_files) == ["findings.json", "findings.sarif"]
    told = b"".join([*kept_files.values(), *(line.encode() for line in logs(ctx))]).decode()
    told += str(caught.value) + repr(caught.value.failure)
    assert "github-token" in told
    for value in PLANTED:
        assert value not in told
        assert value[5:] not in told
    assert "DB_PASSWORD=" not in told


@pytest.mark.anyio
async def test_a_clean_project_passes_and_says_what_was_looked_at(tmp_path: Path) -> None:
    """Files and commits are counted; commits are remembered for the next run."""
    repository = Repository(tmp_path / "project")
    commit = repository.commit("first", {"a.py": "PASSWORD = os.environ['PASSWORD']\n"})
    ctx = fake_context(tmp_path, stage="secret_scan", root=repository.root, commit=commit, files=["a.py"])

    result = await secret_scan(ctx, checkout=SOURCE)

    seen = [
        (one.name, one.state, one.seen, one.expected) for one in result.scanners if one.name != "gitleaks"
    ]
    assert result.result == "pass"
    assert seen == [("secrets", "complete", 1, 1), ("secrets-commits", "complete", 1, 1)]
    assert commit.encode() in (ctx.recall("clean.txt") or b"")


def report(root: Path) -> bytes:
    rows = [
        {
            "RuleID": "github-pat",
            "Description": "A token. Long text.",
            "Secret": GITHUB,
            "Match": "x",
            "File": "a.env",
            "StartLine": 1,
        },
        {
            "RuleID": "new-vendor",
            "Secret": "zz-" + CHOSEN,
            "File": str(root / "a.env"),
            "StartLine": 2,
            "StartColumn": 3,
        },
        {"RuleID": "github-pat", "Secret": GITHUB, "File": "untracked.env", "StartLine": 1},
    ]
    return json.dumps(rows).encode()


def test_gitleaks_confirms_what_we_found_and_adds_what_only_it_sees(tmp_path: Path) -> None:
    """One finding with two witnesses, one with one; files that are not tracked are left out."""
    (tmp_path / "a.env").write_text(f"TOKEN={GITHUB}\nother\n")
    own, _, _ = scan_tree(tmp_path, ["a.env"])

    merged = merge_hits(own, read_report(report(tmp_path), str(tmp_path), {"a.env"}))

    told = [
        (scanner, one.rule.id, one.where, [witness.tool for witness in one.witnesses])
        for scanner, found in findings_of(merged, b"key").items()
        for one in found
    ]
    assert told == [
        ("secrets", "github-token", "a.env:1", ["secrets", "gitleaks"]),
        ("gitleaks", "new-vendor", "a.env:2", ["gitleaks"]),
    ]


def test_what_the_real_gitleaks_said_of_eleven_secrets_is_told_once_each(tmp_path: Path) -> None:
    """Recorded from 8.30.1: it tells blocks whole, base64 decoded as well, and lines above a secret."""
    values = {"github": GITHUB, "password": CHOSEN.rstrip("!"), "body": BODY, "body_again": BODY_AGAIN}
    encoded = {"pem64": PEM, "github64": GITHUB, "pair64": f"DB_PASSWORD={values['password']}"}
    values |= {name: base64.b64encode(text.encode()).decode() for name, text in encoded.items()}
    recorded = json.loads((Path(__file__).parent / "gitleaks.json").read_text(encoding="utf-8"))
    for name, text in recorded["files"].items():
        (tmp_path / name).write_text(filled(text, values), encoding="utf-8")
    own, _, _ = scan_tree(tmp_path, list(recorded["files"]))
    said = filled(
        json.dumps(recorded["report"]), {name: json.dumps(one)[1:-1] for name, one in values.items()}
    )

    merged = merge_hits(own, read_report(said.encode(), str(tmp_path), set(recorded["files"])))

    told = [(one.path, one.hit.line, [witness.rule for witness in one.also_by]) for one in merged]
    assert told == [(path, line, rules) for path, line, rules in recorded["merged"]]


@pytest.mark.skipif(find_gitleaks() is None, reason="gitleaks is not installed here")
def test_an_installed_gitleaks_finds_what_is_planted_and_heeds_no_setting_of_the_project(
    tmp_path: Path,
) -> None:
    """A list of allowed paths, an ignore file and a remark beside the secret switch nothing off."""
    (tmp_path / "a.env").write_text(f"TOKEN={GITHUB} # gitleaks:allow\n")
    (tmp_path / ".gitleaks.toml").write_text('[allowlist]\npaths = [".*"]\n')
    (tmp_path / ".gitleaksignore").write_text("a.env:github-pat:1\n")

    scan, found = scan_with_gitleaks(find_gitleaks() or "", tmp_path, {"a.env"})

    assert scan.state == "complete"
    assert [(one.path, one.hit.line, one.hit.rule) for one in found] == [("a.env", 1, "github-pat")]


@pytest.mark.parametrize(
    "said",
    [b"", b"{}", b"[1]", b"[{}]", b"panic: oh no"],
    ids=["none", "table", "number", "empty-row", "text"],
)
def test_a_report_that_is_none_is_an_error(said: bytes) -> None:
    """Nothing that gitleaks prints passes for a clean report."""
    with pytest.raises(GitleaksBroken):
        read_report(said, "/x", {"a"})


def test_a_gitleaks_that_finds_nothing_any_more_is_an_error(tmp_path: Path) -> None:
    """It has to find what is planted for it."""
    program = tmp_path / "gitleaks"
    program.write_text('#!/bin/sh\nwhile [ "$1" != --report-path ]; do shift; done\necho "[]" > "$2"\n')
    program.chmod(0o755)

    scan, found = scan_with_gitleaks(str(program), tmp_path, {"a.env"})

    assert (scan.state, found) == ("error", [])
    assert scan.reason == "gitleaks did not find what was planted for it"

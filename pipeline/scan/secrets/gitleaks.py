"""Gitleaks, where it is installed: what it finds besides, never kept with the secret in it.

It is told its own default rules, for the project's `.gitleaks.toml` and ignore file could switch them off.
Its exit code says nothing: it is the same for findings and for a missing path. Its columns are those of the
name before a secret, and one too many from the second line on: they are not taken.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.scanner import Coverage, Missed, Scan, broken
from pipeline.scan.secrets.report import GITLEAKS, TREE, Located, witness_of
from pipeline.scan.secrets.rule import Hit
from pipeline.scan.secrets.tree import canary

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

LIMIT_S: Final = 300.0
CONFIG: Final = "[extend]\nuseDefault = true\n"
LINES_ABOVE: Final = 40  # of a secret within which gitleaks may have begun to match
_NOISE: Final = re.compile(r"\\[nrt]|[\s\"'+,\\|#*>]")  # line ends, and what a block is quoted by
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}")
CANARY: Final = "canary.env"
CANARY_RULE: Final = "aws-access-token"


class GitleaksBroken(Exception):
    """Gitleaks did not say what it always says."""


def find_gitleaks() -> str | None:
    """Where gitleaks is installed, None where it is not."""
    return shutil.which(GITLEAKS)


def run_gitleaks(program: str, root: Path) -> bytes:
    """Return its report as JSON, with an empty home and nothing of the project's settings.

    Raises:
        GitleaksBroken: It could not be run, or not in time.
    """
    with tempfile.TemporaryDirectory() as home:
        config, ignore, report = (Path(home) / name for name in ("config.toml", "ignore", "report.json"))
        config.write_text(CONFIG, encoding="utf-8")
        ignore.write_text("", encoding="utf-8")
        argv = [program, "dir", str(root), "--no-banner", "--exit-code", "0", "--log-level", "error"]
        argv += ["--ignore-gitleaks-allow"]  # a remark beside a secret would be a waiver without a reason
        argv += ["--config", str(config), "--gitleaks-ignore-path", str(ignore)]
        argv += ["--report-format", "json", "--report-path", str(report)]
        env = {"HOME": home, "PATH": os.environ.get("PATH", os.defpath)}
        try:
            subprocess.run(argv, cwd=home, env=env, capture_output=True, timeout=LIMIT_S, check=True)
            return report.read_bytes()
        except subprocess.CalledProcessError as error:
            raise GitleaksBroken(f"it ended with exit code {error.returncode}") from error
        except (subprocess.SubprocessError, OSError) as error:
            raise GitleaksBroken(str(error)) from error


def read_report(report: bytes, root: str, names: Collection[str]) -> list[Located]:
    """What a report says of these files, in order; gitleaks has another one each time.

    Raises:
        GitleaksBroken: It is no report.
    """
    try:
        rows = json.loads(report or b"null")
        if not isinstance(rows, list):
            raise TypeError("its report is no list")
        found = [one for row in rows if (one := _located(row, root)).path in names or one.path == CANARY]
        return sorted(found, key=lambda one: (one.path, one.hit.line, one.hit.rule, one.hit.value))
    except (ValueError, TypeError, KeyError) as error:
        # Not what the parser says: it may quote the report, which holds secrets.
        raise GitleaksBroken(f"its report cannot be read: {type(error).__name__}") from error


def _located(row: dict[str, Any], root: str) -> Located:
    hit = Hit(
        rule=str(row["RuleID"]),
        title=str(row.get("Description") or row["RuleID"]).partition(".")[0],
        strength="generic" if str(row["RuleID"]).startswith("generic") else "provider",
        value=str(row["Secret"]),
        start=0,
        end=0,
        line=int(row["StartLine"]),
    )
    path = os.path.relpath(str(row["File"]), root) if os.path.isabs(str(row["File"])) else str(row["File"])
    return Located(hit=hit, path=path, scanner=GITLEAKS)


def scan_with_gitleaks(program: str, root: Path, names: Collection[str]) -> tuple[Scan, list[Located]]:
    """Run it over the files and over the canary; without that canary's finding its silence means nothing."""
    coverage = Coverage(unit="files", expected=len(names), seen=len(names))
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CANARY).write_text(canary(), encoding="utf-8")
            planted = read_report(run_gitleaks(program, Path(folder)), folder, {CANARY})
        found = read_report(run_gitleaks(program, root), str(root), names)
    except GitleaksBroken as error:
        none = Coverage(
            unit="files", expected=len(names), seen=0, missed=(Missed(what="all", why=str(error)),)
        )
        return broken(GITLEAKS, none, f"gitleaks broke: {error}"), []
    if CANARY_RULE not in {one.hit.rule for one in planted}:
        none = Coverage(unit="files", expected=len(names), seen=0)
        return broken(GITLEAKS, none, "gitleaks did not find what was planted for it"), []
    return Scan(scanner=GITLEAKS, state="complete", coverage=coverage), found


def merge_hits(own: Sequence[Located], others: Sequence[Located]) -> list[Located]:
    """Ours, with gitleaks as a witness where it saw the same value in that place, and what only it saw."""
    left: dict[str, list[Located]] = {}
    for one in others:
        left.setdefault(one.path, []).append(one)
    merged = []
    for one in own:
        same = [other for other in left.get(one.path, ()) if _is_same(one, other)]
        merged.append(replace(one, also_by=tuple({witness_of(other): None for other in same})))
        if same:
            left[one.path] = [other for other in left[one.path] if other not in same]
    return merged + [one for alone in left.values() for one in alone]


def _is_same(one: Located, other: Located) -> bool:
    """Whether two hits are one secret: tools disagree about where it begins and ends, and how it is encoded.

    Gitleaks tells the line on which its expression begins to match: that of `kind: Secret` for its data.
    """
    if one.scanner != TREE or not 0 <= one.hit.line - other.hit.line <= LINES_ABOVE:
        return False
    ours, theirs = _forms(one.hit.value), _forms(other.hit.value)
    return any(left in right or right in left for left in ours for right in theirs)


def _forms(value: str) -> set[str]:
    """A value without its line ends, and what its parts hold in base64."""
    plain = (_decoded(part.group()) for part in _BASE64.finditer(value))
    return {_NOISE.sub("", text) for text in (value, *plain) if text}


def _decoded(part: str) -> str:
    try:
        return base64.b64decode(part, validate=True).decode("ascii")
    except ValueError:
        return ""

"""What lies in a run folder beside the events: files, logs, test results and findings, for the views."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.junit import JUnitUnreadable, TestResults, add_results, parse_junit
from pipeline.report.findings import FindingsUnreadable, StageFindings, parse_findings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.report.record import RunRecord

FINDINGS: Final = "findings.json"


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """A file a stage kept: its name, and its path from the run folder."""

    name: str
    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run folder holds, by stage; `problems` are files that could not be read."""

    files: Mapping[str, tuple[KeptFile, ...]] = field(default_factory=dict)
    tests: Mapping[str, TestResults] = field(default_factory=dict)
    findings: Mapping[str, StageFindings] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)  # path from the run folder
    problems: tuple[str, ...] = ()


def find_evidence(folder: Path, record: RunRecord) -> Evidence:
    """Look for what each stage of `record` left in `folder`; a damaged file is a problem, not an error."""
    files: dict[str, tuple[KeptFile, ...]] = {}
    tests: dict[str, TestResults] = {}
    findings: dict[str, StageFindings] = {}
    logs: dict[str, str] = {}
    problems: list[str] = []
    for stage in record.stages.values():
        base = folder / "stages" / stage.name
        kept = [_kept(folder, base / "files" / name, name) for name in stage.kept]
        files[stage.name] = tuple(one for one in kept if one is not None)
        if (base / "log.txt").is_file():
            logs[stage.name] = f"stages/{stage.name}/log.txt"
        results = []
        for one in files[stage.name]:
            if not one.name.endswith("junit.xml"):
                continue
            try:
                results.append(parse_junit((folder / one.path).read_bytes(), one.path))
            except JUnitUnreadable as error:
                problems.append(str(error))
        if results:
            tests[stage.name] = add_results(results)
        found = _kept(folder, base / "files" / FINDINGS, FINDINGS)
        if found is not None:  # also of a stage that skipped itself, which has no list of kept files
            try:
                findings[stage.name] = parse_findings((folder / found.path).read_bytes(), found.path)
            except FindingsUnreadable as error:
                problems.append(str(error))
    return Evidence(files=files, tests=tests, findings=findings, logs=logs, problems=tuple(problems))


def _kept(folder: Path, path: Path, name: str) -> KeptFile | None:
    """The file, or None when it is gone since."""
    if not path.is_file():
        return None
    return KeptFile(name=name, path=str(path.relative_to(folder)), size_bytes=path.stat().st_size)

"""What every scan stage does in the end: merge, judge, keep the evidence, pass only what was looked at."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pipeline
from pipeline.graph.context import CheckFailed, Skip
from pipeline.graph.inputs import GitFailed
from pipeline.graph.outcome import Failure
from pipeline.scan import baseline, waivers
from pipeline.scan.document import Document, dump_document
from pipeline.scan.fingerprint import identify_each
from pipeline.scan.fingerprint_spots import Spots
from pipeline.scan.merge import merge
from pipeline.scan.policy import Context as Facts
from pipeline.scan.policy import judge, policy_of
from pipeline.scan.render import blocking_sentence, counts_of, finding_lines, scan_line, verdict_lines
from pipeline.scan.sarif import sarif
from pipeline.scan.scanner import Coverage, broken
from pipeline.stages.changes import changed_lines, find_base
from pipeline.stages.containers import StageBroken
from pipeline.stages.contents import Contents
from pipeline.stages.results import Findings, Scanned
from pipeline.stages.standing import today, value_now
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.graph.context import Context
    from pipeline.scan.policy import Policy, Verdict
    from pipeline.scan.scanner import Scan

TAIL_FINDINGS = 10
HINT = "`pipeline findings list` lists all; `pipeline baseline update --add` lets what is there stay"
SPOTS = "spots.json"
LOOKED = frozenset({"complete", "incomplete"})


class NotChecked(StageBroken):
    """A scanner could not look, and the policy does not let that pass."""


def read_files(ctx: Context) -> Contents:
    """Return the stage's input files by path, each of which is read when it is asked for."""
    return Contents(ctx.root, ctx.input_files())


def conclude(
    ctx: Context, scans: Sequence[Scan], *, kinds: frozenset[str], texts: Mapping[str, str] | None = None
) -> Findings:
    """Merge what the scanners found, judge it by the project's policy, keep the evidence, say the verdict.

    Args:
        scans: The scanners' answers, always in the same order: the first names what several saw.
        kinds: The kinds of findings that were looked for; waivers and entries of others are left alone.
        texts: The project's files by path, which fingerprints are made of.

    Raises:
        CheckFailed: Something blocks.
        NotChecked: What blocks is that something could not be looked at.
        Skip: Nothing could be looked at, and the policy lets that pass.
    """
    spots = Spots(ctx.recall(SPOTS))
    identified = identify_each([scan.findings for scan in scans], texts or {}, spots)
    ctx.remember(SPOTS, spots.dump())
    named = [replace(scan, findings=tuple(own)) for scan, own in zip(scans, identified, strict=True)]
    policy = policy_of(ctx.config.get("policy", {}), ctx.environment)
    facts = facts_of(ctx, policy, kinds)
    verdict = judge(named, merge(one for scan in named for one in scan.findings), policy, facts)
    bare = tuple(replace(scan, findings=()) for scan in named)
    document = Document(stage=ctx.stage, kinds=tuple(sorted(kinds)), verdict=verdict, scans=bare)
    kept = ctx.keep("findings.json", dump_document(document))
    log = ctx.keep("findings.sarif", sarif(verdict, named, stage=ctx.stage, version=pipeline.__version__))
    ctx.log("".join(f"{line}\n" for line in [*(scan_line(scan) for scan in named), *verdict_lines(verdict)]))
    _stop_if_bad(verdict, named)
    for one in verdict.unchecked:
        if one.action == "warn":
            ctx.warn(f"{one.scanner} is {one.state}: {one.why}")
    for notice in verdict.notices:
        if notice.action == "warn":
            ctx.warn(notice.text)
    counts = counts_of(verdict.judged)
    if counts.get("warn"):
        first = verdict.having("warn")[0].finding
        such = ", such as" if counts["warn"] > 1 else ":"
        ctx.warn(f"{some(counts['warn'], 'finding')}{such} {first.where}: {first.title} [{first.rule.id}]")
    scanned = tuple(
        Scanned(
            name=scan.scanner,
            state=scan.state,
            seen=scan.coverage.seen,
            expected=scan.coverage.expected,
            unit=scan.coverage.unit,
        )
        for scan in named
    )
    return Findings(result=verdict.result, counts=counts, scanners=scanned, findings=kept, sarif=log)


def absent_scans(ctx: Context, scanner: str, unit: str) -> list[Scan]:
    """Return an answer, if needs ended badly, that what they would have given was not looked at."""
    if not ctx.absent:
        return []
    reason = "; ".join(f"`{need}` {how}, nothing of it was looked at" for need, how in ctx.absent.items())
    coverage = Coverage(unit=unit, expected=len(ctx.absent), seen=0)
    return [broken(scanner, coverage, reason, state="unavailable")]


def _stop_if_bad(verdict: Verdict, scans: Sequence[Scan]) -> None:
    if verdict.result == "block":
        sentence = blocking_sentence(verdict)
        blocking = verdict.having("block")
        if not blocking and not any(one.action == "block" for one in verdict.notices):
            hints = dict.fromkeys(one.hint for one in verdict.unchecked if one.action == "block" and one.hint)
            error = NotChecked(sentence)
            error.hint = "; ".join(hints) or None
            raise error
        lines = [line for one in blocking[:TAIL_FINDINGS] for line in finding_lines(one)]
        if len(blocking) > TAIL_FINDINGS:
            lines.append(f"and {len(blocking) - TAIL_FINDINGS} more in findings.json")
        failure = Failure(
            message=sentence, error_class="FindingsBlock", tail=tuple(lines), hint=HINT if blocking else ""
        )
        raise CheckFailed(failure)
    if scans and not any(scan.state in LOOKED or scan.findings for scan in scans):
        raise Skip("; ".join(f"{scan.scanner} is {scan.state}: {scan.reason}" for scan in scans))


def facts_of(ctx: Context, policy: Policy, kinds: frozenset[str]) -> Facts:
    """Return what the verdict depends on besides the findings; it becomes part of the stage's key."""
    entries = load_waivers(ctx.root)
    known = load_baseline(ctx.root)
    rules = [policy.of(kind) for kind in kinds]
    for name in ("waivers", f"file {baseline.FILE}"):
        ctx.depend_on(name, value_now(ctx.root, name) or "")
    changed = None
    if any(one.only_changed_lines for one in rules):
        changed = _changed(ctx)
    return Facts(today=today(), waivers=entries, baseline=known, changed=changed, kinds=kinds)


def _changed(ctx: Context) -> dict[str, frozenset[int]] | None:
    """Return the lines of the change; None where git cannot tell, and then every finding counts."""
    ctx.depend_on("base", value_now(ctx.root, "base") or "")
    try:
        return changed_lines(ctx.root, find_base(ctx.root, None, os.environ))
    except GitFailed as error:
        ctx.warn(f"every finding counts as new: {error}")
        return None


def load_waivers(root: Path) -> tuple[waivers.Waiver, ...]:
    """Return the project's waivers; none without the file.

    Raises:
        WaiversInvalid: The file cannot be used.
    """
    path = root / waivers.FILE
    return waivers.parse_waivers(path.read_text(encoding="utf-8")) if path.is_file() else ()


def load_baseline(root: Path) -> baseline.Baseline:
    """Return the project's baseline; empty without the file.

    Raises:
        BaselineUnreadable: The file is not a baseline.
    """
    path = root / baseline.FILE
    return (
        baseline.parse_baseline(path.read_text(encoding="utf-8")) if path.is_file() else baseline.Baseline()
    )

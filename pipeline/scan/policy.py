"""The policy: from findings and coverage to one verdict, each part of it with its reason.

Pure: no file, no network, no clock but the day handed in. The same input gives the same verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping  # noqa: TC003 - read when a policy is loaded
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pipeline.scan.baseline import Baseline, Known
from pipeline.scan.finding import CONFIDENCES, LEVELS, Confidence, Finding, InFile, InPackage, Level
from pipeline.scan.scanner import State  # noqa: TC001 - read when a verdict is loaded
from pipeline.scan.waivers import LONGEST_DAYS_CRITICAL, WARNING_DAYS, WIDEST, Waiver, covering
from pipeline.text import some

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence

    from pipeline.scan.scanner import Scan

Action: TypeAlias = Literal["block", "warn", "note", "waived", "known"]
Result: TypeAlias = Literal["pass", "warn", "block"]
Threshold: TypeAlias = Literal["critical", "high", "medium", "low", "info", "never"]

# What a state that is not "complete" does where the policy says nothing.
ALWAYS_BLOCKS: Final = frozenset({"error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides about findings of one kind."""

    fail_on: Threshold = "high"  # this bad or worse blocks
    warn_on: Threshold = "medium"
    min_confidence: Confidence = "low"  # what is less sure only warns
    fixable_only: bool = False  # packages without a fixed version only warn
    most: Mapping[str, int] = field(default_factory=dict)  # level to how many may stay; one more blocks
    only_new: bool = False  # what the baseline knows does not block
    only_changed_lines: bool = False  # what stands on lines the change did not touch does not block
    unchecked: Literal["block", "warn"] = "warn"  # what could not be looked at
    unused_waivers: Literal["block", "warn"] = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every rule that decides; `kinds` goes before `default`."""

    default: Rules = field(default_factory=Rules)
    kinds: Mapping[str, Rules] = field(default_factory=dict)

    def of(self, kind: str) -> Rules:
        """The rules for a kind."""
        return self.kinds.get(kind, self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A finding, what it does to the verdict, and by which rule."""

    finding: Finding
    action: Action
    why: str
    waiver: Waiver | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked:
    """A scanner that could not look, or not at everything."""

    scanner: str
    state: State
    action: Literal["block", "warn", "note"]
    why: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something about the waivers and the baseline themselves."""

    action: Literal["block", "warn", "note"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the findings mean: `block` stops the stage, `warn` is told, `pass` is for what was seen whole."""

    result: Result
    judged: tuple[Judged, ...]  # the worst first
    unchecked: tuple[Unchecked, ...]
    notices: tuple[Notice, ...] = ()

    def having(self, action: Action) -> tuple[Judged, ...]:
        """The findings with one action."""
        return tuple(one for one in self.judged if one.action == action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the verdict depends on besides findings and policy."""

    today: datetime.date
    waivers: Sequence[Waiver] = ()
    baseline: Baseline = field(default_factory=Baseline)
    changed: Mapping[str, frozenset[int]] | None = None  # lines of the change by file; None: not known
    kinds: frozenset[str] = frozenset()  # what was scanned: waivers and entries of other kinds are left alone


def judge(scans: Sequence[Scan], findings: Sequence[Finding], policy: Policy, context: Context) -> Verdict:
    """Decide about merged findings and the scans they come from."""
    known, stale = context.baseline.split(findings)
    waivers = covering(context.waivers, findings)
    judged = [
        _judge_one(finding, own, is_known=is_known, policy=policy, context=context)
        for finding, own, is_known in zip(findings, waivers, known, strict=True)
    ]
    judged = _over_quota(judged, policy)
    unchecked = tuple(one for scan in scans for one in _unchecked(scan, policy, context.kinds))
    notices = (*_waiver_notices(waivers, policy, context), *_stale_notices(stale, context))
    actions: set[str] = {one.action for one in judged}
    actions |= {one.action for one in unchecked} | {one.action for one in notices}
    result: Result = "block" if "block" in actions else "warn" if "warn" in actions else "pass"
    return Verdict(result=result, judged=tuple(judged), unchecked=unchecked, notices=notices)


def _judge_one(
    finding: Finding, waivers: Sequence[Waiver], *, is_known: bool, policy: Policy, context: Context
) -> Judged:
    rules = policy.of(finding.kind)
    action, why = _by_severity(finding, rules)
    if action == "note":
        return Judged(finding=finding, action=action, why=why)
    holding = [one for one in waivers if _holds(one, finding, context)]
    if holding:
        best = max(holding, key=lambda one: one.expires)
        left = best.days_left(context.today)
        text = f"waived by {best.owner} until {best.expires} ({left} days left): {best.reason}"
        return Judged(finding=finding, action="waived", why=text, waiver=best)
    if rules.only_new and is_known:
        return Judged(finding=finding, action="known", why="the baseline knows it")
    if action == "block" and rules.only_changed_lines and _is_outside(finding, context):
        return Judged(finding=finding, action="known", why="the change did not touch that line")
    return Judged(finding=finding, action=action, why=why)


def _by_severity(finding: Finding, rules: Rules) -> tuple[Action, str]:
    """What the severity alone does, and the setting that says so."""
    level = finding.severity.level
    shown = f"{level} ({finding.severity.basis})"
    weighed: Level = "medium" if level == "unknown" else level
    name = f'{finding.kind} `fail_on = "{rules.fail_on}"`'
    if not _reaches(weighed, rules.fail_on):
        if _reaches(weighed, rules.warn_on):
            return "warn", f'{shown} warns: {finding.kind} `warn_on = "{rules.warn_on}"`'
        return "note", f'{shown} is below `warn_on = "{rules.warn_on}"`'
    if CONFIDENCES.index(finding.confidence) > CONFIDENCES.index(rules.min_confidence):
        return "warn", f"{shown} of {finding.confidence} confidence warns: `min_confidence`"
    if rules.fixable_only and isinstance(finding.place, InPackage) and not finding.place.fixed:
        return "warn", f"{shown} has no fix yet and warns: `fixable_only`"
    return "block", f"{shown} blocks: {name}"


def _reaches(level: Level, threshold: Threshold) -> bool:
    return threshold != "never" and LEVELS.index(level) <= LEVELS.index(threshold)


def _holds(waiver: Waiver, finding: Finding, context: Context) -> bool:
    if waiver.days_left(context.today) < 0:
        return False
    days = (waiver.expires - waiver.created).days
    return finding.severity.level != "critical" or days <= LONGEST_DAYS_CRITICAL


def _is_outside(finding: Finding, context: Context) -> bool:
    """Whether a finding surely stands on a line that the change did not touch."""
    place = finding.place
    if context.changed is None or not isinstance(place, InFile) or not place.line or place.layer:
        return False
    if finding.kind == "secret":
        return False  # it may stand in a commit of the change whose lines are gone again
    lines = context.changed.get(place.path, frozenset())
    return lines.isdisjoint(range(place.line, max(place.line, place.end_line) + 1))


def _over_quota(judged: Sequence[Judged], policy: Policy) -> list[Judged]:
    """Block what is more than `most` allows, in order; let pass what is within it."""
    seen: Counter[tuple[str, str]] = Counter()
    out = []
    for one in judged:
        level, kind = one.finding.severity.level, one.finding.kind
        limit = policy.of(kind).most.get(level)
        if limit is None or one.action not in ("block", "warn"):
            out.append(one)
            continue
        seen[kind, level] += 1
        inside = seen[kind, level] <= limit
        setting = f"`most.{level} = {limit}`"
        why = (
            f"{level}, within {setting}"
            if inside
            else f"{level} number {seen[kind, level]} blocks: {setting}"
        )
        out.append(Judged(finding=one.finding, action="warn" if inside else "block", why=why))
    return out


def _unchecked(scan: Scan, policy: Policy, kinds: Iterable[str]) -> list[Unchecked]:
    if scan.state == "complete":
        return []
    gone = [f"{one.what}: {one.why}" for one in scan.coverage.missed[:3]]
    more = len(scan.coverage.missed) - len(gone)
    missed = "; ".join(gone) + (f"; and {more} more" if more > 0 else "")
    why = ": ".join(part for part in (scan.reason, missed) if part) or "no reason is known"
    action: Literal["block", "warn", "note"] = "warn"
    if scan.state == "skipped":
        action = "note"
    elif scan.state in ALWAYS_BLOCKS or any(policy.of(kind).unchecked == "block" for kind in kinds):
        action = "block"
    return [Unchecked(scanner=scan.scanner, state=scan.state, action=action, why=why, hint=scan.hint)]


def _waiver_notices(covering: Sequence[Sequence[Waiver]], policy: Policy, context: Context) -> list[Notice]:
    counts: Counter[Waiver] = Counter(waiver for waivers in covering for waiver in waivers)
    notices = []
    for one in context.waivers:
        left, name = one.days_left(context.today), f"waiver `{one.name}` of {one.owner}"
        if left < 0 and counts[one]:
            notices.append(Notice(action="warn", text=f"{name} ended on {one.expires}"))
        elif counts[one] and left <= WARNING_DAYS:
            notices.append(Notice(action="warn", text=f"{name} ends in {left} days"))
        elif not counts[one] and one.only_kind in context.kinds:
            action = policy.of(one.only_kind).unused_waivers
            notices.append(Notice(action=action, text=f"{name} matches nothing: remove it"))
        if counts[one] > WIDEST and not one.broad:
            text = f"{name} covers {counts[one]} findings: make it narrower, or say `broad = true`"
            notices.append(Notice(action="block", text=text))
    return notices


def _stale_notices(stale: Sequence[Known], context: Context) -> list[Notice]:
    gone = [one for one in stale if one.kind in context.kinds]
    if not gone:
        return []
    first = f"{gone[0].rule} in {gone[0].where}"
    count = some(len(gone), "entry of the baseline is", "entries of the baseline are")
    text = f"{count} gone, such as {first}: run `pipeline baseline update`"
    return [Notice(action="note", text=text)]


def policy_of(tables: Mapping[str, Any], environment: str) -> Policy:
    """The policy that `[tool.pipeline.policy]` sets for an environment ("" is none)."""
    rules, kinds = tables.get("rules", {}), tables.get("kinds", {})
    above = tables.get("environments", {}).get(environment, {})
    outside = {"unchecked": "block" if environment else "warn"}
    return Policy(
        default=_rules(outside, rules, above),
        kinds={kind: _rules(outside, rules, table, above) for kind, table in kinds.items()},
    )


def _rules(*tables: Mapping[str, Any]) -> Rules:
    """The rules of several tables, of which the later go before the earlier; None says nothing."""
    return Rules(**{key: value for table in tables for key, value in table.items() if value is not None})

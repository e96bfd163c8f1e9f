"""A verdict in words: what, where, by which rule, how to mend it, how to live with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.text import clean, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.policy import Judged, Unchecked, Verdict
    from pipeline.scan.scanner import Scan

TITLES: Final = {"block": "blocking", "warn": "warnings", "waived": "waived", "known": "known"}
MOST_TOLD: Final = 20  # findings of each action; the rest is counted


def scan_line(scan: Scan) -> str:
    """One scanner: its state, what it looked at, how old its data is."""
    covered = scan.coverage
    looked = f"{covered.seen} of {covered.expected} {covered.unit}"
    data = "".join(f", {one.name} as of {one.as_of or 'unknown'}" for one in scan.data)
    version = f" {scan.version}" if scan.version else ""
    reason = f": {scan.reason}" if scan.reason else ""
    found = f", {some(len(scan.findings), 'finding')}" if scan.findings else ""
    return clean(f"{scan.scanner}{version}: {scan.state}, looked at {looked}{data}{found}{reason}")


def finding_lines(judged: Judged) -> list[str]:
    """A finding: the problem, why it counts, how to mend it, how to waive it."""
    one = judged.finding
    seen_by = " and ".join(dict.fromkeys(f"{each.tool} {each.rule}" for each in one.witnesses))
    lines = [
        f"{one.where}: {one.title} [{one.rule.id}]",
        f"  {judged.why}" + (f"; seen by {seen_by}" if seen_by else ""),
    ]
    if one.fix:
        lines.append(f"  mend: {one.fix}")
    if judged.action in ("block", "warn"):
        lines.append(f"  waive: pipeline findings waive {one.id[:12]} --reason ... --owner ...")
    return [clean(line).replace("\n", " ") for line in lines]


def unchecked_line(one: Unchecked) -> str:
    """A scanner that could not look."""
    hint = f" (hint: {one.hint})" if one.hint else ""
    return clean(f"{one.scanner} is {one.state}: {one.why}{hint}").replace("\n", " ")


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict, what blocks first; at most `MOST_TOLD` findings of each action."""
    lines: list[str] = []
    for action, title in TITLES.items():
        found = [one for one in verdict.judged if one.action == action]
        if found:
            lines.append(f"{len(found)} {title}:")
            told = found[:MOST_TOLD]
            lines += [f"  {line}" for one in told for line in finding_lines(one)]
            if len(found) > len(told):
                lines.append(f"  and {len(found) - len(told)} more in findings.json")
    lines += [f"not checked ({one.action}): {unchecked_line(one)}" for one in verdict.unchecked]
    lines += [f"{one.action}: {clean(one.text)}" for one in verdict.notices]
    lines.append(f"verdict: {verdict.result}")
    return lines


def blocking_sentence(verdict: Verdict) -> str:
    """One sentence for a stage that must not pass: how much blocks, and the worst of it."""
    blocking = verdict.having("block")
    if blocking:
        first = blocking[0].finding
        count = f"{len(blocking)} finding{'s' if len(blocking) > 1 else ''}"
        verb = "blocks" if len(blocking) == 1 else "block"
        text = f"{count} {verb}: {first.where}: {first.title} [{first.rule.id}]"
    else:
        text = next((one.text for one in verdict.notices if one.action == "block"), "")
    gone = [unchecked_line(one) for one in verdict.unchecked if one.action == "block"]
    return "; ".join(part for part in (clean(text), *gone[:2]) if part)


def counts_of(judged: Sequence[Judged]) -> dict[str, int]:
    """How many findings have each action."""
    counts: dict[str, int] = {}
    for one in judged:
        counts[one.action] = counts.get(one.action, 0) + 1
    return counts

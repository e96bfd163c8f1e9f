"""How long the verdict takes: 20,000 findings of three tools, 200 waivers, a baseline of 5,000 entries.

    python benchmarks/policy.py [--findings 20000] [--rounds 5]

Findings are made up by a fixed seed: half of them two tools saw; half of the waivers name a rule and a glob,
rules that many findings have. Times are CPU seconds, the least of the rounds.
"""

from __future__ import annotations

import argparse
import datetime
import random
import time
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.baseline import Baseline, known_of
from pipeline.scan.finding import Finding, InFile, InPackage, Rule, Severity, Witness
from pipeline.scan.fingerprint import fingerprint
from pipeline.scan.merge import merge
from pipeline.scan.policy import Context, judge, policy_of
from pipeline.scan.scanner import Scan, counted
from pipeline.scan.waivers import Waiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.scan.finding import Kind, Level, Place

BAR_S: Final = 1.0
TODAY: Final = datetime.date(2026, 11, 24)
LEVELS: Final[tuple[Level, ...]] = ("critical", "high", "medium", "low", "info")
SETTINGS: Final = {"rules": {"fail_on": "high", "only_new": True, "most": {"medium": 20}}}


def made_up(count: int, chance: random.Random) -> list[Finding]:
    """Findings in 400 files by 60 rules, and a tenth in packages."""
    found: list[Finding] = []
    while len(found) < count:
        number = len(found)
        rule = f"S{chance.randrange(60)}"
        if number % 10 == 0:
            name = f"package{chance.randrange(500)}"
            place: Place = InPackage(
                purl=f"pkg:pypi/{name}@1", name=name, version="1", ecosystem="PyPI", path="uv.lock"
            )
            found.append(one("vulnerability", f"CVE-{chance.randrange(5000)}", place, ("osv",), chance))
            continue
        line = chance.randrange(1, 2000)
        file = InFile(path=f"src/part{chance.randrange(20)}/file{chance.randrange(20)}.py", line=line)
        same = one("sast", rule, file, ("ruff",), chance)
        found.append(same)
        if number % 2:
            found.append(one("sast", rule, file, ("bandit",), chance))
    return found[:count]


def one(kind: Kind, rule: str, place: Place, tools: tuple[str, ...], chance: random.Random) -> Finding:
    """One finding; its name is made of what it is."""
    level = chance.choice(LEVELS)
    return Finding(
        id=fingerprint(kind, rule, repr(place)),
        moved_id=fingerprint(kind, rule),
        kind=kind,
        rule=Rule(id=rule),
        title="a problem",
        message="a problem",
        severity=Severity(level=level, basis=level),
        place=place,
        cwe=(int(rule[1:]) + 1,) if kind == "sast" else (),
        witnesses=tuple(Witness(tool=tool, version="1", rule=rule) for tool in tools),
    )


def waivers_for(findings: list[Finding], count: int, chance: random.Random) -> tuple[Waiver, ...]:
    """Half by fingerprint, half by rule and path."""
    made = []
    for number in range(count):
        finding = chance.choice(findings)
        how: dict[str, Any] = (
            {"finding": finding.id[:12]}
            if number % 2 or not isinstance(finding.place, InFile)
            else {"rule": finding.rule.id, "path": finding.place.path.rpartition("/")[0] + "/*.py"}
        )
        ends = TODAY + datetime.timedelta(days=60)
        made.append(Waiver(reason="known and lived with", owner="team", created=TODAY, expires=ends, **how))
    return tuple(made)


def least(rounds: int, work: Callable[[], object]) -> float:
    """The least CPU time of some rounds, in seconds."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--findings", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    chance = random.Random(20261124)  # noqa: S311 - the same findings each time
    found = made_up(given.findings, chance)
    waivers = waivers_for(found, 200, chance)
    baseline = Baseline(known=known_of(chance.sample(found, min(5000, len(found))), "known since long"))
    policy = policy_of(SETTINGS, "production")
    scans = [Scan(scanner="ruff", state="complete", coverage=counted("files", ["a.py"]))]
    kinds = frozenset({"sast", "vulnerability"})
    facts = Context(today=TODAY, waivers=waivers, baseline=baseline, kinds=kinds)
    merged = merge(found)
    verdict = judge(scans, merged, policy, facts)
    merging = least(given.rounds, lambda: merge(found))
    judging = least(given.rounds, lambda: judge(scans, merged, policy, facts))
    print(f"{len(found)} findings of which {len(merged)} are different; {len(waivers)} waivers,")
    print(f"{len(baseline.known)} entries of the baseline; {len(verdict.having('waived'))} waived")
    print(f"| merge | {merging:.2f} s |\n| judge | {judging:.2f} s |")
    print(f"| both | {merging + judging:.2f} s | bar {BAR_S} s |")


if __name__ == "__main__":
    main()

"""What findings do to a verdict, and why."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.baseline import Baseline, known_of
from pipeline.scan.finding import InFile
from pipeline.scan.policy import Context, Notice, Policy, Rules, Unchecked, judge, policy_of
from pipeline.scan.scanner import Missed, counted
from pipeline.scan.waivers import Waiver
from tests.unit.scan.making import finding, package, scan

if TYPE_CHECKING:
    from pipeline.scan.finding import Finding, Level
    from pipeline.scan.policy import Verdict

TODAY = datetime.date(2026, 11, 24)
ALL = frozenset({"sast", "vulnerability", "secret"})


def verdict_on(*findings: Finding, policy: Policy | None = None, **facts: Any) -> Verdict:
    """The verdict about findings of one scan, today."""
    given: dict[str, Any] = {"today": TODAY, "kinds": ALL}
    context = Context(**(given | facts))
    return judge([scan(*findings)], findings, policy or Policy(), context)


def waiver(days: int = 30, *, age: int = 10, **more: Any) -> Waiver:
    """A waiver of everything of rule S1, from some days ago to some days from now."""
    given: dict[str, Any] = {"rule": "S1", "path": "**"} if not {"finding", "advisory"} & more.keys() else {}
    return Waiver(
        reason="the input is ours, nobody else writes it",
        owner="team-a",
        expires=TODAY + datetime.timedelta(days),
        created=TODAY - datetime.timedelta(age),
        **(given | more),
    )


@pytest.mark.parametrize(
    ("level", "result", "why"),
    [
        ("critical", "block", 'critical (the test) blocks: sast `fail_on = "high"`'),
        ("high", "block", 'high (the test) blocks: sast `fail_on = "high"`'),
        ("medium", "warn", 'medium (the test) warns: sast `warn_on = "medium"`'),
        ("unknown", "warn", 'unknown (the test) warns: sast `warn_on = "medium"`'),
        ("low", "pass", 'low (the test) is below `warn_on = "medium"`'),
        ("info", "pass", 'info (the test) is below `warn_on = "medium"`'),
    ],
)
def test_the_severity_decides_and_the_setting_is_named(level: Level, result: str, why: str) -> None:
    """What is unknown is weighed as medium, and shown as unknown."""
    verdict = verdict_on(finding(level=level))

    assert (verdict.result, verdict.judged[0].why) == (result, why)


def test_rules_of_a_kind_go_before_the_default_ones() -> None:
    policy = Policy(kinds={"sast": Rules(fail_on="never", warn_on="never")})

    assert verdict_on(finding(level="critical"), policy=policy).result == "pass"
    assert verdict_on(finding(kind="secret"), policy=policy).result == "block"


def test_what_is_not_sure_or_has_no_fix_only_warns_where_the_policy_says_so() -> None:
    unsure = Policy(default=Rules(min_confidence="medium"))
    fixable = Policy(default=Rules(fixable_only=True))

    assert verdict_on(finding(confidence="low"), policy=unsure).result == "warn"
    assert verdict_on(finding(confidence="medium"), policy=unsure).result == "block"
    assert verdict_on(finding(kind="vulnerability", place=package()), policy=fixable).result == "warn"
    assert (
        verdict_on(finding(kind="vulnerability", place=package(fixed=("3",))), policy=fixable).result
        == "block"
    )
    assert verdict_on(finding(), policy=fixable).result == "block"


def test_a_quota_lets_so_many_stay_and_no_more() -> None:
    policy = Policy(default=Rules(most={"high": 2}))
    found = [finding(id=str(index) * 32) for index in range(3)]

    assert [one.action for one in verdict_on(*found[:2], policy=policy).judged] == ["warn", "warn"]
    assert [one.action for one in verdict_on(*found, policy=policy).judged] == ["warn", "warn", "block"]
    assert verdict_on(*found, policy=policy).judged[2].why == "high number 3 blocks: `most.high = 2`"


def test_a_waiver_holds_up_to_its_day_and_says_whose_it_is() -> None:
    held, ended = waiver(0), waiver(-1)

    verdict, without = verdict_on(finding(), waivers=[held]), verdict_on(finding(), waivers=[ended])

    [one] = verdict.judged
    assert (one.action, one.waiver) == ("waived", held)
    assert (
        one.why == f"waived by team-a until {TODAY} (0 days left): the input is ours, nobody else writes it"
    )
    assert without.result == "block"
    assert without.notices == (
        Notice(action="warn", text=f"waiver `S1 **` of team-a ended on {TODAY - datetime.timedelta(1)}"),
    )


def test_a_waiver_near_its_end_warns() -> None:
    assert verdict_on(finding(), waivers=[waiver(15)]).result == "pass"
    assert verdict_on(finding(), waivers=[waiver(14)]).notices == (
        Notice(action="warn", text="waiver `S1 **` of team-a ends in 14 days"),
    )


def test_what_is_critical_is_waived_for_thirty_days_at_most() -> None:
    assert verdict_on(finding(level="critical"), waivers=[waiver(20, age=10)]).judged[0].action == "waived"
    assert verdict_on(finding(level="critical"), waivers=[waiver(21, age=10)]).result == "block"


@pytest.mark.parametrize(
    ("entry", "covers"),
    [
        pytest.param({"finding": "0" * 8}, True, id="fingerprint"),
        pytest.param({"finding": "1" * 8}, False, id="another-fingerprint"),
        pytest.param({"finding": "a" * 12}, True, id="fingerprint-without-path"),
        pytest.param({"rule": "S1", "path": "src/**"}, True, id="rule-and-path"),
        pytest.param({"rule": "B1", "path": "src/**"}, True, id="rule-of-a-witness"),
        pytest.param({"rule": "S1", "path": "lib/**"}, False, id="another-path"),
        pytest.param({"rule": "S2", "path": "src/**"}, False, id="another-rule"),
        pytest.param({"rule": "S1", "path": "src/**", "kind": "secret"}, False, id="another-kind"),
        pytest.param({"advisory": "S1", "package": "jinja2"}, False, id="no-package"),
    ],
)
def test_what_a_waiver_covers(entry: dict[str, Any], covers: bool) -> None:
    twin = finding(rule="B1", tool="bandit")
    one = finding(place=InFile(path="src/a/app.py", line=1), moved_id="a" * 32)
    one = replace(one, witnesses=(*one.witnesses, *twin.witnesses))

    assert (verdict_on(one, waivers=[waiver(**entry)]).judged[0].action == "waived") is covers


def test_a_waiver_of_an_advisory_matches_any_of_its_names() -> None:
    one = finding(kind="vulnerability", rule="CVE-1", aliases=("GHSA-1",), place=package())

    for name, owner in (("CVE-1", "jinja2"), ("GHSA-1", "jinja2")):
        entry = waiver(advisory=name, package=owner)
        assert verdict_on(one, waivers=[entry]).judged[0].action == "waived"
    assert verdict_on(one, waivers=[waiver(advisory="CVE-1", package="django")]).result == "block"


def test_a_waiver_that_matches_nothing_is_told_by_the_stage_it_is_for() -> None:
    unused = waiver(advisory="CVE-1", package="django")

    told = verdict_on(waivers=[unused])
    strict = verdict_on(waivers=[unused], policy=Policy(default=Rules(unused_waivers="block")))

    text = "waiver `CVE-1 django` of team-a matches nothing: remove it"
    assert told.notices == (Notice(action="warn", text=text),)
    assert strict.result == "block"
    assert verdict_on(waivers=[unused], kinds=frozenset({"sast"})).notices == ()


def test_a_waiver_wider_than_it_says_blocks() -> None:
    found = [finding(id=f"{index:032x}") for index in range(26)]

    assert verdict_on(*found, waivers=[waiver()]).result == "block"
    assert verdict_on(*found, waivers=[waiver(broad=True)]).result == "pass"
    assert verdict_on(*found[:25], waivers=[waiver()]).result == "pass"


def test_what_the_baseline_knows_does_not_block_but_a_second_one_does() -> None:
    """A known finding that is gone is told, so that the baseline shrinks."""
    policy = Policy(default=Rules(only_new=True))
    old, new = finding(id="1" * 32), finding(id="2" * 32)
    baseline = Baseline(known=known_of([old], "before we looked"))

    assert [one.action for one in verdict_on(old, new, policy=policy, baseline=baseline).judged] == [
        "known",
        "block",
    ]
    assert [one.action for one in verdict_on(old, old, policy=policy, baseline=baseline).judged] == [
        "known",
        "block",
    ]
    assert verdict_on(old, baseline=baseline).result == "block"
    gone = verdict_on(policy=policy, baseline=baseline)
    text = "1 entry of the baseline is gone, such as S1 in app.py:1: run `pipeline baseline update`"
    assert (gone.result, gone.notices) == ("pass", (Notice(action="note", text=text),))


def test_only_changed_lines_block_where_the_policy_says_so() -> None:
    """Without knowledge of the change, and for what stands in no line, everything counts."""
    policy = Policy(default=Rules(only_changed_lines=True))
    lines = finding(place=InFile(path="app.py", line=3, end_line=5))

    def result(one: Finding, changed: dict[str, frozenset[int]] | None) -> str:
        return verdict_on(one, policy=policy, changed=changed).result

    assert result(lines, {"app.py": frozenset({5})}) == "block"
    assert result(lines, {"app.py": frozenset({6})}) == "pass"
    assert result(lines, {}) == "pass"
    assert result(lines, None) == "block"
    assert result(replace(lines, kind="secret"), {}) == "block"
    assert result(finding(kind="vulnerability", place=package()), {}) == "block"


@pytest.mark.parametrize(
    ("state", "dev", "release"),
    [
        ("incomplete", "warn", "block"),
        ("stale", "warn", "block"),
        ("unavailable", "warn", "block"),
        ("unsupported", "warn", "block"),
        ("error", "block", "block"),
        ("skipped", "pass", "pass"),
    ],
)
def test_what_could_not_be_looked_at_never_passes(state: Any, dev: str, release: str) -> None:
    """It warns, blocks where there is an environment, and is only silent when the user said so."""
    gone = scan(
        scanner="osv",
        state=state,
        reason="no data",
        coverage=counted("packages", ["a", "b"], [Missed(what="b", why="no source")]),
    )
    context = Context(today=TODAY, kinds=frozenset({"vulnerability"}))

    here = judge([gone], [], policy_of({}, ""), context)
    there = judge([gone], [], policy_of({}, "production"), context)

    assert (here.result, there.result) == (dev, release)
    action: Any = {"pass": "note"}.get(dev, dev)
    assert here.unchecked == (
        Unchecked(scanner="osv", state=state, action=action, why="no data: b: no source"),
    )


def test_tables_of_an_environment_go_before_those_of_a_kind_and_these_before_the_rules() -> None:
    tables = {
        "rules": {"fail_on": "medium", "warn_on": None, "only_new": True},
        "kinds": {"secret": {"fail_on": "low"}},
        "environments": {"production": {"fail_on": "high", "unchecked": "warn"}},
    }

    policy = policy_of(tables, "")
    strict = policy_of(tables, "production")

    assert policy.of("sast") == Rules(fail_on="medium", only_new=True, unchecked="warn")
    assert policy.of("secret") == Rules(fail_on="low", only_new=True, unchecked="warn")
    assert strict.of("secret") == Rules(fail_on="high", only_new=True, unchecked="warn")
    assert policy_of({}, "production").default == Rules(unchecked="block")

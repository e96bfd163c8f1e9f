"""Who may deploy what, where and when: each rule refuses with its name, and all are told at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.config.delivery_policy import (
    ApprovalRules,
    DeliveryPolicy,
    EnvironmentRules,
    FreezeRules,
    Moment,
    RoleRules,
)
from pipeline.config.values import Seconds, Times
from pipeline.deploy.approval import Approval, Given
from pipeline.deploy.policy import (
    DeploymentRefused,
    Facts,
    Refusal,
    decide,
    require,
    roles_of,
    who_can_deploy,
)
from pipeline.deploy.promotion import Promotion
from pipeline.errors import EXIT_REFUSED

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 86400.0
IMAGES = {"api": "sha256:" + "1" * 64}
SUBJECT = "repo:org/app:environment:production"

FACTS = Facts(
    environment="production",
    actor="ann",
    branch="main",
    commit="c" * 40,
    author="carl",
    release="r-1",
    images=IMAGES,
    plan="sha256:plan",
    now=NOW,
    evidence={"unit": NOW - HOUR},
)


def policy(**rules: Any) -> DeliveryPolicy:
    """Return rules for production, in which `ann` and one CI subject are releasers."""
    return DeliveryPolicy(
        owner="platform@example.org",
        roles={
            "releaser": RoleRules(actors=("ann",), subjects=(SUBJECT,)),
            "approver": RoleRules(actors=("bob", "ann", "carl")),
            "sre": RoleRules(actors=("sue",)),
        },
        environments={"production": EnvironmentRules(**{"deploy": ("releaser",), **rules})},
    )


def given(**more: Any) -> Given:
    """Return an approval of `FACTS` by `bob`, an hour old."""
    values: dict[str, Any] = {
        "environment": "production",
        "release": "r-1",
        "images": IMAGES,
        "plan": "sha256:plan",
        "approver": "bob",
        "given": NOW - HOUR,
        "expires": NOW + HOUR,
    }
    flaw = more.pop("flaw", "")
    return Given(approval=Approval(**{**values, **more}), flaw=flaw)


def refusals(rules: DeliveryPolicy, facts: Facts) -> list[tuple[str, str]]:
    """Return what is refused: rule, without the environment, and sentence."""
    found = decide(rules, facts).refusals
    return [(one.rule.removeprefix("environments.production."), one.what) for one in found]


def test_who_has_the_role_and_meets_every_rule_may_deploy() -> None:
    rules = policy(branches=("main",), clean=True, approvals=ApprovalRules(required=Times(1)))

    decision = require(rules, replace(FACTS, approvals=(given(),)))

    assert (decision.allowed, decision.roles) == (True, ("approver", "releaser"))
    assert decision.refusals == decision.passed_over == ()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"actor": "bob"}, "who deploys there needs the role `releaser`; `bob` has `approver`"),
        ({"actor": "eve"}, "who deploys there needs the role `releaser`; `eve` has none"),
        ({"actor": "Ann"}, "who deploys there needs the role `releaser`; `Ann` has none"),
        ({"actor": ""}, "who deploys there needs the role `releaser`; `` has none"),
        (
            {"actor": "eve", "subject": f"{SUBJECT}:more"},
            f"who deploys there needs the role `releaser`; `eve` (`{SUBJECT}:more`) has none",
        ),
    ],
)
def test_who_has_not_the_role_is_refused(facts: dict[str, Any], said: str) -> None:
    """Names and subjects are compared letter by letter."""
    assert refusals(policy(), replace(FACTS, **facts)) == [("deploy", said)]


def test_a_ci_job_has_roles_by_the_subject_of_its_token() -> None:
    assert roles_of(policy(), "github-actions", SUBJECT) == ("releaser",)
    assert who_can_deploy(policy(), "production") == ("ann", SUBJECT)
    assert who_can_deploy(policy(), "staging") == ("*",)


def test_without_rules_staging_is_open_and_production_closed() -> None:
    """Production needs somebody who is named."""
    closed = decide(DeliveryPolicy(), FACTS)

    assert decide(DeliveryPolicy(), replace(FACTS, environment="staging")).allowed
    assert closed.refusals == (
        Refusal(
            rule="environments.production.deploy",
            what="nothing says that `ann` may deploy there, or anybody",
        ),
    )


@pytest.mark.parametrize(
    ("rules", "facts", "rule", "said"),
    [
        (
            {"branches": ("main", "release/*")},
            {"branch": "topic"},
            "branches",
            "only what is on branch `main` or `release/*` goes there; this is on branch `topic`",
        ),
        (
            {"branches": ("main",), "tags": ("v*",)},
            {"branch": "", "tags": ("nightly",)},
            "branches",
            "only what is on branch `main` or has a tag `v*` goes there; "
            "this is on no branch, with tag `nightly`",
        ),
        (
            {"tags": ("v*",)},
            {},
            "tags",
            "only what has a tag `v*` goes there; this is on branch `main`",
        ),
        (
            {"clean": True},
            {"dirty": True},
            "clean",
            "the working tree has changes that are in no commit",
        ),
        (
            {},
            {"evidence": {"unit": NOW - 8 * DAY}},
            "evidence_max_age",
            "`unit` passed 192 h ago, and that counts for 168 h",
        ),
        (
            {},
            {"evidence": {"unit": None}},
            "evidence_max_age",
            "`unit` has not passed for this commit",
        ),
        (
            {},
            {"evidence": {"unit": NOW + HOUR}},
            "evidence_max_age",
            "`unit` passed in the future, by this clock",
        ),
        (
            {},
            {"promotion": Promotion(source="staging", images={}, problems={"green": "it is red"})},
            "promotion.green",
            "it is red",
        ),
        (
            {},
            {"policy_changed": True},
            "owner",
            "the rules here are other than those of the commit",
        ),
    ],
)
def test_each_rule_refuses_with_its_name(
    rules: dict[str, Any], facts: dict[str, Any], rule: str, said: str
) -> None:
    assert refusals(policy(**rules), replace(FACTS, **facts)) == [(rule, said)]


@pytest.mark.parametrize(
    ("rules", "facts"),
    [
        ({"branches": ("main", "release/*")}, {"branch": "release/1.2"}),
        ({"branches": ("main",), "tags": ("v*",)}, {"branch": "", "tags": ("nightly", "v1.0")}),
        ({}, {"evidence": {"unit": NOW - 7 * DAY}}),
        ({}, {"evidence": {"unit": NOW + 60}}),
        ({}, {"dirty": True}),
    ],
)
def test_what_a_rule_allows_is_not_refused(rules: dict[str, Any], facts: dict[str, Any]) -> None:
    assert refusals(policy(**rules), replace(FACTS, **facts)) == []


@pytest.mark.parametrize(
    ("approval", "said"),
    [
        ({"environment": "staging"}, "it is for environment `staging`"),
        ({"release": "r-2"}, "it is for release `r-2`"),
        ({"images": {"api": "sha256:" + "2" * 64}}, "it is for other images"),
        ({"plan": "sha256:other"}, "it is for another plan"),
        ({"expires": NOW - 120}, "it expired 2 min ago"),
        ({"given": NOW - 25 * HOUR}, "it expired 60 min ago"),
        ({"given": NOW + HOUR}, "it was given in the future, by this clock"),
        ({"approver": "ann"}, "nobody approves what is their own"),
        ({"approver": "carl"}, "nobody approves what is their own"),
        ({"approver": "CARL"}, "nobody approves what is their own"),
        ({"approver": "sue"}, "it takes the role `approver`"),
        ({"flaw": "its signature does not count"}, "its signature does not count"),
    ],
)
def test_an_approval_of_something_else_does_not_count(approval: dict[str, Any], said: str) -> None:
    """It is bound to environment, release, images and plan, expires, and is never one's own."""
    rules = policy(approvals=ApprovalRules(required=Times(1), roles=("approver",)))
    one = given(**approval)

    found = refusals(rules, replace(FACTS, approvals=(one,)))

    what = f"it has 0 of 1 approval; that of `{one.approval.approver}` does not count: {said}"
    assert found == [("approvals", what)]


def test_one_person_approves_once() -> None:
    rules = policy(approvals=ApprovalRules(required=Times(2)))
    twice = replace(FACTS, approvals=(given(), given(given=NOW - 60)))

    assert refusals(rules, twice) == [("approvals", "it has 1 of 2 approvals")]
    assert refusals(rules, replace(FACTS, approvals=(given(), given(approver="sue")))) == []


def local(*parts: int) -> Moment:
    return Moment(datetime(*parts))  # type: ignore[arg-type]  # noqa: DTZ001 - of the zone beside it


WEEKEND = FreezeRules(
    from_=local(2026, 1, 2, 16),
    rule="FREQ=WEEKLY;BYDAY=FR",
    lasts_s=Seconds(64 * HOUR),
    tz="Europe/Berlin",
    reason="weekend",
)
YEAR_END = FreezeRules(
    from_=local(2026, 12, 18, 18), to=local(2027, 1, 4, 8), tz="Europe/Berlin", reason="year end"
)
UNTIL_MONDAY = "it is frozen until 2026-11-30 08:00 Europe/Berlin (weekend)"
NEW_YEAR = "it is frozen until 2027-01-04 08:00 Europe/Berlin (year end)"


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2026-11-27T14:59:59+00:00", []),
        ("2026-11-27T15:00:00+00:00", [("freeze.0", UNTIL_MONDAY)]),
        ("2026-11-30T06:59:59+00:00", [("freeze.0", UNTIL_MONDAY)]),
        ("2026-11-30T07:00:00+00:00", []),
        # In summer the same hour of Berlin is another one of the world.
        ("2026-07-03T13:59:59+00:00", []),
        (
            "2026-07-03T14:00:00+00:00",
            [("freeze.0", "it is frozen until 2026-07-06 08:00 Europe/Berlin (weekend)")],
        ),
        # The night in which the clock is put back is an hour longer.
        ("2026-10-26T07:30:00+00:00", []),
        ("2026-12-31T12:00:00+00:00", [("freeze.1", NEW_YEAR)]),
        ("2027-01-04T07:00:00+00:00", []),
    ],
)
def test_nothing_goes_out_while_it_is_frozen(moment: str, said: list[tuple[str, str]]) -> None:
    """Rules are counted on the clock of the zone; the last moment is free again."""
    now = datetime.fromisoformat(moment).timestamp()
    facts = replace(FACTS, now=now, evidence={})

    assert refusals(policy(freeze=(WEEKEND, YEAR_END)), facts) == said


def test_a_rollback_needs_who_may_deploy_and_no_more() -> None:
    """Nothing stands between a bad release and the last good one."""
    rules = policy(
        branches=("main",), clean=True, approvals=ApprovalRules(required=Times(1)), freeze=(YEAR_END,)
    )
    back = replace(FACTS, kind="rollback", branch="topic", dirty=True, evidence={"unit": None})

    assert refusals(rules, back) == []
    assert [rule for rule, _ in refusals(rules, replace(back, actor="eve"))] == ["deploy"]


def test_all_refusals_are_told_in_one_sentence_with_who_may_change_them() -> None:
    rules = policy(branches=("main",), clean=True)

    with pytest.raises(DeploymentRefused) as caught:
        require(rules, replace(FACTS, branch="topic", dirty=True))

    assert str(caught.value) == (
        "cannot deploy to `production`:\n"
        "  only what is on branch `main` goes there; this is on branch `topic` "
        "(rule `environments.production.branches`)\n"
        "  the working tree has changes that are in no commit (rule `environments.production.clean`)"
    )
    assert caught.value.hint == (
        "`ci/policies/delivery.toml` holds the rules; platform@example.org may change them"
    )
    assert caught.value.exit_code == EXIT_REFUSED


def test_breaking_glass_passes_over_every_rule_and_says_which() -> None:
    """Who may, with a reason; what was broken is in the decision, for the audit log."""
    rules = policy(break_glass=("sre",), branches=("main",))
    facts = replace(FACTS, actor="sue", branch="topic", break_glass="site is down")

    decision = decide(rules, facts)

    assert decision.allowed
    assert [one.rule.rpartition(".")[2] for one in decision.passed_over] == ["deploy", "branches"]


@pytest.mark.parametrize(
    ("rules", "facts", "said"),
    [
        (
            {"break_glass": ("sre",)},
            {"break_glass": "site is down"},
            "passing over the rules needs the role `sre`; `ann` has it not",
        ),
        (
            {},
            {"actor": "sue", "break_glass": "site is down"},
            "passing over the rules needs a role, and none is named; `sue` has it not",
        ),
        (
            {"break_glass": ("sre",)},
            {"actor": "sue", "break_glass": "because"},
            "passing over the rules needs a reason in words",
        ),
        (
            {"break_glass": ("sre",)},
            {"actor": "sue", "break_glass": "site is down", "policy_changed": True},
            "the rules here are other than those of the commit",
        ),
    ],
)
def test_breaking_glass_has_rules_of_its_own(rules: dict[str, Any], facts: dict[str, Any], said: str) -> None:
    """Nobody breaks rules by changing them first."""
    found = refusals(
        policy(**rules),
        replace(FACTS, **{"dirty": True, "actor": "ann", "evidence": {"unit": None}, **facts}),
    )

    assert found[-1][1] == said


def test_a_decision_names_what_it_was_made_of() -> None:
    """Other facts or other rules have another digest; the same have the same."""
    first = decide(policy(), FACTS).inputs

    assert decide(policy(), FACTS).inputs == first
    assert decide(policy(clean=True), FACTS).inputs != first
    assert decide(policy(), replace(FACTS, branch="topic")).inputs != first

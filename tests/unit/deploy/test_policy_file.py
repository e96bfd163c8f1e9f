"""`ci/policies/delivery.toml`: read whole, or every mistake in it is told."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from pipeline.config import ConfigInvalid
from pipeline.config.delivery_policy import (
    FILE,
    ApprovalRules,
    DeliveryPolicy,
    EnvironmentRules,
    FreezeRules,
    Moment,
    RoleRules,
    load_delivery_policy,
)
from pipeline.config.values import Seconds, Times

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, text: str) -> None:
    (root / FILE).parent.mkdir(parents=True)
    (root / FILE).write_text(text, encoding="utf-8")


def test_the_file_becomes_rules(tmp_path: Path) -> None:
    """Times may be TOML's own or text; a role has people and subjects of CI tokens."""
    write(
        tmp_path,
        """
        owner = "platform@example.org"
        [roles.releaser]
        actors = ["ann@example.org"]
        subjects = ["repo:org/app:environment:production"]
        [environments.production]
        deploy = ["releaser"]
        branches = ["main"]
        clean = true
        evidence_max_age = "3d"
        approvals = { required = 1, roles = ["releaser"], expires = "2h" }
        freeze = [
          { from = 2026-12-18T18:00:00, to = "2027-01-04T08:00", tz = "Europe/Berlin", reason = "year end" },
          { from = "2026-01-01T16:00", rule = "FREQ=WEEKLY;BYDAY=FR", lasts = "64h" },
        ]
        """,
    )

    policy = load_delivery_policy(tmp_path)

    year_end = FreezeRules(
        from_=Moment(datetime(2026, 12, 18, 18)),  # noqa: DTZ001 - of the zone beside it
        to=Moment(datetime(2027, 1, 4, 8)),  # noqa: DTZ001
        tz="Europe/Berlin",
        reason="year end",
    )
    weekend = FreezeRules(
        from_=Moment(datetime(2026, 1, 1, 16)),  # noqa: DTZ001
        rule="FREQ=WEEKLY;BYDAY=FR",
        lasts_s=Seconds(64 * 3600.0),
    )
    assert policy == DeliveryPolicy(
        owner="platform@example.org",
        roles={
            "releaser": RoleRules(
                actors=("ann@example.org",), subjects=("repo:org/app:environment:production",)
            )
        },
        environments={
            "production": EnvironmentRules(
                deploy=("releaser",),
                branches=("main",),
                clean=True,
                evidence_max_age_s=Seconds(3 * 86400.0),
                approvals=ApprovalRules(required=Times(1), roles=("releaser",), expires_s=Seconds(7200.0)),
                freeze=(year_end, weekend),
            )
        },
    )


def test_without_a_file_everybody_deploys_but_to_production(tmp_path: Path) -> None:
    policy = load_delivery_policy(tmp_path)

    assert policy == DeliveryPolicy()
    assert policy.rules_of("staging") == EnvironmentRules(deploy=("*",))
    assert policy.rules_of("production") == EnvironmentRules(deploy=())


PLACE = "[environments.production]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('ower = "x"', 'ower: unknown key; did you mean "owner"?'),
        ('[roles.a]\nactor = ["x"]', 'roles.a.actor: unknown key; did you mean "actors"?'),
        (
            f'{PLACE}brunches = ["main"]',
            'environments.production.brunches: unknown key; did you mean "branches"?',
        ),
        (
            f'[roles.releaser]\n{PLACE}deploy = ["relaeser"]',
            'environments.production.deploy: there is no role "relaeser"; did you mean "releaser"?',
        ),
        (
            f'{PLACE}approvals = {{ roles = ["x"] }}',
            'environments.production.approvals.roles: there is no role "x"',
        ),
        (f'{PLACE}break_glass = ["*"]', 'environments.production.break_glass: there is no role "*"'),
        (
            f'{PLACE}freeze = [{{ to = "2026-01-01T00:00" }}]',
            "environments.production.freeze.0.from: expected a value, got none",
        ),
        (
            f'{PLACE}freeze = [{{ from = "soon", to = "2026-01-01T00:00" }}]',
            'environments.production.freeze.0.from: expected a time such as "2026-12-18T18:00", got "soon"',
        ),
        (
            f'{PLACE}freeze = [{{ from = "2026-01-02T00:00", to = "2026-01-01T00:00" }}]',
            "environments.production.freeze.0.to: expected a time after `from`",
        ),
        (
            f'{PLACE}freeze = [{{ from = "2026-01-02T00:00", to = "2026-01-03T00:00", tz = "Berlin" }}]',
            'environments.production.freeze.0.tz: expected a time zone such as "Europe/Berlin", got "Berlin"',
        ),
        (
            f'{PLACE}freeze = [{{ from = "2026-01-02T00:00", rule = "FREQ=DAILY" }}]',
            "environments.production.freeze.0.lasts: expected `lasts` with `rule`, and only with it",
        ),
        (
            f'{PLACE}freeze = [{{ from = "2026-01-02T00:00", rule = "FREQ=MINUTELY", lasts = "1m" }}]',
            "environments.production.freeze.0.rule: expected a rule that is met once an hour at most",
        ),
        (
            f'{PLACE}freeze = [{{ from = "2026-01-02T00:00", rule = "FREQ=OFTEN", lasts = "1m" }}]',
            "environments.production.freeze.0.rule: expected a rule of RFC 5545 such as "
            '"FREQ=WEEKLY;BYDAY=FR", got "FREQ=OFTEN" (invalid \'FREQ\': OFTEN)',
        ),
    ],
)
def test_a_mistake_is_told_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)

    with pytest.raises(ConfigInvalid) as caught:
        load_delivery_policy(tmp_path)

    assert str(caught.value) == f"{FILE}: 1 problem\n  {said}"

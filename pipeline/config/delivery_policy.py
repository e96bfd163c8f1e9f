"""The rules of deployments: `ci/policies/delivery.toml`, which says who may bring what where, and when.

`deploy.policy` judges by them. A project without the file has the rules that need no names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - read at run time by the check
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final, NewType

from pipeline.config.load import read_toml
from pipeline.config.values import ConfigInvalid, Problem, Seconds, Times, show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE: Final = "ci/policies/delivery.toml"
SIGNERS: Final = "ci/policies/allowed_signers"
"""The ssh keys whose approvals count, one a line, as `ssh-keygen` reads them."""
EVERYBODY: Final = "*"
WEEK_S: Final = 7 * 86400.0
Moment = NewType("Moment", datetime)  # 2026-12-18T18:00:00, or that as a string; with an offset or without


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRules:
    """`roles.NAME`: who has a role. Names are compared letter by letter."""

    actors: tuple[str, ...] = ()  # people, as git's `user.email` or the forge calls them
    subjects: tuple[str, ...] = ()  # of a CI's identity token, such as "repo:org/app:environment:production"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRules:
    """`environments.NAME.approvals`: who else must have agreed to exactly this deployment."""

    required: Times = Times(0)
    roles: tuple[str, ...] = ()  # of those who may approve; (): everybody whose key is among the signers
    not_author: bool = True  # neither who deploys nor who wrote the commit
    expires_s: Seconds = Seconds(86400.0)  # after it was given, whatever it says itself


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeRules:
    """`environments.NAME.freeze`: when nothing is deployed. Times without an offset are those of `tz`.

    Once, from `from` to `to`; or again and again: `rule` (RFC 5545) says when each begins, counted from
    `from`, and `lasts` for how long.
    """

    from_: Moment
    to: Moment | None = None
    rule: str | None = None  # "FREQ=WEEKLY;BYDAY=FR"
    lasts_s: Seconds | None = None
    tz: str = "UTC"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRules:
    """`environments.NAME`: what is asked of a deployment to it."""

    deploy: tuple[str, ...] | None = None  # roles, "*" for everybody; None: everybody, in production nobody
    branches: tuple[str, ...] = ()  # patterns; () and no `tags`: any commit
    tags: tuple[str, ...] = ()
    clean: bool = False  # nothing in the working tree differs from the commit
    evidence_max_age_s: Seconds = Seconds(
        WEEK_S
    )  # of tests and scans, and of what another environment proved
    approvals: ApprovalRules = field(default_factory=ApprovalRules)
    freeze: tuple[FreezeRules, ...] = ()
    break_glass: tuple[str, ...] = ()  # roles that may pass over every rule, with a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """All of the file. `owner` may change it, and is named whenever a rule refuses."""

    owner: str = ""
    roles: Mapping[str, RoleRules] = field(default_factory=dict)
    environments: Mapping[str, EnvironmentRules] = field(default_factory=dict)

    def rules_of(self, environment: str) -> EnvironmentRules:
        """Return what is asked in an environment; in production somebody has to be named."""
        rules = self.environments.get(environment, EnvironmentRules())
        if rules.deploy is not None:
            return rules
        return replace(rules, deploy=() if environment.startswith("prod") else (EVERYBODY,))


def load_delivery_policy(root: Path) -> DeliveryPolicy:
    """Read the project's rules; a project without the file has the default ones.

    Raises:
        ConfigUnreadable: The file is not TOML in UTF-8.
        ConfigInvalid: Something in it cannot be used; carries every problem.
    """
    values = read_toml(root / FILE, FILE)
    if not values:
        return DeliveryPolicy()
    from pipeline.config import check

    problems = check.find_problems_of(values, DeliveryPolicy)
    if not problems:
        policy = check.parse_as(values, DeliveryPolicy)
        problems = list(_find_misfits(policy))
        if not problems:
            return policy
    raise ConfigInvalid([Problem(source=FILE, path=path, message=message) for path, message in problems])


def _find_misfits(policy: DeliveryPolicy) -> Iterator[tuple[str, str]]:
    """What does not fit together, though each value by itself can be used: path and sentence."""
    roles = list(policy.roles)
    for name, rules in policy.environments.items():
        path = f"environments.{name}"
        asked = {"deploy": rules.deploy or (), "break_glass": rules.break_glass}
        asked["approvals.roles"] = rules.approvals.roles
        for key, named in asked.items():
            for role in named:
                if role not in policy.roles and not (key == "deploy" and role == EVERYBODY):
                    yield f"{path}.{key}", f"there is no role {show(role)}{suggest(role, roles)}"
        for number, freeze in enumerate(rules.freeze):
            for key, message in _freeze_misfits(freeze):
                yield f"{path}.freeze.{number}.{key}", message


def _freeze_misfits(freeze: FreezeRules) -> Iterator[tuple[str, str]]:
    zone = find_zone(freeze.tz)
    if zone is None:
        yield "tz", f'expected a time zone such as "Europe/Berlin", got {show(freeze.tz)}'
    if (freeze.to is None) == (freeze.rule is None):
        yield "to", "expected one of `to` and `rule`"
    if (freeze.rule is None) != (freeze.lasts_s is None):
        yield "lasts", "expected `lasts` with `rule`, and only with it"
    if zone and freeze.to and at_zone(freeze.to, zone) <= at_zone(freeze.from_, zone):
        yield "to", "expected a time after `from`"
    if freeze.rule is not None:
        why = _rule_misfit(freeze.rule)
        if why:
            yield "rule", why


def _rule_misfit(rule: str) -> str:
    from dateutil.rrule import rrulestr

    if re.search(r"FREQ=(SECONDLY|MINUTELY)", rule, re.IGNORECASE):
        return "expected a rule that is met once an hour at most"
    if "\n" in rule or "DTSTART" in rule.upper():
        return "expected one rule; where it begins is said by `from`"
    try:
        rrulestr(rule, dtstart=datetime(2026, 1, 1, tzinfo=UTC))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f'expected a rule of RFC 5545 such as "FREQ=WEEKLY;BYDAY=FR", got {show(rule)} ({error})'
    return ""


def find_zone(name: str) -> tzinfo | None:
    """Return a time zone by its name in the IANA database, or None."""
    from dateutil import tz

    zone: tzinfo | None = tz.gettz(name) if name else None
    return zone


def at_zone(moment: datetime, zone: tzinfo) -> datetime:
    """Return a moment of known offset; one without is the zone's local time."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)

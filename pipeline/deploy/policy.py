"""Says whether a deployment may go on, by the rules of `ci/policies/delivery.toml`: pure, from facts.

Each refusal names its rule and who may change it. All rules are judged: refusals are told at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence  # noqa: TC003 - Mapping is read at run time
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from pipeline.config.delivery_policy import EVERYBODY, FILE, DeliveryPolicy, EnvironmentRules
from pipeline.deploy.approval import Given, Wanted, find_flaw
from pipeline.deploy.freeze import find_frozen
from pipeline.digest import Digest, digest_text
from pipeline.errors import RefusedByPolicy
from pipeline.text import some

if TYPE_CHECKING:
    from pipeline.deploy.history import Kind
    from pipeline.deploy.promotion import Promotion

CLOCKS_APART_S: Final = 300.0
HOUR_S: Final = 3600.0
REASON_WORDS: Final = 2
UNRULED: Final = "local"
"""Where people try what they have just written, the rules among it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a deployment before anything is done. Times are seconds since 1970.

    `evidence` maps what must have been shown (a stage, a scan) to when it was; None: it was not.
    `policy_changed` says that files under `ci/policies` are other than the commit has them.
    """

    environment: str
    kind: Kind = "deploy"
    actor: str
    subject: str = ""  # of the CI's identity token, checked by who asked for it
    branch: str = ""
    tags: tuple[str, ...] = ()
    commit: str = ""
    author: str = ""  # of the commit
    dirty: bool = False
    policy_changed: bool = False
    release: str
    images: Mapping[str, str]  # service to digest
    plan: str  # digest
    now: float
    approvals: tuple[Given, ...] = ()
    evidence: Mapping[str, float | None] = field(default_factory=dict)
    promotion: Promotion | None = None
    break_glass: str = ""  # the reason for passing over the rules; "" is not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One rule that forbids a deployment: its path in the file, and why."""

    rule: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, of what. `passed_over` are rules that forbade it, and were broken for a reason.

    `inputs` is the digest of facts and rules: an auditor who has both can decide again.
    """

    allowed: bool
    roles: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()
    passed_over: tuple[Refusal, ...] = ()
    inputs: Digest


class DeploymentRefused(RefusedByPolicy):
    """Rules forbid a deployment; every one of them is told, with who may change them."""

    def __init__(self, facts: Facts, decision: Decision, owner: str) -> None:
        lines = [f"{one.what} (rule `{one.rule}`)" for one in decision.refusals]
        text = f" {lines[0]}" if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
        super().__init__(f"cannot {facts.kind} to `{facts.environment}`:{text}")
        self.decision = decision
        self.hint = f"`{FILE}` holds the rules; {owner or 'who owns the project'} may change them"


def roles_of(policy: DeliveryPolicy, actor: str, subject: str = "") -> tuple[str, ...]:
    """Return the roles somebody has, by name or by a CI's subject, compared letter by letter; sorted."""
    has = (
        name
        for name, role in policy.roles.items()
        if (actor and actor in role.actors) or (subject and subject in role.subjects)
    )
    return tuple(sorted(has))


def who_can_deploy(policy: DeliveryPolicy, environment: str) -> tuple[str, ...]:
    """Return the names and subjects that may deploy there, sorted; "*" for everybody."""
    found: set[str] = set()
    for role in policy.rules_of(environment).deploy or ():
        rules = policy.roles.get(role)
        found |= {*rules.actors, *rules.subjects} if rules else {role}
    return tuple(sorted(found))


def decide(policy: DeliveryPolicy, facts: Facts) -> Decision:
    """Judge every rule of the environment.

    Who goes back to what has run there before (`rollback`) needs to be who may deploy, and no more: nothing
    may stand between a bad release and the last good one.
    """
    rules = policy.rules_of(facts.environment)
    roles = roles_of(policy, facts.actor, facts.subject)
    found = [*_refuse_actor(rules, facts, roles)]
    if facts.kind != "rollback":
        found += _refuse_source(rules, facts)
        found += _refuse_evidence(rules, facts)
        found += _refuse_promotion(facts)
        found += _refuse_frozen(rules, facts)
        found += _refuse_approvals(policy, rules, facts)
    found = [Refusal(rule=f"environments.{facts.environment}.{one.rule}", what=one.what) for one in found]
    if facts.policy_changed and facts.environment != UNRULED:
        # Who could change the rules on the way to a deployment would be bound by none.
        found.insert(0, Refusal(rule="owner", what="the rules here are other than those of the commit"))
    inputs = digest_text(json.dumps([asdict(facts), asdict(policy)], sort_keys=True, default=str))
    passed, left = _break_glass(rules, facts, roles, found)
    return Decision(allowed=not left, roles=roles, refusals=left, passed_over=passed, inputs=inputs)


def require(policy: DeliveryPolicy, facts: Facts) -> Decision:
    """Return the decision that allows it.

    Raises:
        DeploymentRefused: Rules forbid it; carries the decision.
    """
    decision = decide(policy, facts)
    if not decision.allowed:
        raise DeploymentRefused(facts, decision, policy.owner)
    return decision


def _refuse_actor(rules: EnvironmentRules, facts: Facts, roles: Sequence[str]) -> Iterator[Refusal]:
    allowed = rules.deploy or ()
    if EVERYBODY in allowed or set(allowed) & set(roles):
        return
    who = f"`{facts.actor}`" + (f" (`{facts.subject}`)" if facts.subject else "")
    if not allowed:
        yield Refusal(rule="deploy", what=f"nothing says that {who} may deploy there, or anybody")
    else:
        has = f"has {_list(roles)}" if roles else "has none"
        yield Refusal(rule="deploy", what=f"who deploys there needs the role {_list(allowed)}; {who} {has}")


def _refuse_source(rules: EnvironmentRules, facts: Facts) -> Iterator[Refusal]:
    """Branch, tag and tree: where what is deployed comes from."""
    on_branch = any(fnmatchcase(facts.branch, pattern) for pattern in rules.branches if facts.branch)
    tagged = any(fnmatchcase(tag, pattern) for tag in facts.tags for pattern in rules.tags)
    if (rules.branches or rules.tags) and not (on_branch or tagged):
        asked = [f"is on branch {_list(rules.branches)}"] if rules.branches else []
        asked += [f"has a tag {_list(rules.tags)}"] if rules.tags else []
        at = f"branch `{facts.branch}`" if facts.branch else "no branch"
        at += f", with tag {_list(facts.tags)}" if facts.tags else ""
        what = f"only what {' or '.join(asked)} goes there; this is on {at}"
        yield Refusal(rule="branches" if rules.branches else "tags", what=what)
    if rules.clean and facts.dirty:
        yield Refusal(rule="clean", what="the working tree has changes that are in no commit")


def _refuse_evidence(rules: EnvironmentRules, facts: Facts) -> Iterator[Refusal]:
    """How old is what was shown."""
    limit = rules.evidence_max_age_s
    for name, at in sorted(facts.evidence.items()):
        if at is None:
            what = f"`{name}` has not passed for this commit"
        elif at > facts.now + CLOCKS_APART_S:
            what = f"`{name}` passed in the future, by this clock"
        elif facts.now - at > limit:
            hours = (facts.now - at) / HOUR_S
            what = f"`{name}` passed {hours:.0f} h ago, and that counts for {limit / HOUR_S:.0f} h"
        else:
            continue
        yield Refusal(rule="evidence_max_age", what=what)


def _refuse_promotion(facts: Facts) -> Iterator[Refusal]:
    for name, what in (facts.promotion.problems if facts.promotion else {}).items():
        yield Refusal(rule="evidence_max_age" if name == "expired" else f"promotion.{name}", what=what)


def _refuse_frozen(rules: EnvironmentRules, facts: Facts) -> Iterator[Refusal]:
    for number, freeze in enumerate(rules.freeze):
        frozen = find_frozen(freeze, facts.now)
        if frozen is not None:
            why = f" ({freeze.reason})" if freeze.reason else ""
            what = f"it is frozen until {frozen.until:%Y-%m-%d %H:%M} {freeze.tz}{why}"
            yield Refusal(rule=f"freeze.{number}", what=what)


def _refuse_approvals(policy: DeliveryPolicy, rules: EnvironmentRules, facts: Facts) -> Iterator[Refusal]:
    asked = rules.approvals
    if not asked.required:
        return
    wanted = Wanted(
        environment=facts.environment,
        release=facts.release,
        images=facts.images,
        plan=facts.plan,
        own=frozenset(filter(None, (facts.actor, facts.author))),
    )
    good: set[str] = set()
    flaws: list[str] = []
    for given in facts.approvals:
        who = given.approval.approver
        flaw = find_flaw(given, wanted, asked, roles_of(policy, who), facts.now)
        if flaw:
            flaws.append(f"that of `{who}` does not count: {flaw}")
        else:
            good.add(who)
    if len(good) < asked.required:
        what = f"it has {len(good)} of {some(asked.required, 'approval')}"
        yield Refusal(rule="approvals", what="; ".join([what, *flaws]))


def _break_glass(
    rules: EnvironmentRules, facts: Facts, roles: Sequence[str], found: Sequence[Refusal]
) -> tuple[tuple[Refusal, ...], tuple[Refusal, ...]]:
    """Divide refusals into those that are passed over, and those that stay."""
    if not facts.break_glass or not found:
        return (), tuple(found)
    rule = f"environments.{facts.environment}.break_glass"
    if not set(rules.break_glass) & set(roles):
        needs = f"the role {_list(rules.break_glass)}" if rules.break_glass else "a role, and none is named"
        stays = Refusal(rule=rule, what=f"passing over the rules needs {needs}; `{facts.actor}` has it not")
        return (), (*found, stays)
    if len(facts.break_glass.split()) < REASON_WORDS:
        return (), (*found, Refusal(rule=rule, what="passing over the rules needs a reason in words"))
    passed = tuple(one for one in found if one.rule != "owner")
    return passed, tuple(one for one in found if one.rule == "owner")


def _list(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)

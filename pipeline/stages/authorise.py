"""Gathers what is known of a deployment, and asks the project's rules whether it may go on."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.config.delivery_policy import FILE, SIGNERS, load_delivery_policy
from pipeline.deploy.approval import read_approvals
from pipeline.deploy.history import read_history
from pipeline.deploy.policy import Facts, require
from pipeline.deploy.promotion import allow_older, judge_promotion
from pipeline.deploy.steps import plan_digest
from pipeline.stages.releases import BUILT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from pipeline.deploy.approval import Given
    from pipeline.deploy.policy import Decision
    from pipeline.deploy.promotion import Promotion
    from pipeline.deploy.release import Release
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment
    from pipeline.stages.delivery import Asked, Delivery

GIT_LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What git says of the project's folder; all empty outside git."""

    branch: str = ""
    tags: tuple[str, ...] = ()
    commit: str = ""
    author: str = ""
    dirty: bool = False
    policy_changed: bool = False


def look_at_checkout(root: Path) -> Checkout:
    """Ask git for the commit that is checked out, and what of it was changed."""
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if not commit:
        return Checkout()
    return Checkout(
        branch=_git(root, "symbolic-ref", "--short", "-q", "HEAD"),
        tags=tuple(_git(root, "tag", "--points-at", "HEAD").splitlines()),
        commit=commit,
        author=_git(root, "log", "-1", "--format=%ae"),
        dirty=bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        policy_changed=bool(_git(root, "status", "--porcelain", "--", FILE.rpartition("/")[0])),
    )


def _git(root: Path, *argv: str) -> str:
    """What git answers; "" where it has no answer, or is not there."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *argv],
            cwd=root,
            capture_output=True,
            timeout=GIT_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def author_of(root: Path, commit: str) -> str:
    """Return who wrote a commit, which need not be what is checked out; "" where git does not know."""
    return _git(root, "log", "-1", "--format=%ae", f"{commit}^{{commit}}") if commit else ""


def authorise_by(
    delivery: Delivery,
    *,
    clock: Callable[[], float] = time.time,
    subject: str = "",
) -> Callable[[Asked, Deployment, Sequence[Step]], Awaitable[Decision]]:
    """Return what holds deployments to the rules of the project.

    Args:
        subject: Of the CI's identity token, checked by who asked for it.
    """

    async def authorise(asked: Asked, deployment: Deployment, steps: Sequence[Step]) -> Decision:
        facts = await gather_facts(delivery, asked, deployment, steps, now=clock(), subject=subject)
        return require(load_delivery_policy(delivery.root), facts)

    return authorise


async def gather_facts(
    delivery: Delivery,
    asked: Asked,
    deployment: Deployment,
    steps: Sequence[Step],
    *,
    now: float,
    subject: str = "",
) -> Facts:
    """Return all that the rules judge a deployment by."""
    environment, new = asked.environment, deployment.new
    checkout = await anyio.to_thread.run_sync(look_at_checkout, delivery.root)
    promotion = None
    if environment.promote_from is not None and not environment.direct and asked.kind != "rollback":
        promotion = await _promotion(delivery, asked, deployment, now=now)
    approvals = await _approvals(delivery, asked, new.id)
    return Facts(
        environment=environment.name,
        kind=asked.kind,
        actor=delivery.actor,
        subject=subject,
        branch=checkout.branch,
        tags=checkout.tags,
        commit=new.commit,
        author=author_of(delivery.root, new.commit) or checkout.author,
        dirty=checkout.dirty,
        policy_changed=checkout.policy_changed,
        release=new.id,
        images={name: one.image_digest for name, one in new.services.items()},
        plan=plan_digest(environment.name, new.id, steps),
        now=now,
        approvals=approvals,
        promotion=promotion,
        break_glass=asked.break_glass,
    )


async def _promotion(delivery: Delivery, asked: Asked, deployment: Deployment, *, now: float) -> Promotion:
    """What the environment that has to have proved the images says of them."""
    name = asked.environment.promote_from or ""
    async with delivery.opened(delivery.environment(name)) as source:
        history = await read_history(source.state)
    rules = load_delivery_policy(delivery.root).rules_of(asked.environment.name)
    old = deployment.old
    found = judge_promotion(
        name,
        history,
        digests_to_prove(deployment.new),
        runs=digests_to_prove(old) if old is not None else None,
        contains=_is_older(delivery.root, deployment.new, old) if old is not None else None,
        max_age_s=rules.evidence_max_age_s,
        now=now,
    )
    return allow_older(found) if asked.allow_older else found


def digests_to_prove(release: Release) -> dict[str, str]:
    """Return the digests that another environment has to have proved: what was built, else everything."""
    built = {
        name: one.image_digest
        for name, one in release.services.items()
        if one.settings.image.partition(":")[0] == BUILT
    }
    return built or {name: one.image_digest for name, one in release.services.items()}


def _is_older(root: Path, new: Release, old: Release) -> bool | None:
    """Whether git says that what runs was made of later commits; None when it cannot say."""
    if not new.commit or not old.commit or new.commit == old.commit:
        return None
    if not all(_git(root, "rev-parse", "--verify", "-q", f"{one.commit}^{{commit}}") for one in (new, old)):
        return None
    return _git(root, "merge-base", new.commit, old.commit) == new.commit


async def _approvals(delivery: Delivery, asked: Asked, release: str) -> tuple[Given, ...]:
    signers = delivery.root / SIGNERS
    if not signers.is_file():
        return ()
    return await read_approvals(asked.target.state, release, signers=signers)

"""Approvals: somebody else's signed word for exactly one deployment, kept in the environment's state.

An approval is bound to environment, release, images and plan: whatever of these changes, it counts no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import rfc8785

from pipeline.deploy.records import RecordUnreadable, read_record, write_record
from pipeline.digest import digest_text
from pipeline.errors import PipelineError
from pipeline.sshkeys import SignatureBad, check, sign

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.config.delivery_policy import ApprovalRules
    from pipeline.deploy.state import State

NAMESPACE: Final = "pipeline-approval"
CLOCKS_APART_S: Final = 300.0
"""By how much the clocks of who approves and who deploys may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What is signed. Times are seconds since 1970; `images` maps services to digests."""

    environment: str
    release: str
    images: Mapping[str, str]
    plan: str  # digest
    approver: str
    given: float
    expires: float
    note: str = ""

    def text(self) -> bytes:
        """The bytes that are signed: canonical JSON (RFC 8785)."""
        return rfc8785.dumps({**asdict(self), "images": dict(self.images)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An approval as it is kept."""

    approval: str  # the text
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An approval that was found. `flaw` says why its signature does not count; "" when it does."""

    approval: Approval
    flaw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The deployment that approvals must be for; `own` are those who deploy it and who wrote it."""

    environment: str
    release: str
    images: Mapping[str, str]
    plan: str
    own: frozenset[str] = frozenset()


class ApprovalUnsound(PipelineError):
    """An approval was signed by another than it says, so it is not kept."""

    def __init__(self, says: str, signer: str) -> None:
        super().__init__(f"cannot approve as `{says}`: the key is that of `{signer}`")


async def give_approval(state: State, approval: Approval, *, key: Path, signers: Path) -> str:
    """Sign an approval and keep it; return the name of its record. One given before is replaced.

    Raises:
        KeyUnusable: The key cannot sign.
        SignatureBad: Nobody who counts has that key.
        ApprovalUnsound: The key is somebody else's.
    """
    signature = sign(approval.text(), key=key, namespace=NAMESPACE)
    signer = check(approval.text(), signature, signers=signers, namespace=NAMESPACE)
    if signer != approval.approver:
        raise ApprovalUnsound(approval.approver, signer)
    name = f"approvals/{approval.release}-{digest_text(approval.approver)[7:19]}.json"
    record = Record(approval=approval.text().decode(), signature=signature)
    _, version = await state.read(name)
    await state.write(name, write_record(record), version=version)
    return name


async def read_approvals(state: State, release: str, *, signers: Path) -> tuple[Given, ...]:
    """Return every approval of a release that is kept, with what its signature is worth.

    Raises:
        RecordUnreadable: A record is damaged beyond saying whose it was.
        KeyUnusable: Signatures cannot be checked here.
    """
    found = []
    for name in await state.names(f"approvals/{release}-"):
        data, _ = await state.read(name)
        record = read_record(data, Record, name)
        found.append(_checked(record, signers, name))
    return tuple(found)


def _checked(record: Record, signers: Path, name: str) -> Given:
    approval = read_record(record.approval.encode(), Approval, name)
    data = record.approval.encode()
    try:
        if rfc8785.dumps(json.loads(data)) != data:
            return Given(approval=approval, flaw="it is not written as it was signed")
        signer = check(data, record.signature, signers=signers, namespace=NAMESPACE)
    except SignatureBad as error:
        return Given(approval=approval, flaw=f"its signature does not count: {error.why}")
    except rfc8785.CanonicalizationError as error:
        raise RecordUnreadable(name, str(error)) from error
    if signer != approval.approver:
        return Given(approval=approval, flaw=f"it is signed by `{signer}`")
    return Given(approval=approval)


def find_flaw(given: Given, wanted: Wanted, rules: ApprovalRules, roles: Sequence[str], now: float) -> str:
    """Say why an approval does not count for a deployment; "" when it does.

    Args:
        roles: What the approver is, by the policy.
    """
    one = given.approval
    limit = min(one.expires, one.given + rules.expires_s)
    flaws = {
        given.flaw: bool(given.flaw),
        f"it is for environment `{one.environment}`": one.environment != wanted.environment,
        f"it is for release `{one.release}`": one.release != wanted.release,
        "it is for other images": dict(one.images) != dict(wanted.images),
        "it is for another plan": one.plan != wanted.plan,
        "it was given in the future, by this clock": one.given > now + CLOCKS_APART_S,
        f"it expired {(now - limit) / 60:.0f} min ago": limit <= now,
        "nobody approves what is their own": rules.not_author and _is_one_of(one.approver, wanted.own),
        f"it takes the role {' or '.join(f'`{role}`' for role in rules.roles)}": bool(rules.roles)
        and not set(rules.roles) & set(roles),
    }
    return next((flaw for flaw, is_so in flaws.items() if is_so), "")


def _is_one_of(name: str, names: frozenset[str]) -> bool:
    """Whether the name is among them, in capitals or not: nobody is two people by case."""
    return name.casefold() in {one.casefold() for one in names}

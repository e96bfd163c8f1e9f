"""Where a release came from: an in-toto statement with SLSA provenance v1, in a DSSE envelope.

A signature in the envelope is that of the program that signs tags too, over DSSE's encoding of the payload
(`ssh-keygen -Y sign -n attestation`, or gpg): whoever may sign the tag signs this, by agent or token as well.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pipeline
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.release.plan import ReleasePlan
    from pipeline.release.signing import Signer

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
PAYLOAD: Final = "application/vnd.in-toto+json"
BUILD_TYPE: Final = "urn:dagger-pipeline:release:1"
LOCAL_BUILDER: Final = "urn:dagger-pipeline:local"


class AttestationUnreadable(PipelineError):
    """What should be an attestation is none."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot read the attestation: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """An envelope, opened."""

    payload: bytes
    signatures: tuple[bytes, ...]
    subjects: Mapping[str, str]  # name to "sha256:..."
    plan: str  # digest
    statement: Mapping[str, Any] = field(repr=False)


def statement_of(plan: ReleasePlan, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the statement: what is delivered, from which commit, built by whom."""
    environ = os.environ if environ is None else environ
    source = f"git+{plan.source}" if plan.source else f"git+file:{plan.name}"
    run = _run_of(environ)
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
            for name, digest in sorted(plan.subjects().items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "source": source,
                    "ref": f"refs/tags/{plan.tag}",
                    "version": str(plan.version),
                },
                "internalParameters": {"plan": plan.digest},
                "resolvedDependencies": [
                    {"uri": f"{source}@refs/tags/{plan.tag}", "digest": {"gitCommit": plan.commit}}
                ],
            },
            "runDetails": {
                "builder": {
                    "id": _builder_of(environ),
                    "version": {"dagger-pipeline": pipeline.__version__},
                },
                "metadata": {"invocationId": run} if run else {},
            },
        },
    }


def _builder_of(environ: Mapping[str, str]) -> str:
    """Return who builds: the workflow on its forge, or this program on some machine."""
    server, workflow = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_WORKFLOW_REF")
    if server and workflow:
        return f"{server}/{workflow}"
    server, project = environ.get("CI_SERVER_URL"), environ.get("CI_PROJECT_PATH")
    return f"{server}/{project}" if server and project else LOCAL_BUILDER


def _run_of(environ: Mapping[str, str]) -> str:
    server, place, run = (environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    if server and place and run:
        return f"{server}/{place}/actions/runs/{run}/attempts/{environ.get('GITHUB_RUN_ATTEMPT', '1')}"
    return environ.get("CI_JOB_URL", "")


def envelope_of(statement: Mapping[str, Any], signer: Signer | None) -> bytes:
    """Return the envelope, signed if there is a key.

    Raises:
        CannotSign: The key cannot be used.
    """
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signatures = []
    if signer is not None:
        signature = signer.sign(to_be_signed(payload))
        signatures.append({"keyid": "", "sig": base64.b64encode(signature).decode()})
    envelope = {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": signatures,
    }
    return (json.dumps(envelope, sort_keys=True) + "\n").encode()


def to_be_signed(payload: bytes) -> bytes:
    """Return what a signature of the envelope is over: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def open_envelope(data: bytes) -> Attestation:
    """Read an envelope; its signatures are not checked here.

    Raises:
        AttestationUnreadable: It is none, or not about a release.
    """
    try:
        envelope = json.loads(data)
        if envelope["payloadType"] != PAYLOAD:
            raise AttestationUnreadable("its payload is no in-toto statement")
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = tuple(base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"])
        statement = json.loads(payload)
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
            raise AttestationUnreadable("it is no SLSA provenance v1")
        subjects = {each["name"]: f"sha256:{each['digest']['sha256']}" for each in statement["subject"]}
        if len(subjects) != len(statement["subject"]):
            raise AttestationUnreadable("it names something twice")
        plan = str(statement["predicate"]["buildDefinition"]["internalParameters"]["plan"])
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise AttestationUnreadable("it is no DSSE envelope of a release") from error
    return Attestation(
        payload=payload, signatures=signatures, subjects=subjects, plan=plan, statement=statement
    )


def is_of(data: bytes, plan: ReleasePlan, *, signed: bool) -> bool:
    """Whether an envelope that was made before is that of this plan, and signed if it has to be."""
    try:
        found = open_envelope(data)
    except AttestationUnreadable:
        return False
    return (
        found.plan == plan.digest and found.subjects == plan.subjects() and bool(found.signatures) >= signed
    )

"""Attestations fit their schemas and are signed; `verify` finds what was changed and what cannot be known."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement

from pipeline.release.provenance import (
    AttestationUnreadable,
    envelope_of,
    open_envelope,
    statement_of,
    to_be_signed,
)
from pipeline.release.publish import publish
from pipeline.release.repository import NotReleasable
from pipeline.release.signing import SignatureBad, check_signature
from pipeline.release.verify import Check, Evidence, HealthUnproved, Ran, require_health, verify
from tests.unit.release.githubserver import github
from tests.unit.release.test_release_github import forge
from tests.unit.release.test_release_publish import gpg_home  # noqa: F401 - a fixture
from tests.unit.release.world import allow, ssh_key, wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.release.plan import ReleasePlan
    from pipeline.release.signing import Signer
    from tests.unit.release.world import World

IMAGE = "sha256:" + "ab" * 32
TAG = "v0.1.0"
GITHUB_ACTIONS = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_WORKFLOW_REF": "ann/app/.github/workflows/ci.yml@refs/heads/main",
    "GITHUB_REPOSITORY": "ann/app",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
}
GITLAB_CI = {
    "CI_SERVER_URL": "https://gitlab.com",
    "CI_PROJECT_PATH": "ann/app",
    "CI_JOB_URL": "https://gitlab.com/ann/app/-/jobs/7",
}


@pytest.fixture
def plan(world: World, tmp_path: Path) -> ReleasePlan:
    world.commit("feat: begin")
    return world.plan(files=[wheel(tmp_path / "dist", "0.1.0")], images={"app": IMAGE})


@pytest.mark.parametrize(
    ("environ", "builder", "run"),
    [
        ({}, "urn:dagger-pipeline:local", None),
        (
            GITHUB_ACTIONS,
            "https://github.com/ann/app/.github/workflows/ci.yml@refs/heads/main",
            "https://github.com/ann/app/actions/runs/42/attempts/2",
        ),
        (GITLAB_CI, "https://gitlab.com/ann/app", "https://gitlab.com/ann/app/-/jobs/7"),
    ],
    ids=["laptop", "github", "gitlab"],
)
def test_the_provenance_fits_the_schema_of_slsa(
    plan: ReleasePlan, environ: Mapping[str, str], builder: str, run: str | None
) -> None:
    """Read by in-toto's own library, which knows every field; who built it is the workflow in CI."""
    made = statement_of(plan, environ)

    statement = Statement.copy_from_pb(ParseDict(made, Statement([], "x", {"a": 1}).pb.__class__()))
    statement.validate()
    provenance = ParseDict(made["predicate"], Provenance())

    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {one["name"]: one["digest"] for one in made["subject"]} == {
        name: {"sha256": digest[7:]} for name, digest in plan.subjects().items()
    }
    assert provenance.build_definition.resolved_dependencies[0].digest == {"gitCommit": plan.commit}
    assert provenance.run_details.builder.id == builder
    assert provenance.run_details.metadata.invocation_id == (run or "")


def test_an_envelope_is_dsse_and_its_signature_that_of_ssh(plan: ReleasePlan, tmp_path: Path) -> None:
    """Checked by ssh-keygen alone, as somebody without this program would."""
    signer = ssh_key(tmp_path / "keys")
    allowed = allow(tmp_path / "keys", signer)

    data = envelope_of(statement_of(plan, {}), signer)

    envelope = json.loads(data)
    payload = base64.b64decode(envelope["payload"])
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    argv = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        str(allowed),
        "-I",
        "releaser@example.org",
        "-n",
        "attestation",
    ]
    subprocess.run([*argv, "-s", str(tmp_path / "sig")], input=encoded, check=True, capture_output=True)
    found = open_envelope(data)
    assert (found.plan, found.subjects, len(found.signatures)) == (plan.digest, plan.subjects(), 1)
    assert to_be_signed(payload) == encoded


def test_a_signature_is_of_its_content_its_key_and_its_purpose(tmp_path: Path) -> None:
    signer, other = ssh_key(tmp_path / "keys"), ssh_key(tmp_path / "others")
    allowed, others = allow(tmp_path / "keys", signer), allow(tmp_path / "others", other)
    signature = signer.sign(b"content")

    assert check_signature(b"content", signature, signers=allowed) == "releaser@example.org"
    for data, text, signers in [
        (b"Content", signature, allowed),
        (b"content", signature, others),
        (b"content", other.sign(b"content"), allowed),
        (b"content", b"-----BEGIN SSH SIGNATURE-----\nnone\n", allowed),
        (b"content", b"", allowed),
    ]:
        with pytest.raises(SignatureBad):
            check_signature(data, text, signers=signers)
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", signer.key]
    for_git = subprocess.run(argv, input=b"content", capture_output=True, check=True).stdout
    with pytest.raises(SignatureBad):
        check_signature(b"content", for_git, signers=allowed)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_gpg_signs_attestations_too(gpg_home: Path) -> None:  # noqa: F811 - the fixture
    from pipeline.release.signing import Signer

    signature = Signer(kind="gpg", key="releaser@example.org").sign(b"content")

    assert check_signature(b"content", signature, signers=None) == "Releaser <releaser@example.org>"
    with pytest.raises(SignatureBad):
        check_signature(b"Content", signature, signers=None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"payloadType": "text/plain", "payload": "", "signatures": []}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": "!", "signatures": []}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": []}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": [1]}',
    ],
)
def test_what_is_no_attestation_is_said(data: bytes) -> None:
    with pytest.raises(AttestationUnreadable):
        open_envelope(data)


def released(world: World, plan: ReleasePlan, tmp_path: Path, **more: Any) -> tuple[Signer, Evidence]:
    """Release the plan, signed, and gather what speaks for it."""
    signer = ssh_key(tmp_path / "keys")
    publish(plan, world.places(signer=signer))
    evidence: dict[str, Any] = {
        "repository": world.repository,
        "remote": "origin",
        "signers": allow(tmp_path / "keys", signer),
        "files": [one.source for one in plan.files if isinstance(one.source, Path)],
        "perhaps": [tmp_path / "kept/sbom.cdx.json", tmp_path / "kept/notes.md"],
        "attestation": tmp_path / "kept/provenance.intoto.json",
        "deployments": {IMAGE: Ran(environment="production", release="r7", is_healthy=True)}.get,
        **more,
    }
    return signer, Evidence(**evidence)


def test_a_whole_release_is_good(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """Every check is told, with what was found."""
    _, evidence = released(world, plan, tmp_path)

    found = verify(TAG, evidence)

    assert (found.result, found.exit_code) == ("good", 0)
    assert [one.name for one in found.checks] == [
        "tag",
        "signature of the tag",
        "tag at `origin`",
        "attestation",
        "signature of the attestation",
        "app-0.1.0-py3-none-any.whl",
        "sbom.cdx.json",
        "production ran app",
    ]
    assert found.checks[-1].what == "`production` ran it, healthy, as r7"


def changed(evidence: Evidence, **more: Any) -> Evidence:
    import dataclasses

    return dataclasses.replace(evidence, **more)


UNKNOWN_KEY: Final = "its key is not among the allowed signers"
BAD: Final[dict[str, list[tuple[str, str]]]] = {
    "file": [("app-0.1.0-py3-none-any.whl", "its digest is not that of the tag")],
    "foreign file": [("app-9.9.9-py3-none-any.whl", "it is no file of this release")],
    "tag": [("tag", "it is no tag of a release: it carries no digests")],
    "attestation": [("attestation", "it is of another plan than the tag")],
    "signature": [("signature of the attestation", "Signature verification failed: incorrect signature")],
    "not run": [("production ran app", f"no environment of production ran {IMAGE}")],
    "not healthy": [("production ran app", "`production` ran it and was not healthy")],
    "key": [("signature of the tag", "No principal matched."), ("signature of the attestation", UNKNOWN_KEY)],
}


@pytest.mark.parametrize("kind", BAD)
def test_whatever_was_changed_is_found(world: World, plan: ReleasePlan, tmp_path: Path, kind: str) -> None:
    """One bad check makes the release bad, and names what is wrong."""
    signer, evidence = released(world, plan, tmp_path)
    place = tmp_path / "kept/provenance.intoto.json"
    if kind == "file":
        wheel(tmp_path / "dist", "0.1.0", content="evil = True\n")
    elif kind == "foreign file":
        evidence = changed(evidence, files=[*evidence.files, wheel(tmp_path / "x", "9.9.9")])
    elif kind == "tag":
        world.git("-c", "tag.gpgSign=false", "tag", "-f", "-a", "-m", "app 0.1.0", TAG)
    elif kind == "attestation":
        other = world.plan(files=[wheel(tmp_path / "other", "0.2.0")], version="0.2.0", images={"app": IMAGE})
        place.write_bytes(envelope_of(statement_of(other, {}), signer))
    elif kind == "signature":
        envelope = json.loads(place.read_bytes())
        statement = json.loads(base64.b64decode(envelope["payload"]))
        statement["predicate"]["runDetails"]["builder"]["id"] = "https://evil.example"
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        place.write_text(json.dumps(envelope), encoding="utf-8")
    elif kind == "not run":
        evidence = changed(evidence, deployments={}.get)
    elif kind == "not healthy":
        ran = Ran(environment="production", release="r7", is_healthy=False)
        evidence = changed(evidence, deployments={IMAGE: ran}.get)
    else:
        evidence = changed(evidence, signers=allow(tmp_path / "others", ssh_key(tmp_path / "others")))

    found = verify(TAG, evidence)

    assert (found.result, found.exit_code) == ("bad", 1)
    assert [(one.name, one.what) for one in found.checks if one.result == "bad"] == BAD[kind]


UNKNOWN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "signers": ({"signers": None}, ["signature of the tag", "signature of the attestation"]),
    "files": ({"files": [], "perhaps": []}, ["app-0.1.0-py3-none-any.whl", "sbom.cdx.json"]),
    "attestation": ({"attestation": None}, ["attestation"]),
    "history": ({"deployments": None}, ["production ran app"]),
}


@pytest.mark.parametrize(("without", "names"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_cannot_be_known_is_never_good(
    world: World, plan: ReleasePlan, tmp_path: Path, without: dict[str, Any], names: list[str]
) -> None:
    _, evidence = released(world, plan, tmp_path, **without)

    found = verify(TAG, evidence)

    assert (found.result, found.exit_code) == ("unknown", 6)
    assert [one.name for one in found.checks if one.result == "unknown"] == names


def test_a_tag_that_the_remote_has_not_or_otherwise_is_bad(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    _, evidence = released(world, plan, tmp_path)
    world.git("push", "-q", "--delete", "origin", TAG)

    gone = verify(TAG, evidence).checks[2]
    world.git("push", "-q", "origin", f"HEAD:refs/tags/{TAG}")
    other = verify(TAG, evidence).checks[2]

    assert gone == Check(name="tag at `origin`", result="bad", what="it is not there")
    assert other == Check(name="tag at `origin`", result="bad", what="another one")


def test_the_forges_files_are_held_against_the_tag(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """Its attestation is used; a file that was replaced there is found."""
    with github(lambda: set(world.remote_tags())) as hub:
        signer = ssh_key(tmp_path / "keys")
        publish(plan, world.places(signer=signer, forge=forge(hub)))
        allowed = allow(tmp_path / "keys", signer)
        evidence = Evidence(repository=world.repository, remote="origin", signers=allowed, forge=forge(hub))

        good = verify(TAG, evidence)
        asset = hub.releases[0]["assets"][0]
        asset["digest"] = "sha256:" + "0" * 64
        bad = verify(TAG, evidence)

    assert [one.name for one in good.checks if one.result != "good"] == ["production ran app"]
    assert [one.name for one in bad.checks if one.result == "bad"] == [asset["name"]]


def test_a_tag_that_is_not_here_is_said(world: World) -> None:
    world.commit("feat: begin")

    with pytest.raises(NotReleasable, match="there is no such tag here"):
        verify(TAG, Evidence(repository=world.repository, remote=None))


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (None, "not known here: there is no deployment history"),
        ({}, f"no environment of production ran {IMAGE}"),
        ({IMAGE: Ran(environment="production", release="r1", is_healthy=False)}, "was not healthy"),
    ],
    ids=["no history", "not run", "not healthy"],
)
def test_a_release_waits_for_production(known: dict[str, Ran] | None, why: str) -> None:
    """Images have to be proved first; a library has none."""
    with pytest.raises(HealthUnproved, match=why) as raised:
        require_health({"app": IMAGE}, known.get if known is not None else None)

    assert raised.value.exit_code == 6
    require_health({}, None)
    require_health({"app": IMAGE}, {IMAGE: Ran(environment="production", release="r1", is_healthy=True)}.get)

"""Whether a release is what it says: its tag, its files, where they came from, and that production ran it.

What cannot be known here is told as such and is never good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

from pipeline.digest import digest_file
from pipeline.errors import EXIT_FAILED, EXIT_OK, EXIT_WAITING, PipelineError
from pipeline.release.plan import ATTESTATION_FILE
from pipeline.release.provenance import AttestationUnreadable, open_envelope, to_be_signed
from pipeline.release.repository import GitRefused, NotReleasable
from pipeline.release.signing import SignatureBad, SignersUnknown, check_signature
from pipeline.release.tag import check_tag, differing, read_tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.release.forge import Forge
    from pipeline.release.provenance import Attestation
    from pipeline.release.repository import Repository
    from pipeline.release.tag import TagMessage

Result: TypeAlias = Literal["good", "bad", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """That an environment ran a digest, and how it went."""

    environment: str
    release: str  # as the deployment history calls it
    is_healthy: bool


Deployments: TypeAlias = Callable[[str], "Ran | None"]
"""Given the digest of an image, how production ran it; None when it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    result: Result
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a release is held against."""

    repository: Repository
    remote: str | None
    signers: Path | None = None  # of ssh keys that count
    files: Sequence[Path] = ()  # that have to be of the release
    perhaps: Sequence[Path] = ()  # that may be, by their names
    attestation: Path | None = None  # None: the forge's
    forge: Forge | None = None
    deployments: Deployments | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """All checks of a release, in their order."""

    tag: str
    checks: tuple[Check, ...]

    @property
    def result(self) -> Result:
        results = {one.result for one in self.checks}
        return "bad" if "bad" in results else "unknown" if "unknown" in results else "good"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.result]


EXIT_CODES: Final[dict[Result, int]] = {"good": EXIT_OK, "bad": EXIT_FAILED, "unknown": EXIT_WAITING}


def verify(tag: str, evidence: Evidence) -> Verified:
    """Look at everything a release claims.

    Raises:
        NotReleasable: There is no such tag here.
        PipelineError: The remote or the forge cannot be asked.
    """
    repository = evidence.repository
    try:
        message = read_tag(repository, tag)
    except GitRefused as error:
        missing = NotReleasable(f"cannot verify `{tag}`: there is no such tag here")
        missing.hint = "`git fetch --tags`"
        raise missing from error
    if message is None:
        check = Check(name="tag", result="bad", what="it is no tag of a release: it carries no digests")
        return Verified(tag=tag, checks=(check,))
    return Verified(
        tag=tag,
        checks=(
            Check(name="tag", result="good", what="annotated, and carries digests"),
            _signature(tag, message, evidence),
            *_remote(tag, evidence),
            *_attestation(tag, message, evidence),
            *_files(tag, message, evidence),
            *_production(message, evidence),
        ),
    )


def _signature(tag: str, message: TagMessage, evidence: Evidence) -> Check:
    name = "signature of the tag"
    if not message.is_signed:
        return Check(name=name, result="unknown", what="the tag is not signed: nothing proves who made it")
    try:
        who = check_tag(evidence.repository, tag, evidence.signers)
    except SignersUnknown as error:
        return Check(name=name, result="unknown", what=f"{error}; {error.hint}")
    except SignatureBad as error:
        return Check(name=name, result="bad", what=error.why)
    return Check(name=name, result="good", what=who)


def _remote(tag: str, evidence: Evidence) -> list[Check]:
    if evidence.remote is None:
        return []
    name = f"tag at `{evidence.remote}`"
    there = evidence.repository.remote_tags(evidence.remote).get(tag)
    if there is None:
        return [Check(name=name, result="bad", what="it is not there")]
    here = evidence.repository.git("rev-parse", f"refs/tags/{tag}", what="find the tag").decode().strip()
    is_same = there[0] == here
    return [
        Check(name=name, result="good" if is_same else "bad", what="the same" if is_same else "another one")
    ]


def _attestation(tag: str, message: TagMessage, evidence: Evidence) -> list[Check]:
    name = "attestation"
    data = _attestation_data(tag, evidence)
    if data is None:
        return [Check(name=name, result="unknown", what="there is none here; name it with --attestation")]
    try:
        found = open_envelope(data)
    except AttestationUnreadable as error:
        return [Check(name=name, result="bad", what=str(error))]
    if found.plan != message.plan:
        return [Check(name=name, result="bad", what="it is of another plan than the tag")]
    if wrong := differing(message.subjects, found.subjects):
        return [Check(name=name, result="bad", what=f"it and the tag differ: {', '.join(wrong)}")]
    return [
        Check(name=name, result="good", what="the digests of the tag"),
        _signed(found, evidence),
    ]


def _attestation_data(tag: str, evidence: Evidence) -> bytes | None:
    if evidence.attestation is not None:
        try:
            return evidence.attestation.read_bytes()
        except OSError as error:
            raise AttestationUnreadable((error.strerror or str(error)).lower()) from error
    return evidence.forge.download(tag, ATTESTATION_FILE) if evidence.forge is not None else None


def _signed(found: Attestation, evidence: Evidence) -> Check:
    name = "signature of the attestation"
    if not found.signatures:
        return Check(name=name, result="unknown", what="it is not signed: nothing proves who made it")
    why = ""
    for signature in found.signatures:  # as DSSE has it, one that counts is enough
        try:
            who = check_signature(to_be_signed(found.payload), signature, signers=evidence.signers)
        except SignatureBad as error:
            why = error.why
        except SignersUnknown as error:
            return Check(name=name, result="unknown", what=f"{error}; {error.hint}")
        else:
            return Check(name=name, result="good", what=who)
    return Check(name=name, result="bad", what=why)


def _files(tag: str, message: TagMessage, evidence: Evidence) -> list[Check]:
    """Hold the files that lie here and those the forge shows against the tag."""
    checks = []
    shown = evidence.forge.files(tag) if evidence.forge is not None else None
    if evidence.forge is not None and shown is None:
        checks.append(Check(name="forge", result="bad", what="it shows no release of this tag"))
    candidates = {path.name: path for path in evidence.perhaps if path.name in message.files}
    here = {
        name: str(digest_file(path))
        for name, path in {**candidates, **{path.name: path for path in evidence.files}}.items()
    }
    for name, digest in message.files.items():
        found = [table[name] for table in (here, shown or {}) if name in table]
        if shown is not None and name not in shown:
            checks.append(Check(name=name, result="bad", what="the forge does not have it"))
        elif not found:
            checks.append(Check(name=name, result="unknown", what="it is not here to be looked at"))
        elif any(one != digest for one in found):
            checks.append(Check(name=name, result="bad", what="its digest is not that of the tag"))
        else:
            checks.append(Check(name=name, result="good", what=digest))
    for name in sorted(here.keys() - message.files.keys()):
        checks.append(Check(name=name, result="bad", what="it is no file of this release"))
    return checks


def _production(message: TagMessage, evidence: Evidence) -> list[Check]:
    """Ask the deployment history for each image."""
    return [_ran(name, digest, evidence.deployments) for name, digest in sorted(message.images.items())]


def _ran(name: str, digest: str, deployments: Deployments | None) -> Check:
    title = f"production ran {name}"
    if deployments is None:
        return Check(name=title, result="unknown", what="not known here: there is no deployment history")
    ran = deployments(digest)
    if ran is None:
        return Check(name=title, result="bad", what=f"no environment of production ran {digest}")
    if not ran.is_healthy:
        return Check(name=title, result="bad", what=f"`{ran.environment}` ran it and was not healthy")
    return Check(name=title, result="good", what=f"`{ran.environment}` ran it, healthy, as {ran.release}")


def require_health(images: Mapping[str, str], deployments: Deployments | None) -> None:
    """Refuse to release images that production is not known to have proved.

    Raises:
        HealthUnproved: Production did not run one, was not healthy with it, or nothing is known of it.
    """
    for name, digest in sorted(images.items()):
        check = _ran(name, digest, deployments)
        if check.result != "good":
            raise HealthUnproved(name, check.what)


class HealthUnproved(PipelineError):
    """The release waits for production to prove an image."""

    exit_code: ClassVar[int] = EXIT_WAITING

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot release the image `{name}` before production proved it: {why}")
        self.hint = '`when = "before_deploy"` in [tool.pipeline.release] is for what is not deployed'

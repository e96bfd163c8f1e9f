"""Tags of releases: annotated, signed where that is configured, carrying the digests; pushed, never moved."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_text
from pipeline.errors import RefusedByPolicy
from pipeline.release.history import TagElsewhere
from pipeline.release.repository import REMOTE_LIMIT_S, GitRefused
from pipeline.release.signing import SignatureBad, SignersUnknown, configured
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.release.plan import ReleasePlan
    from pipeline.release.repository import Repository
    from pipeline.release.signing import Signer

LINE: Final = re.compile(
    r"(?:Plan: (?P<plan>sha256:[0-9a-f]{64}))"
    r"|(?:Notes: (?P<notes>sha256:[0-9a-f]{64}))"
    r"|(?:(?P<kind>File|Image): (?P<name>\S+) (?P<digest>sha256:[0-9a-f]{64}))"
)
SIGNATURES: Final = ("-----BEGIN SSH SIGNATURE-----", "-----BEGIN PGP SIGNATURE-----")
NOBODY: Final[Mapping[str, str]] = {"NAME": "pipeline", "EMAIL": "pipeline@localhost"}


class NotOurTag(RefusedByPolicy):
    """The tag is on the right commit, but is not that of this plan."""

    def __init__(self, tag: str, why: str) -> None:
        super().__init__(f"cannot release `{tag}`: the tag is there already, and {why}")
        self.hint = "release another version (--version); or delete the tag if nobody has used it"


class TagRejected(RefusedByPolicy):
    """The remote would not take the tag; it was removed here again."""

    def __init__(self, tag: str, remote: str, said: str) -> None:
        super().__init__(
            f"cannot push the tag `{tag}`: `{remote}` refused it, and it was removed here: {said}"
        )
        self.hint = "its rules for tags, or a hook, have to allow this; then run the release again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMessage:
    """What a release's tag says."""

    plan: str  # digest
    notes: str  # digest
    files: Mapping[str, str]  # name to digest
    images: Mapping[str, str]
    is_signed: bool

    @property
    def subjects(self) -> dict[str, str]:
        """Name and digest of everything that is delivered."""
        return {**self.images, **self.files}


def tag_message(plan: ReleasePlan) -> str:
    """Write the message: a title, and a line for each digest. Nothing in it comes from commit messages."""
    lines = [
        f"{plan.name} {plan.version}",
        "",
        f"Plan: {plan.digest}",
        f"Notes: {digest_text(plan.notes)}",
        *(f"Image: {name} {digest}" for name, digest in plan.images),
        *(f"File: {one.name} {one.digest}" for one in plan.files),
    ]
    return "\n".join(lines) + "\n"


def read_tag(repository: Repository, name: str) -> TagMessage | None:
    """Read an annotated tag's message; None for a tag that is no release's.

    Raises:
        GitRefused: There is no such tag.
    """
    return _read(repository, f"refs/tags/{name}", f"read the tag `{name}`")


def _read(repository: Repository, thing: str, what: str) -> TagMessage | None:
    if repository.git("cat-file", "-t", thing, what=what).strip() != b"tag":
        return None
    text = repository.git("cat-file", "tag", thing, what=what).decode("utf-8", "replace")
    message = text.partition("\n\n")[2]
    starts = [at for mark in SIGNATURES if (at := message.find(f"\n{mark}")) >= 0]
    body = message[: min(starts)] if starts else message
    found = [match for line in body.splitlines() if (match := LINE.fullmatch(line))]
    plans = [match["plan"] for match in found if match["plan"]]
    notes = [match["notes"] for match in found if match["notes"]]
    named = [match for match in found if match["name"]]
    if len(plans) != 1 or len(notes) != 1 or len({match["name"] for match in named}) != len(named):
        return None
    files, images = (
        {match["name"]: match["digest"] for match in named if match["kind"] == kind}
        for kind in ("File", "Image")
    )
    return TagMessage(plan=plans[0], notes=notes[0], files=files, images=images, is_signed=bool(starts))


def has_tag(repository: Repository, plan: ReleasePlan, signer: Signer | None) -> bool:
    """Whether this plan's tag is there.

    Raises:
        TagElsewhere: A tag of the name is on another commit.
        NotOurTag: It is on this commit but not of this plan, or not signed as it should be.
    """
    asked = ("rev-parse", "--verify", "--quiet", f"refs/tags/{plan.tag}^{{commit}}")
    commit = repository.git(*asked, what="find the tag", ok=(0, 1, 128)).decode().strip()
    if not commit:
        return False
    if commit != plan.commit:
        raise TagElsewhere(plan.tag, commit, "this repository")
    message = read_tag(repository, plan.tag)
    if message is None:
        raise NotOurTag(plan.tag, "does not say which release it is")
    if message.plan != plan.digest:
        raise NotOurTag(plan.tag, f"is of another plan: {_differences(plan, message)}")
    if signer is not None and not message.is_signed:
        raise NotOurTag(plan.tag, "is not signed")
    return True


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names whose digests are not the same, or that one does not have."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def _differences(plan: ReleasePlan, message: TagMessage) -> str:
    names = differing(plan.subjects(), message.subjects)
    if digest_text(plan.notes) != message.notes:
        names.append("the notes")
    return ", ".join(names) or "the name of the project"


def create_tag(repository: Repository, plan: ReleasePlan, signer: Signer | None) -> None:
    """Make the tag here.

    Raises:
        GitRefused: Git would not, or the key could not be used.
    """
    sign = (
        (*signer.git_options(), "tag", "--sign") if signer is not None else ("tag", "--no-sign", "--annotate")
    )
    repository.git(
        *_identity(repository),
        *sign,
        *("--cleanup=verbatim", "--file=-", "--end-of-options", plan.tag, plan.commit),
        what=f"make the tag `{plan.tag}`",
        given=tag_message(plan).encode(),
    )


def _identity(repository: Repository) -> tuple[str, ...]:
    """Options that say who tags, on a machine where nobody told git."""
    options: list[str] = []
    for word, value in NOBODY.items():
        known = os.environ.get(f"GIT_COMMITTER_{word}") or configured(repository, f"user.{word.lower()}")
        options += [] if known else ["-c", f"user.{word.lower()}={value}"]
    return tuple(options)


def remove_tag(repository: Repository, name: str) -> None:
    """Remove a tag here; one that is gone is no error."""
    repository.git("tag", "--delete", "--end-of-options", name, what=f"remove the tag `{name}`", ok=(0, 1))


def push_tag(repository: Repository, plan: ReleasePlan, remote: str) -> None:
    """Push the tag, and with it those that follow it, all or none. What is there already stays as it is.

    A tag that the remote refuses is removed here, so that no later push brings it along. Where another
    machine has pushed this plan's tag, that one is taken.

    Raises:
        TagElsewhere: The remote has it on another commit.
        TagRejected: The remote refused it.
        GitRefused: The remote could not be reached: the tag stays, and the release can go on.
    """
    before = repository.remote_tags(remote)
    if _is_another(repository, plan, before):
        _adopt(repository, plan, remote, before[plan.tag][0])
    leases, moves = _follow(plan, before)
    argv = ("push", "--atomic", "--porcelain", "--no-follow-tags", *leases, "--end-of-options", remote)
    refs = (f"refs/tags/{plan.tag}:refs/tags/{plan.tag}", *moves)
    try:
        repository.git(*argv, *refs, what=f"push the tag `{plan.tag}`", limit_s=REMOTE_LIMIT_S)
    except GitRefused as error:
        after = repository.remote_tags(remote)  # unreachable: raises, and the tag stays
        if plan.tag in after:
            if after[plan.tag][1] != plan.commit:
                remove_tag(repository, plan.tag)
                raise TagElsewhere(plan.tag, after[plan.tag][1], f"`{remote}`") from error
            if _is_another(repository, plan, after):
                _adopt(repository, plan, remote, after[plan.tag][0])
            if not _lag(plan, after):
                return  # pushed, and only the answer was lost; or another machine was faster
            raise
        remove_tag(repository, plan.tag)
        if "rejected]" in error.said:
            raise TagRejected(plan.tag, remote, _why(error.said)) from error
        raise


def is_pushed(repository: Repository, plan: ReleasePlan, remote: str) -> bool:
    """Whether the remote has the tag as it is here, and those that follow it.

    Raises:
        TagElsewhere: The remote has it on another commit.
        NotOurTag: The remote has another tag of the name on the commit.
    """
    there = repository.remote_tags(remote)
    if plan.tag not in there:
        return False
    sha, commit = there[plan.tag]
    if commit != plan.commit:
        raise TagElsewhere(plan.tag, commit, f"`{remote}`")
    if _is_another(repository, plan, there):
        _require_ours(repository, plan, remote, sha)
        return False
    return not _lag(plan, there)


def _is_another(repository: Repository, plan: ReleasePlan, there: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the remote has a tag of the name on the commit that is not the one here."""
    asked = ("rev-parse", "--verify", "--quiet", f"refs/tags/{plan.tag}")
    here = repository.git(*asked, what="find the tag", ok=(0, 1)).decode().strip()
    sha, commit = there.get(plan.tag, ("", ""))
    return bool(here) and commit == plan.commit and here != sha


def _require_ours(repository: Repository, plan: ReleasePlan, remote: str, sha: str) -> None:
    """Refuse a remote's tag that is not of this plan. It is fetched, and no name is given to it here.

    Raises:
        NotOurTag: It is of another plan, or of none.
    """
    what = f"read the tag `{plan.tag}` of `{remote}`"
    fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options", remote)
    repository.git(*fetch, f"refs/tags/{plan.tag}", what=what, limit_s=REMOTE_LIMIT_S)
    message = _read(repository, sha, what)
    if message is None or message.plan != plan.digest:
        raise NotOurTag(plan.tag, f"`{remote}` has another one on the same commit")


def _adopt(repository: Repository, plan: ReleasePlan, remote: str, sha: str) -> None:
    """Take the remote's tag of this plan in place of the one here, which nobody has seen."""
    _require_ours(repository, plan, remote, sha)
    name = f"refs/tags/{plan.tag}"
    repository.git("update-ref", name, sha, what=f"take the tag `{plan.tag}` of `{remote}`")


def _lag(plan: ReleasePlan, there: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the floating tags that are not where they belong."""
    return [name for name in plan.floating if name not in there or there[name][1] != plan.commit]


def _follow(plan: ReleasePlan, there: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return the leases and refs that move the floating tags, only from where they were seen."""
    leases, refs = [], []
    for name in _lag(plan, there):
        seen = there[name][0] if name in there else ""
        leases.append(f"--force-with-lease=refs/tags/{name}:{seen}")
        refs.append(f"{plan.commit}:refs/tags/{name}")
    return leases, refs


def _why(said: str) -> str:
    """Return the lines in which the remote says why, in one."""
    lines = [line.removeprefix("remote:").strip() for line in said.splitlines() if line.startswith("remote:")]
    reason = re.search(r"\[remote rejected\][^\n]*\((.+)\)|^!\t[^\n]*\((.+)\)$", said, re.MULTILINE)
    words = [*(line for line in lines if line), *([reason[1] or reason[2]] if reason else [])]
    return "; ".join(words)[:500] or said[-500:]


def check_tag(repository: Repository, name: str, signers: Path | None) -> str:
    """Return who signed a tag, as git tells it.

    Raises:
        SignatureBad: The signature is bad, of no key that counts, or there is none.
        SignersUnknown: It is of ssh, and nothing says whose keys count.
    """
    options = ("-c", f"gpg.ssh.allowedSignersFile={signers}") if signers is not None else ()
    argv = (*options, "verify-tag", f"refs/tags/{name}")
    code, _, said = repository.ask(*argv, what=f"check the tag `{name}`")
    lines = [line.strip() for line in clean(said.decode(errors="replace")).splitlines() if line.strip()]
    if code == 0:
        good = [line for line in lines if "Good " in line]
        return (good or lines or ["signed"])[0].removeprefix("gpg: ")
    if any("allowedSignersFile needs to be configured" in line for line in lines):
        raise SignersUnknown
    raise SignatureBad(f"the tag `{name}`", lines[-1] if lines else "it has no signature")

"""The forge a release is shown at: one protocol, and which one the settings mean.

A release is prepared where only its makers see it, with its files; it is shown after its tag is there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from pipeline.errors import RefusedByPolicy, UsageError
from pipeline.release.remote import to_web_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.release import ReleaseSettings
    from pipeline.release.plan import Delivered, ReleasePlan

MARK: Final = re.compile(r"<!-- plan: (sha256:[0-9a-f]{64}) -->\s*$")


class ForgeUnknown(UsageError):
    """Nothing says where the repository lives on its forge."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot make a release at the forge: {what}")
        self.hint = 'set `forge_repository` ("owner/name") and `forge_api` in [tool.pipeline.release]'


class ForgeConflict(RefusedByPolicy):
    """The forge has a release of this tag that is not ours to change."""

    def __init__(self, tag: str, why: str) -> None:
        super().__init__(f"cannot make the release `{tag}` at the forge: {why}")


class Forge(Protocol):
    """A place that shows releases. Every method looks at the world first; each may be called again."""

    def check(self, plan: ReleasePlan) -> None:
        """Refuse what stands in the way; changes nothing.

        Raises:
            ForgeConflict: There is such a release, not made for this plan.
        """

    def is_prepared(self, plan: ReleasePlan, files: Sequence[Delivered]) -> bool:
        """Whether all these files are there."""

    def prepare(self, plan: ReleasePlan, files: Sequence[Delivered]) -> None:
        """Bring what is not there, and replace what differs while nobody has seen it."""

    def is_published(self, plan: ReleasePlan) -> bool:
        """Whether people see the release."""

    def publish(self, plan: ReleasePlan, files: Sequence[Delivered]) -> None:
        """Show the release, with these files, to people. The tag has to be there."""

    def files(self, tag: str) -> Mapping[str, str] | None:
        """Name and digest of the files of a release that is shown; None when there is none."""

    def download(self, tag: str, name: str) -> bytes | None:
        """One file of a release, also of one that is only prepared; None when it is not there."""


def body_of(plan: ReleasePlan) -> str:
    """Return the notes with the mark that tells whose release it is."""
    return f"{plan.notes}\n<!-- plan: {plan.digest} -->\n"


def plan_of(body: str | None) -> str | None:
    """Return the digest of the plan that a release was made for; None when it was not made by us."""
    match = MARK.search(body or "")
    return match[1] if match else None


def open_forge(
    settings: ReleaseSettings, remote_url: str, environ: Mapping[str, str], ca_bundle: str = ""
) -> Forge | None:
    """Return the forge of the settings; None for none. No request is made.

    Tokens: `GITHUB_TOKEN` or `GH_TOKEN`; `GITLAB_TOKEN`, or in its CI `CI_JOB_TOKEN`.

    Raises:
        ForgeUnknown: The remote does not tell where the repository lives.
        UsageError: There is no token.
    """
    if settings.forge == "none":
        return None
    parts = urlsplit(to_web_address(remote_url))
    host, repository = parts.hostname or "", settings.forge_repository or parts.path.strip("/")
    if not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)+", repository):
        raise ForgeUnknown(f"`{repository}` is no owner and name")
    if settings.forge_api is None and not host:
        raise ForgeUnknown("the remote is not on the web")
    if settings.forge == "github":
        from pipeline.release import github

        api = github.api_of(settings.forge_api, host, environ, ca_bundle)
        return github.GitHub(api=api, repository=repository)
    from pipeline.release import gitlab

    return gitlab.GitLab(api=gitlab.api_of(settings.forge_api, host, environ, ca_bundle), project=repository)


def token_of(names: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the first of these variables that is set.

    Raises:
        UsageError: None is.
    """
    for name in names:
        if environ.get(name):
            return environ[name].strip()
    error = UsageError(f"cannot make a release at the forge: {' or '.join(names)} is not set")
    error.hint = "a token that may write the contents of the repository; in a workflow, `contents: write`"
    raise error

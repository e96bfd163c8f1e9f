"""Releases at GitHub, by its REST API: a draft with its assets, published when the tag is there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pipeline.release.api import Api, ApiRefused
from pipeline.release.forge import ForgeConflict, body_of, plan_of, token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.release.api import Session
    from pipeline.release.plan import Delivered, ReleasePlan

TOKENS: Final = ("GITHUB_TOKEN", "GH_TOKEN")
PAGES: Final = 20  # of a hundred releases each; drafts are among the newest
CHUNK_BYTES: Final = 1 << 20
Release = dict[str, Any]


def api_of(address: str | None, host: str, environ: Mapping[str, str], ca_bundle: str = "") -> Api:
    """Return the API of a host of GitHub.

    Raises:
        UsageError: There is no token.
    """
    usual = "https://api.github.com" if host in ("github.com", "www.github.com") else f"https://{host}/api/v3"
    return Api(
        address=(address or usual).rstrip("/"),
        headers={
            "Authorization": f"Bearer {token_of(TOKENS, environ)}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "dagger-pipeline",
        },
        ca_bundle=ca_bundle,
        access_hint="GITHUB_TOKEN needs `contents: write` for this repository",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """The releases of one repository; a `Forge`."""

    api: Api
    repository: str  # "owner/name"

    def check(self, plan: ReleasePlan) -> None:
        with self.api.open() as session:
            self._ours(session, plan)

    def is_prepared(self, plan: ReleasePlan, files: Sequence[Delivered]) -> bool:
        with self.api.open() as session:
            release = self._ours(session, plan)
            if release is None or plan_of(release.get("body")) != plan.digest:
                return False
            assets = _assets(release)
            return all(_is_same(session, assets.get(one.name), one) for one in files)

    def prepare(self, plan: ReleasePlan, files: Sequence[Delivered]) -> None:
        with self.api.open() as session:
            release = self._draft(session, plan)
            wanted = {one.name for one in files}
            for name, asset in _assets(release).items():
                if name not in wanted and release["draft"]:
                    self._remove(session, plan, asset)
            for one in files:
                self._bring(session, plan, release, one)

    def is_published(self, plan: ReleasePlan) -> bool:
        with self.api.open() as session:
            release = self._ours(session, plan)
            return release is not None and not release["draft"]

    def publish(self, plan: ReleasePlan, files: Sequence[Delivered]) -> None:
        with self.api.open() as session:
            release = self._draft(session, plan)
            if release["draft"]:
                table = {"draft": False, "make_latest": "false" if plan.is_prerelease else "legacy"}
                path = f"/repos/{self.repository}/releases/{release['id']}"
                session.json("PATCH", path, f"publish the release `{plan.tag}`", json=table)

    def files(self, tag: str) -> Mapping[str, str] | None:
        with self.api.open() as session:
            release = self._published(session, tag)
            if release is None:
                return None
            return {name: _digest(session, asset) for name, asset in _assets(release).items()}

    def download(self, tag: str, name: str) -> bytes | None:
        with self.api.open() as session:
            release = self._published(session, tag) or self._found_draft(session, tag)
            asset = _assets(release).get(name) if release is not None else None
            return _content(session, asset) if asset is not None else None

    def _published(self, session: Session, tag: str) -> Release | None:
        path = f"/repos/{self.repository}/releases/tags/{quote(tag, safe='')}"
        found: Release | None = session.json("GET", path, f"find the release `{tag}`")
        return found

    def _found_draft(self, session: Session, tag: str) -> Release | None:
        """Return the draft of a tag: drafts are only found in the list."""
        for page in range(1, PAGES + 1):
            path = f"/repos/{self.repository}/releases?per_page=100&page={page}"
            listed = session.json("GET", path, "list the releases")
            if listed is None:
                raise ForgeConflict(tag, f"`{self.repository}` is not there, or this token may not see it")
            for release in listed:
                if release["draft"] and release["tag_name"] == tag:
                    return dict(release)
            if len(listed) < 100:
                return None
        return None

    def _ours(self, session: Session, plan: ReleasePlan) -> Release | None:
        """Return the release of the plan, a draft or published; a draft may be of an earlier plan of ours.

        Raises:
            ForgeConflict: It is somebody else's, or published for another plan.
        """
        release = self._published(session, plan.tag) or self._found_draft(session, plan.tag)
        if release is None:
            return None
        made_for = plan_of(release.get("body"))
        if made_for is None:
            raise ForgeConflict(plan.tag, "there is one already that was not made by a release plan")
        if not release["draft"] and made_for != plan.digest:
            raise ForgeConflict(plan.tag, "it was published for another plan")
        return release

    def _draft(self, session: Session, plan: ReleasePlan) -> Release:
        """Return the release of the plan; make the draft where there is none, or bring it up to date."""
        path = f"/repos/{self.repository}/releases"
        what = f"draft the release `{plan.tag}`"
        table = {
            "tag_name": plan.tag,
            "target_commitish": plan.commit,
            "name": f"{plan.name} {plan.version}",
            "body": body_of(plan),
            "prerelease": plan.is_prerelease,
        }
        session.until(
            lambda: self._ours(session, plan) is not None,
            lambda: session.json("POST", path, what, json={**table, "draft": True}),
        )
        release = self._ours(session, plan)
        if release is None:
            raise ForgeConflict(plan.tag, "the draft that was made is not there")
        if plan_of(release.get("body")) != plan.digest:
            session.json("PATCH", f"{path}/{release['id']}", what, json=table)
            release = self._ours(session, plan) or release
        return release

    def _bring(self, session: Session, plan: ReleasePlan, release: Release, one: Delivered) -> None:
        session.until(
            lambda: self._has(session, plan, release, one),
            lambda: self._upload(session, plan, release, one),
        )

    def _has(self, session: Session, plan: ReleasePlan, release: Release, one: Delivered) -> bool:
        """Whether the file is there now; one that differs is removed from a draft.

        Raises:
            ForgeConflict: It differs, and the release is published.
        """
        path = f"/repos/{self.repository}/releases/{release['id']}"
        now = session.json("GET", path, f"look at the release `{plan.tag}`")
        if now is None:
            raise ForgeConflict(plan.tag, "somebody removed it meanwhile")
        asset = _assets(now).get(one.name)
        if asset is None:
            return False
        if _is_same(session, asset, one):
            return True
        if not now["draft"]:
            raise ForgeConflict(plan.tag, f"its file `{one.name}` differs, and it is published")
        self._remove(session, plan, asset)
        return False

    def _remove(self, session: Session, plan: ReleasePlan, asset: Mapping[str, Any]) -> None:
        path = f"/repos/{self.repository}/releases/assets/{asset['id']}"
        session.ask("DELETE", path, f"replace `{asset['name']}` in the draft of `{plan.tag}`")

    def _upload(self, session: Session, plan: ReleasePlan, release: Release, one: Delivered) -> None:
        address = str(release["upload_url"]).partition("{")[0]
        if not address.startswith(self.api.address.partition("://")[0] + "://"):
            raise ForgeConflict(plan.tag, "the forge wants files, and the token, sent over another protocol")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(one.size_bytes)}
        what = f"upload `{one.name}`"
        url = f"{address}?name={quote(one.name)}"
        try:
            session.ask("POST", url, what, content=_stream(one), headers=headers)
        except ApiRefused as error:
            # Somebody, or an attempt whose answer was lost, was faster: what is there now is looked at.
            if "already_exists" not in error.codes or not self._has(session, plan, release, one):
                raise


def _assets(release: Release) -> dict[str, Mapping[str, Any]]:
    return {str(one["name"]): one for one in release.get("assets", ())}


def _is_same(session: Session, asset: Mapping[str, Any] | None, one: Delivered) -> bool:
    if asset is None or asset.get("state", "uploaded") != "uploaded" or asset["size"] != one.size_bytes:
        return False
    return _digest(session, asset) == one.digest


def _digest(session: Session, asset: Mapping[str, Any]) -> str:
    """Return the digest of an asset: as the forge says, else of what it sends."""
    told = str(asset.get("digest") or "")
    return (
        told
        if told.startswith("sha256:")
        else f"sha256:{hashlib.sha256(_content(session, asset)).hexdigest()}"
    )


def _content(session: Session, asset: Mapping[str, Any]) -> bytes:
    accept = {"Accept": "application/octet-stream"}
    answer = session.ask("GET", str(asset["url"]), f"download `{asset['name']}`", headers=accept)
    return answer.content if answer is not None else b""


def _stream(one: Delivered) -> Callable[[], bytes | Iterator[bytes]]:
    """Return what makes the content anew for each attempt, in pieces where it lies in a file."""
    source = one.source
    if isinstance(source, bytes):
        return lambda: source
    return lambda: _pieces(source)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while piece := stream.read(CHUNK_BYTES):
            yield piece

"""Releases at GitLab, by its REST API: files in the project's generic packages, and a release with links.

GitLab has no drafts, and a release needs its tag: what is prepared is the packages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pipeline.errors import UsageError
from pipeline.release.api import Api, ApiRefused
from pipeline.release.forge import ForgeConflict, body_of, plan_of, token_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.release.api import Session
    from pipeline.release.plan import Delivered, ReleasePlan

TOKEN: Final = "GITLAB_TOKEN"  # noqa: S105 - the name of a variable
JOB_TOKEN: Final = "CI_JOB_TOKEN"  # noqa: S105 - likewise


def api_of(address: str | None, host: str, environ: Mapping[str, str], ca_bundle: str = "") -> Api:
    """Return the API of a host of GitLab.

    Raises:
        UsageError: There is no token.
    """
    token = token_of((TOKEN, JOB_TOKEN), environ)
    header = "PRIVATE-TOKEN" if environ.get(TOKEN) else "JOB-TOKEN"
    return Api(
        address=(address or f"https://{host}/api/v4").rstrip("/"),
        headers={header: token, "User-Agent": "dagger-pipeline"},
        ca_bundle=ca_bundle,
        access_hint=f"{TOKEN} needs the scope `api` for this project",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLab:
    """The releases of one project; a `Forge`. Files lie in the generic package `release`, by tag."""

    api: Api
    project: str  # "group/name"

    def check(self, plan: ReleasePlan) -> None:
        with self.api.open() as session:
            self._ours(session, plan)

    def is_prepared(self, plan: ReleasePlan, files: Sequence[Delivered]) -> bool:
        with self.api.open() as session:
            there = self._stored(session, plan.tag)
            return all(one.name in there and there[one.name]["digest"] == one.digest for one in files)

    def prepare(self, plan: ReleasePlan, files: Sequence[Delivered]) -> None:
        with self.api.open() as session:
            shown = self._ours(session, plan) is not None
            there = self._stored(session, plan.tag)
            for one in files:
                kept = there.get(one.name)
                if kept is not None and kept["digest"] == one.digest:
                    continue
                if shown:
                    raise ForgeConflict(plan.tag, f"its file `{one.name}` differs, and it is published")
                if kept is not None:
                    path = f"{self._base}/packages/{kept['package']}/package_files/{kept['id']}"
                    session.ask("DELETE", path, f"replace `{one.name}`")
                session.ask("PUT", self._file(plan.tag, one.name), f"upload `{one.name}`", content=one.read)

    def is_published(self, plan: ReleasePlan) -> bool:
        with self.api.open() as session:
            return self._ours(session, plan) is not None

    def publish(self, plan: ReleasePlan, files: Sequence[Delivered]) -> None:
        names = [one.name for one in files]
        table = {
            "name": f"{plan.name} {plan.version}",
            "tag_name": plan.tag,
            "description": body_of(plan),
            "assets": {"links": [self._link(plan.tag, name) for name in names]},
        }
        what = f"publish the release `{plan.tag}`"

        def make() -> None:
            try:
                session.json("POST", f"{self._base}/releases", what, json=table)
            except ApiRefused as error:
                if error.status != 409 or self._ours(session, plan) is None:
                    raise

        with self.api.open() as session:
            session.until(lambda: self._ours(session, plan) is not None, make)

    def files(self, tag: str) -> Mapping[str, str] | None:
        with self.api.open() as session:
            if self._release(session, tag) is None:
                return None
            return {name: str(one["digest"]) for name, one in self._stored(session, tag).items()}

    def download(self, tag: str, name: str) -> bytes | None:
        with self.api.open() as session:
            answer = session.ask("GET", self._file(tag, name), f"download `{name}`")
            return answer.content if answer is not None else None

    @property
    def _base(self) -> str:
        return f"/projects/{quote(self.project, safe='')}"

    def _file(self, tag: str, name: str) -> str:
        return f"{self._base}/packages/generic/release/{quote(tag, safe='')}/{quote(name)}"

    def _link(self, tag: str, name: str) -> dict[str, str]:
        return {"name": name, "url": f"{self.api.address}{self._file(tag, name)}", "link_type": "package"}

    def _release(self, session: Session, tag: str) -> dict[str, Any] | None:
        path = f"{self._base}/releases/{quote(tag, safe='')}"
        found: dict[str, Any] | None = session.json("GET", path, f"find the release `{tag}`")
        return found

    def _ours(self, session: Session, plan: ReleasePlan) -> dict[str, Any] | None:
        """Return the release of the plan.

        Raises:
            ForgeConflict: There is one of the tag, not made for this plan.
        """
        release = self._release(session, plan.tag)
        if release is not None and plan_of(release.get("description")) != plan.digest:
            raise ForgeConflict(plan.tag, "there is one already that was not made for this plan")
        return release

    def _stored(self, session: Session, tag: str) -> dict[str, dict[str, Any]]:
        """Return each file of the tag's package: its digest and ids; of several of a name the newest."""
        listed = f"{self._base}/packages?package_type=generic&package_name=release&per_page=100"
        packages = session.json("GET", f"{listed}&package_version={quote(tag)}", "list the packages")
        if packages is None:
            raise UsageError(f"cannot make a release at the forge: there is no project `{self.project}`")
        found: dict[str, dict[str, Any]] = {}
        for package in packages:
            if (package["name"], package["version"]) != ("release", tag):
                continue
            path = f"{self._base}/packages/{package['id']}/package_files?per_page=100"
            for one in session.json("GET", path, "list the files of the package") or ():
                digest = f"sha256:{one['file_sha256']}" if one.get("file_sha256") else ""
                found[one["file_name"]] = {"digest": digest, "id": one["id"], "package": package["id"]}
        for name in [name for name, one in found.items() if not one["digest"]]:
            answer = session.ask("GET", self._file(tag, name), f"download `{name}`")
            content = answer.content if answer is not None else b""
            found[name]["digest"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return found

"""Publishing to a package index: what is there with the same content is fine, with other content refused.

`uv publish` uploads: it knows tokens, and trusted publishing in CI. The simple API tells what is there.
"""

from __future__ import annotations

import hashlib
import html.parser
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from pipeline.config import redact_url
from pipeline.errors import PipelineError, RefusedByPolicy, UsageError
from pipeline.release.api import PAUSE_S, Api
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.release import ReleaseSettings
    from pipeline.release.api import Session
    from pipeline.release.plan import Delivered, ReleasePlan

SIMPLE: Final[Mapping[str, str]] = {
    "upload.pypi.org": "https://pypi.org/simple",
    "test.pypi.org": "https://test.pypi.org/simple",
}
UPLOAD_LIMIT_S: Final = 900.0
APPEARS_WITHIN_S: Final = 60.0
POLL_S: Final = 1.0
ACCEPT: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


class IndexConflict(RefusedByPolicy):
    """The index has a file of this name with other content: a version can be published once."""

    def __init__(self, name: str, index: str) -> None:
        super().__init__(f"cannot publish `{name}`: `{redact_url(index)}` has that file with other content")
        self.hint = "release the next version; a file of an index can never be replaced"


class UploadFailed(PipelineError):
    """The index would not take a file, or could not be reached; other files may be there."""

    def __init__(self, index: str, said: str, hint: str | None = None) -> None:
        super().__init__(f"cannot publish to `{redact_url(index)}`: {said}")
        self.said = said
        self.hint = hint


class NothingUploaded(UploadFailed):
    """The index would not take the first file: nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A package index: where files go, and where they are listed."""

    upload: str  # URL
    simple: str  # URL, without a slash at its end
    environ: Mapping[str, str] = field(
        repr=False
    )  # of the program that uploads: UV_PUBLISH_TOKEN, and CI's own
    ca_bundle: str = ""
    appears_within_s: float = APPEARS_WITHIN_S
    pause_s: float = PAUSE_S  # as in `Api`

    def missing(self, plan: ReleasePlan) -> list[Delivered]:
        """Return the packages that are not there yet.

        Raises:
            IndexConflict: One is there with other content.
            ApiBusy: The index does not answer.
        """
        packages = packages_in(plan)
        with self._api().open() as session:
            there: dict[str, tuple[str, str]] = {}
            for project in sorted({project_of(one.name) for one in packages}):
                there |= self._listed(session, project)
            missing = []
            for one in packages:
                found = there.get(one.name)
                if found is None:
                    missing.append(one)
                elif (found[1] or self._digest(session, found[0])) != one.digest:
                    raise IndexConflict(one.name, self.upload)
        return missing

    def publish(self, plan: ReleasePlan) -> None:
        """Upload what is not there, and wait until it is listed.

        Raises:
            UploadFailed: The index refused, or what it took is not listed in time.
            IndexConflict: Somebody published other content under these names.
        """
        files = self.missing(plan)
        if not files:
            return
        try:
            self._upload(files)
        except UploadFailed as error:
            # Two may publish the same at once, or the answer was lost: then it is there all the same.
            left = self.missing(plan)
            if left == files:
                raise NothingUploaded(self.upload, error.said, error.hint) from error
            if left:
                raise
            return
        until = time.monotonic() + self.appears_within_s
        while left := self.missing(plan):
            if time.monotonic() > until:
                names = ", ".join(one.name for one in left)
                raise UploadFailed(self.upload, f"it took {names} and does not list it", "run it again later")
            time.sleep(POLL_S)

    def _upload(self, files: Sequence[Delivered]) -> None:
        program = find_uv()
        paths = [str(one.source) for one in files if isinstance(one.source, Path)]
        argv = [program, "publish", "--no-config", "--publish-url", self.upload, "--", *paths]
        environ = {**self.environ, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
        if self.ca_bundle:
            environ["SSL_CERT_FILE"] = self.ca_bundle
        if not any(
            name in environ for name in ("UV_PUBLISH_TOKEN", "UV_PUBLISH_PASSWORD", "UV_TRUSTED_PUBLISHING")
        ):
            argv[2:2] = ["--trusted-publishing", "automatic"]
        try:
            done = subprocess.run(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=UPLOAD_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UploadFailed(self.upload, f"nothing within {UPLOAD_LIMIT_S:.0f} s") from error
        if done.returncode != 0:
            said = _errors(done.stderr.decode(errors="replace"))
            hint = "UV_PUBLISH_TOKEN, or a trusted publisher with `id-token: write` in the workflow"
            raise UploadFailed(self.upload, said, hint)

    def _api(self) -> Api:
        return Api(
            ca_bundle=self.ca_bundle,
            pause_s=self.pause_s,
            address=self.simple,
            headers={"Accept": ACCEPT},
            access_hint="the simple API must be readable",
        )

    def _listed(self, session: Session, project: str) -> dict[str, tuple[str, str]]:
        """Return the files of a project: URL and digest, "" where the index tells none."""
        answer = session.ask("GET", f"{self.simple}/{project}/", f"list `{project}` of the index")
        if answer is None:
            return {}
        if "json" in answer.headers.get("content-type", ""):
            return _from_json(answer.text, str(answer.url))
        return _from_page(answer.text, str(answer.url))

    def _digest(self, session: Session, url: str) -> str:
        answer = session.ask("GET", url, "download a file of the index")
        return f"sha256:{hashlib.sha256(answer.content).hexdigest()}" if answer is not None else ""


def _errors(said: str) -> str:
    """Return what the program says from its error on, in one line."""
    lines = [line.strip() for line in clean(said).splitlines() if line.strip()]
    starts = [at for at, line in enumerate(lines) if line.lower().startswith("error")]
    return redact_url("; ".join(lines[starts[0] if starts else -1 :]))[:600] or "nothing was said"


def open_index(settings: ReleaseSettings, environ: Mapping[str, str], ca_bundle: str = "") -> Index | None:
    """Return the index of the settings; None for none. No request is made.

    Raises:
        UsageError: Nothing says where the index lists its files, or a URL holds a password.
    """
    if settings.index is None:
        return None
    host = urlsplit(settings.index).hostname or ""
    if "@" in urlsplit(settings.index).netloc:
        raise UsageError(
            "cannot publish packages: `index` holds a password; set UV_PUBLISH_TOKEN in its place"
        )
    simple = settings.index_simple or SIMPLE.get(host)
    if simple is None:
        error = UsageError(f"cannot publish packages: nothing says where `{host}` lists its files")
        error.hint = "set `index_simple` in [tool.pipeline.release]"
        raise error
    return Index(upload=settings.index, simple=simple.rstrip("/"), environ=environ, ca_bundle=ca_bundle)


def packages_in(plan: ReleasePlan) -> list[Delivered]:
    """Return the wheels and source distributions of a release."""
    return [
        one for one in plan.files if one.name.endswith((".whl", ".tar.gz")) and isinstance(one.source, Path)
    ]


def project_of(name: str) -> str:
    """Return the normalized name of the project a file is of.

    Raises:
        UsageError: The file's name is not that of a package.
    """
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        return str(parse_wheel_filename(name)[0] if name.endswith(".whl") else parse_sdist_filename(name)[0])
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        raise UsageError(f"cannot publish `{name}`: its name is not that of a package") from error


def find_uv() -> str:
    """Return the program that uploads.

    Raises:
        UsageError: It is not installed.
    """
    found = shutil.which("uv")
    if found is None:
        try:
            from uv import find_uv_bin
        except ImportError as missing:
            error = UsageError("cannot publish packages: there is no `uv` on this machine")
            error.hint = "pip install uv"
            raise error from missing
        found = os.fspath(find_uv_bin())
    return found


def _from_json(text: str, base: str) -> dict[str, tuple[str, str]]:
    try:
        files = json.loads(text)["files"]
        return {
            str(one["filename"]): (urljoin(base, one["url"]), _hash(one.get("hashes", {}).get("sha256", "")))
            for one in files
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UploadFailed(base, "its list of files cannot be read") from error


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _from_page(text: str, base: str) -> dict[str, tuple[str, str]]:
    page = _Links()
    page.feed(text)
    listed = {}
    for link in page.found:
        url, fragment = urldefrag(urljoin(base, link))
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        kind, _, value = fragment.partition("=")
        listed[name] = (url, _hash(value) if kind == "sha256" else "")
    return listed


def _hash(value: str) -> str:
    return f"sha256:{value.lower()}" if value else ""

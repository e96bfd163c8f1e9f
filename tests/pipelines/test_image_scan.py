"""`image_scan` on real images, with a stand-in for a Trivy server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines.projects import new_repository
from tests.unit.scan.trivy.fake import TOKEN, Fake, advisory, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pipelines.projects import Ran, Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

DOCKERFILE = """
FROM python:3.13-slim
RUN mkdir -p /srv/app/jinja2-2.10.dist-info \\
    && printf 'Name: Jinja2\\nVersion: 2.10\\n' >/srv/app/jinja2-2.10.dist-info/METADATA \\
    && cp /bin/true /srv/app/helper && chmod 4755 /srv/app/helper \\
    && touch /srv/app/notes && chmod 666 /srv/app/notes
ENV API_TOKEN=tk-0123456789-planted
EXPOSE 8000
CMD ["python", "-m", "http.server"]
"""
# To apt it looks as if the package were older than the security archive's.
OUTDATED = """
RUN sed -i -E '/^Package: liblzma5$/,/^$/s/^(Version: [^-]*)-.*/\\1-0/' /var/lib/dpkg/status
USER nobody
EXPOSE 80
HEALTHCHECK CMD ["true"]
"""
SETTINGS = """
[tool.pipeline.image_scan]
server = "{url}"
mirror = false
program = false
"""
ONLY = ("--only", "image_scan")
PLANTED = "tk-0123456789-planted"


@pytest.fixture
def trivy() -> Iterator[Fake]:
    """A server that knows canaries and one vulnerable package of Debian 13."""
    fake = Fake()
    fake.database["debian 13"] = {
        "openssl": [advisory("CVE-2099-1000", "0.1-1")],
        "bash": [advisory("CVE-2099-2000", "99-1", "CRITICAL")],
    }
    with serving(fake) as fake:
        yield fake


@pytest.fixture
def project(tmp_path: Path, store: Path, trivy: Fake) -> Repository:
    """A project of one image with faults; the network is only this machine."""
    files = {
        "Dockerfile": DOCKERFILE,
        "pyproject.toml": SETTINGS.format(url=trivy.url),
        ".gitignore": ".pipeline\n",
    }
    return new_repository(tmp_path / "app", store, files)


def document(ran: Ran) -> dict[str, Any]:
    """What the stage kept."""
    found: dict[str, Any] = json.loads((ran.files("image_scan") / "findings.json").read_text())
    return found


def found_in(ran: Ran) -> dict[str, set[str]]:
    """Rules and the places they are told at."""
    places: dict[str, set[str]] = {}
    for one in document(ran)["verdict"]["judged"]:
        place = one["finding"]["place"]
        shown = f"{place['name']} {place['path']}" if place["kind"] == "package" else place["path"]
        places.setdefault(one["finding"]["rule"]["id"], set()).add(shown)
    return places


def test_an_image_is_read_judged_and_told(project: Repository) -> None:
    """Packages of the distribution and of Python, the release, how the image is set up; no value is told."""
    ran = project.run(*ONLY, TRIVY_TOKEN=TOKEN)

    found = found_in(ran)
    states = {one["scanner"]: one["state"] for one in document(ran)["scans"]}
    packages = json.loads((ran.files("image_scan") / "packages.json").read_text())
    assert (ran.code, ran.outcomes["image_scan"]) == (1, "failure"), ran.stderr
    assert states == {"advisories": "complete", "image setup": "complete", "end of life": "complete"}
    assert found == {
        "CVE-2099-2000": {"bash app!/var/lib/dpkg/status"},
        "CVE-2019-10906": {"Jinja2 app!/srv/app/jinja2-2.10.dist-info/METADATA"},
        "image-root-user": {"Dockerfile"},
        "image-no-healthcheck": {"Dockerfile"},
        "image-secret-env": {"Dockerfile"},
        "image-setuid": {"app!/srv/app/helper"},
        "image-world-writable": {"app!/srv/app/notes"},
    }
    assert {one["state"] for one in packages} == {"vulnerable", "clean"}
    kept = "".join(path.read_text() for path in ran.files("image_scan").iterdir())
    assert PLANTED not in kept + ran.log("image_scan") + ran.stdout + ran.stderr
    assert TOKEN not in kept + ran.log("image_scan") + ran.stdout + ran.stderr


def test_the_images_own_mirror_tells_which_fixes_it_lacks(tmp_path: Path, store: Path) -> None:
    """Without any advisory data; but then nobody says that the other packages are clean."""
    settings = "[tool.pipeline.image_scan]\nprogram = false\n"
    files = {"Dockerfile": DOCKERFILE.splitlines()[1] + OUTDATED, "pyproject.toml": settings}
    project = new_repository(tmp_path / "app", store, {**files, ".gitignore": ".pipeline\n"})

    ran = project.run(*ONLY)

    scan = document(ran)["scans"][0]
    places = {place for rule, told in found_in(ran).items() if rule.startswith("CVE-") for place in told}
    assert (ran.code, ran.outcomes["image_scan"]) == (0, "success"), ran.stderr
    assert places == {"liblzma5 app!/var/lib/dpkg/status"}
    assert {rule for rule in found_in(ran) if not rule.startswith("CVE-")} == set()
    assert (scan["state"], scan["coverage"]["seen"]) == ("incomplete", 1)
    assert "packages are unknown" in ran.stdout


def test_without_any_source_an_image_is_not_called_clean(project: Repository, trivy: Fake) -> None:
    """What the image's own files say is judged; a release with unknown packages does not go out."""
    trivy.database.clear()

    ran = project.run(*ONLY, TRIVY_TOKEN=TOKEN)

    scan = document(ran)["scans"][0]
    assert (scan["scanner"], scan["state"]) == ("advisories", "unavailable")
    assert {one["scanner"]: one["action"] for one in document(ran)["verdict"]["unchecked"]}[
        "advisories"
    ] == "warn"

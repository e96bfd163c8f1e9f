"""A Trivy server as a source: what it must prove before silence counts as "clean"."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.advisories.settle import settle
from pipeline.scan.packages.package import Package
from pipeline.scan.trivy.blobs import NAMES, Blob
from pipeline.scan.trivy.client import TrivyAddress
from pipeline.scan.trivy.source import Asked, Told, TrivySource
from tests.unit.scan.trivy.fake import TOKEN, Fake, advisory, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
STATUS = "var/lib/dpkg/status"


def deb(name: str = "libgcrypt20", version: str = "1.10.1-3", **more: str) -> Package:
    """A package of Debian 12."""
    given: dict[str, Any] = {"ecosystem": "Debian:12", "path": STATUS, "source": name}
    return Package(name=name, version=version, **(given | more))


JINJA = Package(
    name="Jinja2",
    version="2.10",
    ecosystem="PyPI",
    path="usr/lib/python3/site-packages/Jinja2-2.10.dist-info/METADATA",
)
BASE = Blob(diff_id="sha256:base", family="debian", release="12", packages=(deb(),), databases=(STATUS,))


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server that knows the canaries of Debian 12 and of Python."""
    fake = Fake()
    fake.database["debian 12"]["openssl"] = [advisory("CVE-2099-1000", "3.0.1-1")]
    with serving(fake) as fake:
        yield fake


async def ask(fake: Fake, *blobs: Blob, packages: tuple[Package, ...] | None = None, **more: Any) -> Told:
    """Ask about an image of these layers, whose packages are the last layer's unless told."""
    source = TrivySource(address=TrivyAddress(url=fake.url, token=TOKEN), **more)
    shown = blobs[-1].packages if packages is None else packages
    return await source.ask(Asked(name="app", blobs=blobs, packages=shown), NOW)


def summary(told: Told) -> dict[str, tuple[str, str]]:
    """How each package ends: its state, and its advisories or why it is unknown."""
    keys = [*told.answer.judged, *told.answer.unknown]
    packages = [Package(ecosystem=key[0], name=key[1], version=key[2]) for key in keys]
    return {
        one.package.name: (one.state, one.why or " ".join(match.advisory.id for match in one.matches))
        for one in settle(packages, [told.answer])
    }


async def test_packages_end_vulnerable_or_clean_as_of_the_servers_data(fake: Fake) -> None:
    top = replace(BASE, packages=(deb(), deb("bash", "5.2.15-2"), JINJA))

    told = await ask(fake, top)

    assert (told.answer.state, told.answer.reason) == ("complete", "")
    assert told.answer.source.as_of == "2026-11-23T22:00:00Z"
    assert summary(told) == {
        "libgcrypt20": ("vulnerable", "CVE-2099-0001"),
        "bash": ("clean", ""),
        "jinja2": ("vulnerable", "CVE-2019-10906"),
    }


async def test_canaries_are_in_no_answer(fake: Fake) -> None:
    """They lie in a blob of their own, and nothing says that the image has them."""
    told = await ask(fake, BASE)

    assert {key[1] for key in [*told.answer.judged, *told.answer.matches]} == {"libgcrypt20"}
    assert [blob["diff_id"] for blob in fake.blobs.values()] == ["sha256:base", "dagger-pipeline-canary"]


async def test_layers_are_sent_base_first_and_once(fake: Fake) -> None:
    """The fixed version in the upper layer counts; what the server has is not sent again."""
    fixed = deb(version="1.10.1-3+deb12u1")
    top = Blob(diff_id="sha256:top", packages=(fixed,), databases=(STATUS,))

    first = await ask(fake, BASE, top)
    calls = list(fake.asked)
    fake.asked.clear()
    again = await ask(fake, BASE, top)

    assert summary(first) == summary(again) == {"libgcrypt20": ("clean", "")}
    assert calls == ["MissingBlobs", "PutArtifact", "PutBlob", "PutBlob", "PutBlob", "Scan"]
    assert fake.asked == ["MissingBlobs", "Scan"]
    assert all(name.startswith(NAMES) for name in (*fake.blobs, *fake.artifacts))


async def test_a_whiteout_takes_packages_away(fake: Fake) -> None:
    base = replace(BASE, packages=(deb(), JINJA))
    top = Blob(diff_id="sha256:top", whiteouts=("usr/lib/python3/site-packages",))

    told = await ask(fake, base, top, packages=(deb(),))

    assert summary(told) == {"libgcrypt20": ("vulnerable", "CVE-2099-0001")}


async def test_an_opaque_folder_hides_what_is_below(fake: Fake) -> None:
    base = replace(BASE, packages=(deb(), JINJA))
    top = Blob(diff_id="sha256:top", opaque=("usr/lib/python3",))

    told = await ask(fake, base, top, packages=(deb(),))

    assert (told.answer.state, list(summary(told))) == ("complete", ["libgcrypt20"])


async def test_a_blob_that_got_lost_is_stored_again(fake: Fake) -> None:
    fake.forgetful = 1

    told = await ask(fake, BASE)

    assert told.answer.state == "complete"
    assert fake.asked.count("Scan") == 2


async def test_blobs_that_keep_getting_lost_are_an_error(fake: Fake) -> None:
    fake.forgetful = 9

    told = await ask(fake, BASE)

    assert (told.answer.state, fake.asked.count("Scan")) == ("error", 2)
    assert "layer cache missing" in told.answer.reason


async def test_a_distribution_the_server_does_not_know_is_unsupported(fake: Fake) -> None:
    """It answers 200 with nothing; only its own log says so (F14)."""
    plan9 = deb("a", "1", ecosystem="plan9")

    told = await ask(fake, replace(BASE, family="plan9", release="4", packages=(plan9,)))

    assert told.answer.state == "unsupported"
    assert summary(told) == {"a": ("unknown", "Trivy does not know the distribution `plan9 4`")}


async def test_a_release_without_data_is_unavailable(fake: Fake) -> None:
    """It lists the packages and finds nothing, like a clean image; it says the release has ended (F15)."""
    old = deb(ecosystem="Debian:11")

    told = await ask(fake, replace(BASE, release="11.9", packages=(old,)))

    assert (told.answer.state, told.is_end_of_life) == ("unavailable", True)
    why = "Trivy does not know that openssl 0 or glibc 0 of Debian:11 is vulnerable: it has no data for that"
    assert summary(told) == {"libgcrypt20": ("unknown", why)}


async def test_packages_without_a_distribution_are_an_error(fake: Fake) -> None:
    """Without `os` the server answers 200 with nothing (F16)."""
    told = await ask(fake, replace(BASE, family="", release=""))

    assert told.answer.state == "error"
    why = "Trivy was not told which distribution the packages are of"
    assert summary(told) == {"libgcrypt20": ("unknown", why)}


async def test_the_source_package_is_always_sent(fake: Fake) -> None:
    """Where the database names none it is the package itself; without it findings are lost (F16)."""
    bare = replace(deb(), source="")
    other = deb("libgcrypt-dev", "1:7-1", source="libgcrypt20", source_version="1.10.1-3")

    told = await ask(fake, replace(BASE, packages=(bare, other)))

    ids = {name: match[0].advisory.id for (_, name, _), match in told.answer.matches.items()}
    assert (told.answer.state, ids) == ("complete", {"libgcrypt20": "CVE-2099-0001"})
    sent = next(iter(fake.blobs.values()))["package_infos"][0]["packages"][1]
    assert (sent["epoch"], sent["version"], sent["release"]) == (1, "7", "1")
    assert (sent["src_name"], sent["src_version"], sent["src_release"]) == ("libgcrypt20", "1.10.1", "3")


async def test_one_language_without_data_leaves_the_others_judged(fake: Fake) -> None:
    del fake.database["PyPI"]

    told = await ask(fake, replace(BASE, packages=(deb(), JINJA)))

    assert told.answer.state == "incomplete"
    assert summary(told)["libgcrypt20"] == ("vulnerable", "CVE-2099-0001")
    assert summary(told)["jinja2"][0] == "unknown"


async def test_old_data_is_stale(fake: Fake) -> None:
    """Also where it found something."""
    fake.version["VulnerabilityDB"] = {"UpdatedAt": "2026-10-01T00:00:00Z"}

    told = await ask(fake, BASE)

    assert told.answer.state == "stale"
    assert told.answer.reason == "Trivy's database is 54 days old; at most 3 days are allowed"


async def test_old_data_is_stale_too_where_a_language_is_not_known(fake: Fake) -> None:
    """Both are told."""
    fake.version["VulnerabilityDB"] = {"UpdatedAt": "2026-10-01T00:00:00Z"}
    del fake.database["PyPI"]

    told = await ask(fake, replace(BASE, packages=(deb(), JINJA)))

    assert told.answer.state == "stale"
    assert "54 days old" in told.answer.reason
    assert "jinja2 2.10" in told.answer.reason


async def test_a_server_without_a_database_is_stale_or_silent_never_complete(fake: Fake) -> None:
    fake.version = {"Version": "dev"}
    fake.database.clear()

    told = await ask(fake, BASE)

    assert told.answer.state == "unavailable"


async def test_a_wrong_token_is_an_error_and_no_server_unavailable(fake: Fake) -> None:
    fake.token = "another"
    away = TrivySource(address=TrivyAddress(url="http://127.0.0.1:9"))

    refused = await ask(fake, BASE)
    absent = await away.ask(Asked(name="app", blobs=(BASE,), packages=BASE.packages), NOW)

    assert (refused.answer.state, absent.answer.state) == ("error", "unavailable")
    assert TOKEN not in refused.answer.reason


async def test_severity_and_fix_are_the_servers(fake: Fake) -> None:
    told = await ask(fake, replace(BASE, packages=(JINJA,)))

    (match,) = next(iter(told.answer.matches.values()))
    assert (match.advisory.severity, match.advisory.cwe) == ((("Trivy", "HIGH"),), (693,))
    assert match.fixed == ("2.10.1",)
    assert match.source.as_of == "2026-11-23T22:00:00Z"

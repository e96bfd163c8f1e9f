"""Advisories over the network: a whole file or the one that was there, and never a page in its place."""

from __future__ import annotations

import datetime
import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.advisories.bulk import BulkBroken
from pipeline.scan.advisories.fetch import Wanted, check_index, fetched_file, gather, public_database
from pipeline.scan.advisories.index import IndexBroken
from pipeline.scan.advisories.sources.debian_support import MARK, findings_of, parse_ended
from pipeline.scan.advisories.sources.http import ServiceFailed, download
from pipeline.scan.probe import Network
from tests.unit.scan.advisories.records import between, record
from tests.unit.scan.advisories.worlds import NOW, closed, package, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def archive(*names: str) -> bytes:
    """An export with a record for each name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name in names:
            opened.writestr(f"{name}.json", json.dumps(record(name, events=between("0 1.0"))))
    return file.getvalue()


async def test_an_export_is_fetched_indexed_and_told_with_its_date_and_licence(tmp_path: Path) -> None:
    """The address is told without user and password."""
    with serving(lambda *_: (200, "application/zip", archive("A-1", "A-2"))) as (address, _):
        wanted = Wanted(name="own", address=address.replace("//", "//me:secret@") + "/all.zip", licence="MIT")
        items = await gather([wanted], tmp_path, Network(), NOW)

    ((path, item),) = items.items()
    check_index(path)
    assert (item.name, item.as_of, item.licence) == ("own.idx", "2026-11-01T00:00:00Z", "MIT")
    assert item.address == f"{address}/all.zip"
    assert not any("secret" in file.read_text(errors="replace") for file in tmp_path.iterdir())


async def test_a_file_is_fetched_again_after_half_a_day(tmp_path: Path) -> None:
    """Before that the one that is here is used."""
    with serving(lambda *_: (200, "application/zip", archive("A-1"))) as (address, asked):
        wanted = Wanted(name="own", address=f"{address}/all.zip")
        for hours in (0, 1, 13, 14):
            await fetched_file(wanted, tmp_path, Network(), NOW + datetime.timedelta(hours=hours))

    assert asked == ["GET /all.zip"] * 2


async def test_a_file_that_is_cut_off_does_not_take_the_place_of_a_whole_one(tmp_path: Path) -> None:
    """The connection ends before the length that was promised."""
    import socket
    import threading

    target = tmp_path / "own.zip"
    target.write_bytes(b"whole")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServiceFailed):
            await download(Network(), f"http://127.0.0.1:{listener.getsockname()[1]}/own.zip", target)
        thread.join()

    assert target.read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["own.zip"]


async def test_a_page_in_place_of_an_export_is_refused(tmp_path: Path) -> None:
    """A portal answers with status 200."""
    with serving(lambda *_: (200, "text/html", b"<html>sign in</html>")) as (address, _):
        wanted = Wanted(name="own", address=f"{address}/all.zip")
        with pytest.raises(BulkBroken, match="it is no whole zip archive"):
            await gather([wanted], tmp_path, Network(), NOW)


async def test_an_export_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    """By status, or that nobody answers."""
    with serving(lambda *_: (404, "text/plain", b"")) as (there, _), closed() as gone:
        for address, why in ((there, "it answered 404"), (gone, "cannot ask")):
            wanted = Wanted(name="own", address=f"{address}/all.zip")
            with pytest.raises(ServiceFailed, match=why):
                await gather([wanted], tmp_path, Network(), NOW)


def test_the_public_export_of_an_ecosystem_has_an_address_and_a_plain_name() -> None:
    """Spaces are written as addresses write them."""
    told = public_database("GitHub Actions")

    assert told.name == "osv-GitHub-Actions"
    assert told.address.endswith("/GitHub%20Actions/all.zip")


def test_a_file_that_is_no_index_is_refused_by_the_import(tmp_path: Path) -> None:
    """Whatever its digest."""
    (tmp_path / "own.idx").write_text("words")

    with pytest.raises(IndexBroken):
        check_index(tmp_path / "own.idx")


ENDED = f"""{MARK} ended
# Package       Last supported  End of support  Note
mbedtls         2.16.9-0.1+deb11u4      2026-06-12      Crypto library difficult to support
future          1.0             2030-01-01
{MARK} end
"""


def test_packages_without_security_support_are_told() -> None:
    """By their source package, at a version the list speaks of, from that day on."""
    packages = [
        package("libmbedtls12", "2.16.9-0.1", "Debian:11", source="mbedtls"),
        package("mbedtls-new", "3.0-1", "Debian:11", source="mbedtls"),
        package("future", "0.9", "Debian:11"),
    ]
    rows = parse_ended(ENDED)
    assert rows is not None

    told = list(findings_of(packages, rows, NOW.date()))

    assert [(one.where, one.kind, one.severity.level, one.message) for one in told] == [
        (
            "libmbedtls12 2.16.9-0.1",
            "end-of-life",
            "high",
            "ended 2026-06-12: Crypto library difficult to support",
        )
    ]


@pytest.mark.parametrize("text", ["", "E: Unable to locate package", f"{MARK} ended\nhalf 1.0"])
def test_a_list_that_is_not_whole_is_none(text: str) -> None:
    """Rather than one without an entry."""
    assert parse_ended(text) is None

"""Files over HTTP, against a server on loopback."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.sources.http import (
    ChecksumMismatch,
    HttpFailed,
    HttpRequest,
    HttpSources,
    InvalidChecksum,
)
from tests.engine.sources_helpers import listing, open_store, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.store import Store

pytestmark = [pytest.mark.anyio, pytest.mark.root]

MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"


@dataclass
class Site:
    """What a server serves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def __getitem__(self, path: str) -> str:
        return self.address + path


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            path = self.path.partition("?")[0]
            if path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[path])
                self.end_headers()
                return
            if path not in site.files:
                self.send_error(404)
                return
            data = site.files[path]
            tag = f'"{hashlib.sha256(data).hexdigest()}"'
            self.send_response(304 if self.headers["If-None-Match"] == tag else 200)
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", MODIFIED)
            self.end_headers()
            if self.headers["If-None-Match"] != tag:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        site.files["/dir/tool.sh"] = b"echo hello\n"
        yield site


async def test_a_file_has_the_name_of_the_address_private_permissions_and_the_servers_date(
    store: Store, site: Site
) -> None:
    fetched = await HttpSources(store).fetch(HttpRequest(url=site["/dir/tool.sh?x=1"]))

    assert fetched.name == "tool.sh"
    assert listing(store, fetched.content) == {"tool.sh": "echo hello\n"}
    with tree(store, fetched.content) as root:
        info = os.stat(root / "tool.sh")
    assert (stat.S_IMODE(info.st_mode), info.st_mtime) == (0o600, 1577836800.0)


async def test_name_and_permissions_can_be_chosen(store: Store, site: Site) -> None:
    fetched = await HttpSources(store).fetch(
        HttpRequest(url=site["/dir/tool.sh"], name="run", permissions=0o755)
    )

    with tree(store, fetched.content) as root:
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {"run": 0o755}


async def test_an_address_without_a_path_is_called_index(store: Store, site: Site) -> None:
    site.files["/"] = b"home"

    assert (await HttpSources(store).fetch(HttpRequest(url=site["/"]))).name == "index"


async def test_a_session_asks_once_and_the_next_one_revalidates(store: Store, site: Site) -> None:
    session = HttpSources(store)
    request = HttpRequest(url=site["/dir/tool.sh"])
    first = await session.fetch(request)
    again = await session.fetch(request)
    next_session = await HttpSources(store).fetch(request)
    site.files["/dir/tool.sh"] = b"changed"
    same_session = await session.fetch(request)
    changed = await HttpSources(store).fetch(request)

    assert first == again == next_session == same_session
    assert listing(store, changed.content) == {"tool.sh": "changed"}
    assert ["If-None-Match" in headers for _, headers in site.asked] == [False, True, True]


async def test_a_redirect_is_followed_and_another_host_gets_no_authorization(
    store: Store, site: Site
) -> None:
    with serve() as other:
        other.files["/target"] = b"there"
        site.redirects["/away"] = other["/target"]
        site.redirects["/here"] = "/dir/tool.sh"
        sources = HttpSources(store)

        away = await sources.fetch(HttpRequest(url=site["/away"], auth_header="Bearer t"))
        here = await sources.fetch(HttpRequest(url=site["/here"], auth_header="Bearer t"))

        assert (away.name, listing(store, away.content)) == ("away", {"away": "there"})
        assert listing(store, here.content) == {"here": "echo hello\n"}
        assert [headers.get("Authorization") for _, headers in site.asked] == ["Bearer t"] * 3
        assert [headers.get("Authorization") for _, headers in other.asked] == [None]


async def test_a_checksum_is_compared_with_the_content(store: Store, site: Site) -> None:
    data = site.files["/dir/tool.sh"]
    for algorithm in ("sha256", "sha512"):
        checksum = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        url = site["/dir/tool.sh"]
        assert (await HttpSources(store).fetch(HttpRequest(url=url, checksum=checksum))).name == "tool.sh"
    wrong = "sha256:" + "0" * 64

    with pytest.raises(ChecksumMismatch) as caught:
        await HttpSources(store).fetch(HttpRequest(url=site["/dir/tool.sh"], checksum=wrong))

    actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert str(caught.value) == f"http checksum mismatch: expected {wrong}, got {actual}"


async def test_content_known_by_its_checksum_is_not_fetched_again(store: Store, site: Site) -> None:
    checksum = f"sha256:{hashlib.sha256(site.files['/dir/tool.sh']).hexdigest()}"
    request = HttpRequest(url=site["/dir/tool.sh"], checksum=checksum)
    await HttpSources(store).fetch(request)

    await HttpSources(store, offline=True).fetch(request)

    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("checksum", "reason"),
    [
        ("abc", "invalid checksum digest format"),
        ("md5:" + "0" * 32, "unsupported digest algorithm"),
        ("sha256:00", "invalid checksum digest length"),
        ("sha256:" + "x" * 64, "invalid checksum digest format"),
    ],
)
async def test_a_malformed_checksum_is_refused_without_asking(
    store: Store, site: Site, checksum: str, reason: str
) -> None:
    with pytest.raises(InvalidChecksum) as caught:
        await HttpSources(store).fetch(HttpRequest(url=site["/dir/tool.sh"], checksum=checksum))

    assert str(caught.value) == f'invalid checksum "{checksum}": {reason}'
    assert site.asked == []


async def test_an_answer_that_is_no_file_is_an_error(store: Store, site: Site) -> None:
    with pytest.raises(HttpFailed) as caught:
        await HttpSources(store).fetch(HttpRequest(url=site["/absent"]))

    assert str(caught.value) == f"cannot fetch `{site['/absent']}`: invalid response status 404 Not Found"
    assert caught.value.status == 404


async def test_passwords_in_an_address_are_not_shown(store: Store) -> None:
    with pytest.raises(HttpFailed) as caught:
        await HttpSources(store).fetch(HttpRequest(url="http://user:hunter2@127.0.0.1:9/x"))

    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("cannot fetch `http://127.0.0.1:9/x`: ")


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "no address", "http://"])
async def test_what_is_no_http_address_is_refused(store: Store, url: str) -> None:
    with pytest.raises(HttpFailed, match="it is no http or https address"):
        await HttpSources(store).fetch(HttpRequest(url=url))


async def test_a_host_name_that_only_the_engine_knows_is_reached_by_its_address(
    store: Store, site: Site
) -> None:
    port = site.address.rpartition(":")[2]
    url = f"http://web.service:{port}/dir/tool.sh"

    fetched = await HttpSources(store).fetch(HttpRequest(url=url, addresses={"web.service": "127.0.0.1"}))

    assert listing(store, fetched.content) == {"tool.sh": "echo hello\n"}
    assert site.asked[0][1]["Host"] == f"web.service:{port}"


async def test_offline_answers_from_the_store(store: Store, site: Site) -> None:
    request = HttpRequest(url=site["/dir/tool.sh"])
    online = await HttpSources(store).fetch(request)

    assert await HttpSources(store, offline=True).fetch(request) == online
    with pytest.raises(HttpFailed, match="the engine is offline"):
        await HttpSources(store, offline=True).fetch(HttpRequest(url=site["/other"]))

"""Files fetched over HTTP."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.engine.oci.servers import Answer, Request, Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.conftest import EngineProcess, Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]

TEXT = b"what is served\n"
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"  # 1,000,000,000 seconds after 1970
SECRET = "Bearer of-the-test"


def answer(request: Request) -> Answer:
    """Serve a file that is revalidated, one that needs credentials, and a redirect."""
    if request.path.startswith("/none"):
        return Answer(status=404)
    if request.path.startswith("/away/"):
        return Answer(status=302, headers={"Location": "/" + request.path.removeprefix("/away/")})
    if request.path == "/private" and request.headers.get("authorization") != SECRET:
        return Answer(status=401)
    if request.headers.get("if-none-match") == '"tag"':
        return Answer(status=304)
    return Answer(body=TEXT, headers={"ETag": '"tag"', "Last-Modified": DATE})


@pytest.fixture
def site(embedded: EngineProcess) -> Iterator[Server]:
    with serve(answer) as server:
        yield server


def url(server: Server, path: str) -> str:
    return f"http://{server.address}{path}"


async def test_a_file_by_http(dag: dagger.Client, base: dagger.Container, site: Server) -> None:
    """166. A file has the last name of its address, mode 0600 and the server's date, or what is asked for."""
    file = dag.http(url(site, "/a/file.txt"))

    assert (await file.name(), await file.contents()) == ("file.txt", TEXT.decode())
    assert await file.stat().permissions() == 0o600
    look = base.with_file("/f", file).with_exec(["stat", "-c", "%Y", "/f"])
    assert await look.stdout() == "1000000000\n"
    named = dag.http(url(site, "/a/file.txt"), name="n", permissions=0o644)
    assert (await named.name(), await named.stat().permissions()) == ("n", 0o644)
    assert await dag.http(url(site, "/")).name() == "index"


async def test_checksums(dag: dagger.Client, site: Server) -> None:
    """166. A checksum is compared with the content; a malformed one is refused at once."""
    right = "sha256:" + hashlib.sha256(TEXT).hexdigest()

    assert await dag.http(url(site, "/sum"), checksum=right).contents() == TEXT.decode()
    with pytest.raises(dagger.QueryError, match="http checksum mismatch: expected sha256:00"):
        await dag.http(url(site, "/sum"), checksum="sha256:" + "0" * 64).id()
    with pytest.raises(dagger.QueryError, match='invalid checksum "nonsense"'):
        await dag.http(url(site, "/sum"), checksum="nonsense").id()


async def test_authorization(dag: dagger.Client, site: Server, unique: str) -> None:
    """166. The header is sent as it is; without it the server's refusal is told."""
    header = dag.set_secret(unique, SECRET)

    assert await dag.http(url(site, "/private"), auth_header=header).contents() == TEXT.decode()
    with pytest.raises(dagger.QueryError, match="invalid response status 401"):
        await dag.http(url(site, "/private")).id()


async def test_authorization_stays_with_its_host(dag: dagger.Client, site: Server, unique: str) -> None:
    """166. A redirect to another host is followed without the header."""
    header = dag.set_secret(unique, SECRET)

    def away(_: Request) -> Answer:
        return Answer(status=302, headers={"Location": url(site, "/elsewhere")})

    with serve(away, host="localhost") as other:
        assert await dag.http(url(other, "/x"), auth_header=header).contents() == TEXT.decode()

    assert [r.headers.get("authorization") for r in other.requests] == [SECRET]
    assert [r.headers.get("authorization") for r in site.requests] == [None]


async def test_redirects(dag: dagger.Client, site: Server) -> None:
    """166. A redirect is followed; the name is that of the address that was asked for."""
    file = dag.http(url(site, "/away/there"))

    assert (await file.name(), await file.contents()) == ("there", TEXT.decode())


async def test_answers_that_are_no_file(dag: dagger.Client, site: Server) -> None:
    """166. Another status than 200 is an error that tells it."""
    with pytest.raises(dagger.QueryError, match="invalid response status 404"):
        await dag.http(url(site, "/none")).id()


async def test_revalidation(engines: Engines) -> None:
    """166. A file is asked for once a session; a later session sends no content that is unchanged."""
    with serve(answer) as site:
        digests = set()
        for _ in range(2):
            async with engines.session() as dag:
                for _ in range(2):
                    digests.add(await dag.http(url(site, "/file")).digest())

    assert len(digests) == 1
    assert [r.headers.get("if-none-match") for r in site.requests] == [None, '"tag"']


async def test_a_file_on_a_service(dag: dagger.Client, base: dagger.Container, unique: str) -> None:
    """158, 166. A file on a service is reached by the service's name."""
    service = (
        base.with_new_file("/www/file.txt", unique)
        .with_exposed_port(8080)
        .with_default_args(["httpd", "-f", "-p", "8080", "-h", "/www"])
        .as_service()
    )
    name = await service.hostname()

    hosted = dag.http(f"http://{name}:8080/file.txt", experimental_service_host=service)

    assert await hosted.contents() == unique
    with pytest.raises(dagger.QueryError, match="404"):
        await dag.http(f"http://{name}:8080/none", experimental_service_host=service).id()

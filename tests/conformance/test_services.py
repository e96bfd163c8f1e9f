"""Services: life, health, names, tunnels."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import dagger
import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@pytest.fixture
def web(dag: dagger.Client, base: dagger.Container, unique: str) -> dagger.Service:
    """A web server of this test's own on port 8080."""
    return (
        base.with_new_file("/www/index.html", unique)
        .with_exposed_port(8080)
        .with_default_args(["httpd", "-f", "-p", "8080", "-h", "/www"])
        .as_service()
    )


async def test_a_bound_service_is_reachable_by_alias_and_name(
    base: dagger.Container, web: dagger.Service, unique: str
) -> None:
    """145, 146. A service is up before the command, and found by its alias and its own name."""
    name = await web.hostname()
    bound = base.with_service_binding("web", web).with_env_variable("U", unique)

    done = bound.with_exec(["sh", "-c", f"wget -qO- http://web:8080/; wget -qO- http://{name}:8080/"])

    assert await done.stdout() == unique * 2
    assert await web.hostname() == name
    assert await web.endpoint() == f"{name}:8080"
    assert await web.endpoint(port=90, scheme="http") == f"http://{name}:90"
    assert [await p.port() for p in await web.ports()] == [8080]


async def test_without_ports_there_is_no_endpoint(base: dagger.Container) -> None:
    """146. An endpoint has a port."""
    with pytest.raises(dagger.QueryError, match="no ports exposed"):
        await base.with_default_args(["sleep", "600"]).as_service().endpoint()


async def test_start_and_stop(web: dagger.Service) -> None:
    """148. A service can be started and stopped by hand, also twice."""
    started = await web.start()

    assert await started.hostname() == await web.hostname()
    await web.stop()
    await web.stop(kill=True)


async def test_a_service_that_ends_before_it_is_healthy(base: dagger.Container) -> None:
    """149. A service that ends at once fails like a command."""
    service = (
        base.with_exposed_port(80)
        .with_default_args(["sh", "-c", "echo out; echo err >&2; exit 6"])
        .as_service()
    )

    with pytest.raises(dagger.ExecError) as caught:
        await service.start()

    assert caught.value.exit_code == 6
    assert (caught.value.stdout.strip(), caught.value.stderr.strip()) == ("out", "err")


async def test_a_service_that_dies_aborts_the_exec(base: dagger.Container, unique: str) -> None:
    """150. A command does not outlive a service that it needs, and the error names it."""
    service = base.with_env_variable("U", unique).with_default_args(["sleep", "1"]).as_service()

    began = time.monotonic()
    with pytest.raises(dagger.QueryError, match="aliased as dying"):
        await base.with_service_binding("dying", service).with_exec(["sleep", "30"]).sync()

    assert time.monotonic() - began < 15


async def test_chained_services(base: dagger.Container, web: dagger.Service, unique: str) -> None:
    """153. A service brings those that it needs itself."""
    fetch = "wget -qO/w/index.html http://back:8080/"
    front = (
        base.with_service_binding("back", web)
        .with_exposed_port(8081)
        .with_default_args(["sh", "-c", f"mkdir /w; {fetch}; httpd -f -p 8081 -h /w"])
        .as_service()
    )

    done = base.with_service_binding("front", front).with_exec(["wget", "-qO-", "http://front:8081/"])

    assert await done.stdout() == unique


async def test_custom_host_names(base: dagger.Container, web: dagger.Service, unique: str) -> None:
    """154. A service can be given a name."""
    named = web.with_hostname("my-web")

    assert await named.hostname() == "my-web"
    done = base.with_service_binding("", named).with_exec(["wget", "-qO-", "http://my-web:8080/"])
    assert await done.stdout() == unique


async def test_what_a_service_runs(base: dagger.Container) -> None:
    """155. There has to be something to run."""
    with pytest.raises(dagger.QueryError, match="no service command has been set"):
        await base.as_service().hostname()


@pytest.mark.parametrize("way", ["random", "given", "native"])
async def test_tunnels(dag: dagger.Client, web: dagger.Service, unique: str, way: str) -> None:
    """156. A tunnel leads to a service from a port that is given, its own, or any."""
    ways: dict[str, Callable[[], dagger.Service]] = {
        "random": lambda: dag.host().tunnel(web),
        "given": lambda: dag.host().tunnel(web, ports=[dagger.PortForward(backend=8080, frontend=18081)]),
        "native": lambda: dag.host().tunnel(web, native=True),
    }
    tunnel = await ways[way]().start()
    try:
        endpoint = await tunnel.endpoint(scheme="http")
        async with httpx.AsyncClient() as client:
            text = (await client.get(endpoint)).text
    finally:
        await tunnel.stop()

    assert text == unique
    assert {"given": ":18081", "native": ":8080", "random": ":"}[way] in endpoint


async def test_a_tunnel_needs_ports(dag: dagger.Client, base: dagger.Container) -> None:
    """156. A tunnel without ports is refused."""
    service = base.with_default_args(["sleep", "600"]).as_service()

    with pytest.raises(dagger.QueryError, match="no ports to forward"):
        await dag.host().tunnel(service).id()


async def test_ports_of_the_host(dag: dagger.Client, base: dagger.Container, unique: str) -> None:
    """157. A port of the host is reached like a service; none at all is refused."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(unique.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = dag.host().service([dagger.PortForward(backend=port, frontend=80)])
    try:
        done = base.with_service_binding("db", service).with_exec(["nc", "db", "80"])

        assert await done.stdout() == unique
    finally:
        server.close()
        await server.wait_closed()
    with pytest.raises(dagger.QueryError, match="no ports specified"):
        await dag.host().service([]).id()

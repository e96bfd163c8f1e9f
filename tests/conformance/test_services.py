"""Services: life, health, names, tunnels."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagger
import httpx
import pytest

from tests.conformance.conftest import busybox, connected
from tests.conformance.test_protocol import has_process, wait_for
from tests.engine.test_datagrams import Shout, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


UDP = dagger.NetworkProtocol.UDP
DATAGRAMS = r"""
#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    struct timeval wait = {.tv_sec = 1};
    char b[256];
    int s = socket(AF_INET, SOCK_DGRAM, 0), ask = argc > 2;
    if (ask) {
        inet_aton(argv[2], &a.sin_addr);
        setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        for (int tries = 0; tries < 5; tries++) {
            sendto(s, argv[3], strlen(argv[3]), 0, (void *)&a, sizeof a);
            ssize_t n = recv(s, b, sizeof b, 0);
            if (n >= 0) return write(1, b, n) != n;
        }
        return 1;
    }
    bind(s, (void *)&a, sizeof a);
    for (socklen_t l = sizeof a;;) {
        ssize_t n = recvfrom(s, b, sizeof b, 0, (void *)&a, &l);
        for (ssize_t i = 0; i < n; i++) b[i] = toupper(b[i]);
        sendto(s, b, n, 0, (void *)&a, l);
    }
}
"""


@pytest.fixture(scope="session")
def datagrams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program: `PORT` answers datagrams in upper case, `PORT ADDRESS TEXT` asks and prints."""
    folder = tmp_path_factory.mktemp("datagrams")
    (folder / "d.c").write_text(DATAGRAMS)
    subprocess.run(["cc", "-static", "-O1", "-w", "-o", folder / "d", folder / "d.c"], check=True)
    return folder / "d"


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


@pytest.mark.slow
async def test_a_service_is_shared_and_outlives_its_last_user_by_ten_seconds(
    dag: dagger.Client, base: dagger.Container, unique: str
) -> None:
    """147, 153, 158. One instance for all who need it; it and those it needs go some time after them."""
    folders = [f"/{name}-{unique}" for name in ("back", "front", "file")]
    serve = [["httpd", "-f", "-p", "8080", "-h", folder] for folder in folders]
    begin = "cat /proc/sys/kernel/random/uuid > {0}/id; exec httpd -f -p 8080 -h {0}"
    back, front, file = (
        base.with_directory(folder, dag.directory())
        .with_exposed_port(8080)
        .with_default_args(["sh", "-c", begin.format(folder)])
        for folder in folders
    )
    service = front.with_service_binding("back", back.as_service()).as_service()
    bound = base.with_service_binding("front", service)
    fetch = ["wget", "-qO-", "http://front:8080/id"]

    ids = await asyncio.gather(
        *(bound.with_env_variable("N", str(n)).with_exec(fetch).stdout() for n in range(2))
    )
    host = file.as_service()
    await dag.http(f"http://{await host.hostname()}:8080/id", experimental_service_host=host).contents()

    assert ids[0] == ids[1]
    await asyncio.sleep(8)
    assert [has_process(argv) for argv in serve] == [True, True, True]
    await wait_for(lambda: not any(has_process(argv) for argv in serve), within_s=30)


async def test_start_and_stop(web: dagger.Service) -> None:
    """148. A service can be started and stopped by hand, also twice."""
    started = await web.start()

    assert await started.hostname() == await web.hostname()
    await web.stop()
    await web.stop(kill=True)


async def test_start_returns_when_the_service_is_healthy(base: dagger.Container, unique: str) -> None:
    """148. A port that opens late is waited for; the service then answers at once."""
    slow = f"mkdir /www; echo {unique} > /www/index.html; sleep 1; exec httpd -f -p 8080 -h /www"
    service = base.with_exposed_port(8080).with_default_args(["sh", "-c", slow]).as_service()

    await service.start()

    bound = base.with_service_binding("web", service)
    assert await bound.with_exec(["wget", "-qO-", "http://web:8080/"]).stdout() == f"{unique}\n"
    await service.stop()


async def test_stop_waits_for_handlers_unless_it_kills(
    dag: dagger.Client, base: dagger.Container, unique: str
) -> None:
    """62, 148. SIGTERM reaches every process of the command; `kill` gives none of them time."""
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique))
    child = "trap 'sleep 0.5; echo child >> /c/told; exit' TERM; while :; do sleep 0.1; done"
    script = f'sh -c "{child}" & trap "echo parent >> /c/told; wait; exit" TERM; touch /c/up; wait'
    heard = "sort /c/told 2>/dev/null; rm -f /c/told"
    up = ["sh", "-c", "until [ -e /c/up ]; do sleep 0.05; done; sleep 0.2; rm /c/up"]

    for number, (kill, told) in enumerate([(False, "child\nparent\n"), (True, "")]):
        here = mounted.with_env_variable("N", str(number))
        service = here.with_default_args(["sh", "-c", script]).as_service()
        await service.start()
        await here.with_exec(up).sync()
        await service.stop(kill=kill)

        assert await here.with_exec(["sh", "-c", heard]).stdout() == told


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


async def test_ports_without_a_health_check_are_not_waited_for(base: dagger.Container, unique: str) -> None:
    """151. Those are passed over, the others probed; with none left a service is healthy at once."""
    late = f"mkdir /www; echo {unique} > /www/index.html; sleep 1; exec httpd -f -p 8080 -h /www"
    idle = base.with_exposed_port(81, experimental_skip_healthcheck=True)
    none = idle.with_default_args(["sleep", "600"]).as_service()
    some = idle.with_exposed_port(8080).with_default_args(["sh", "-c", late]).as_service()

    await none.start()
    await some.start()

    bound = base.with_service_binding("web", some)
    assert await bound.with_exec(["wget", "-qO-", "http://web:8080/"]).stdout() == f"{unique}\n"
    await none.stop(kill=True)
    await some.stop(kill=True)


async def test_a_health_check_decides(base: dagger.Container, unique: str) -> None:
    """152. So many failures in a row fail the start with the last; those while starting are free."""
    soon = ["sh", "-c", f"sleep 1; touch /ready-{unique}; sleep 600"]
    service = base.with_default_args(soon)
    check = [f"echo checked; test -e /ready-{unique}"]
    in_shell = True

    failing = service.with_docker_healthcheck(check, shell=in_shell, interval="100ms", retries=2)
    free = service.with_docker_healthcheck(
        check, shell=in_shell, interval="200ms", start_period="20s", start_interval="200ms", retries=1
    )

    with pytest.raises(dagger.ExecError) as caught:
        await failing.as_service().start()
    assert (caught.value.exit_code, caught.value.stdout.strip()) == (1, "checked")
    started = await free.as_service().start()
    await started.stop(kill=True)


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


async def test_services_that_know_each_other_by_name(base: dagger.Container, unique: str) -> None:
    """154. Each finds the other by its given name, whichever starts first."""
    names = [f"one-{unique}", f"two-{unique}"]

    def knows(own: str, other: str) -> dagger.Service:
        wait = f"until wget -qO /www/other http://{other}:8080/id; do sleep 0.1; done"
        script = f"mkdir /www; echo {own} > /www/id; httpd -p 8080 -h /www; {wait}; httpd -f -p 8081 -h /www"
        container = base.with_exposed_port(8081).with_default_args(["sh", "-c", script])
        return container.as_service().with_hostname(own)

    services = [knows(names[0], names[1]), knows(names[1], names[0])]

    await asyncio.gather(*(service.start() for service in services))

    bound = base.with_service_binding("one", services[0])
    assert await bound.with_exec(["wget", "-qO-", "http://one:8081/other"]).stdout() == f"{names[1]}\n"
    for service in services:
        await service.stop(kill=True)


async def test_what_a_service_runs(base: dagger.Container) -> None:
    """155. It runs what `docker run` would, or the arguments given; there has to be something."""
    image = base.with_exposed_port(8080).with_directory("/www", base.directory("/etc"))
    plain = image.with_entrypoint(["httpd", "-f"])
    command = ["-p", "8080", "-h", "/www"]
    ways = {
        "entrypoint": image.with_entrypoint(["httpd", "-f", *command]).as_service(),
        "default args alone": image.with_default_args(["httpd", "-f", *command]).as_service(),
        "args": plain.as_service(args=["httpd", "-f", *command]),
        "both": plain.as_service(args=command, use_entrypoint=True),
        "args set by hand": plain.with_default_args(command).as_service(use_entrypoint=True),
    }

    for way, service in ways.items():
        bound = base.with_service_binding("web", service).with_env_variable("WAY", way)
        fetched = await bound.with_exec(["wget", "-qO-", "http://web:8080/group"]).stdout()
        assert fetched == await base.file("/etc/group").contents(), way
    with pytest.raises(dagger.QueryError, match="no service command has been set"):
        await base.as_service().hostname()


@pytest.mark.parametrize("way", ["random", "given", "native", "native and given"])
async def test_tunnels(dag: dagger.Client, web: dagger.Service, unique: str, way: str) -> None:
    """156. A tunnel leads to a service from a port that is given, its own, or any."""
    ways: dict[str, Callable[[], dagger.Service]] = {
        "random": lambda: dag.host().tunnel(web),
        "given": lambda: dag.host().tunnel(web, ports=[dagger.PortForward(backend=8080, frontend=18081)]),
        "native": lambda: dag.host().tunnel(web, native=True),
        "native and given": lambda: dag.host().tunnel(
            web, native=True, ports=[dagger.PortForward(backend=8080, frontend=18082)]
        ),
    }
    tunnel = await ways[way]().start()
    try:
        endpoint = await tunnel.endpoint(scheme="http")
        ports = [await port.port() for port in await tunnel.ports()]
        async with httpx.AsyncClient() as client:
            texts = [(await client.get(f"http://127.0.0.1:{port}")).text for port in ports]
    finally:
        await tunnel.stop()

    known = {"given": [18081], "native": [8080], "native and given": [8080, 18082], "random": ports}
    assert sorted(ports) == known[way]
    assert endpoint == f"http://127.0.0.1:{ports[0]}"
    assert texts == [unique] * len(ports)


@pytest.mark.differs("there its ports stay open until the session ends")
@pytest.mark.parametrize("what", ["service", "container"])
async def test_up_lasts_as_long_as_its_request(base: dagger.Container, unique: str, what: str) -> None:
    """156. `up` leads ports of this machine to a service until the client goes."""
    container = (
        base.with_new_file("/www/index.html", unique)
        .with_exposed_port(8080)
        .with_default_args(["httpd", "-f", "-p", "8080", "-h", "/www"])
    )
    ports = [dagger.PortForward(backend=8080, frontend=18083)]
    up = container.up(ports=ports) if what == "container" else container.as_service().up(ports=ports)

    async def fetch() -> str | None:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get("http://127.0.0.1:18083/")).text
        except httpx.TransportError:
            return None

    running = asyncio.create_task(up)
    async with asyncio.timeout(10):
        while (text := await fetch()) is None:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])

    assert text == unique
    async with asyncio.timeout(5):
        while await fetch() is not None:
            await asyncio.sleep(0.05)


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


@pytest.mark.differs("there a UDP port cannot be listened on")
async def test_ports_of_datagrams(dag: dagger.Client, base: dagger.Container, datagrams: Path) -> None:
    """156, 157. UDP is passed on like TCP, from this machine and to it."""
    server = base.with_file("/d", dag.host().file(str(datagrams)))
    service = server.with_exposed_port(53, protocol=UDP).with_default_args(["/d", "53"]).as_service()
    loop = asyncio.get_running_loop()
    shouting, _ = await loop.create_datagram_endpoint(Shout, local_addr=("127.0.0.1", 0))
    port = shouting.get_extra_info("sockname")[1]
    host = dag.host().service([dagger.PortForward(backend=port, frontend=54, protocol=UDP)])

    tunnel = await dag.host().tunnel(service).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as client:
        client.connect(("127.0.0.1", await (await tunnel.ports())[0].port()))
        outward = await ask(client, b"from the host")
    command = r"/d 54 $(sed -n 's/\tdb$//p' /etc/hosts) 'from a container'"
    inward = await server.with_service_binding("db", host).with_exec(["sh", "-c", command]).stdout()

    await tunnel.stop()
    shouting.close()
    assert (outward, inward) == (b"FROM THE HOST", "FROM A CONTAINER")


async def test_what_runs_a_command_starts_the_services_it_needs(
    base: dagger.Container, web: dagger.Service, unique: str, registry: str, tmp_path: Path
) -> None:
    """159. Whatever is asked of the result, the command's services are there."""
    fetch = ["sh", "-c", "mkdir /o; wget -qO /o/f http://web:8080/"]

    def done(name: str) -> dagger.Container:
        bound = base.with_service_binding("web", web).with_env_variable("WAY", name + unique)
        return bound.with_exec(fetch)

    assert await done("entries").directory("/o").entries() == ["f"]
    assert await done("contents").file("/o/f").contents() == unique
    await done("export").file("/o/f").export(str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == unique
    assert await done("publish").publish(f"{registry}/service-{unique}")


async def test_nothing_starts_without_a_command(base: dagger.Container) -> None:
    """159. A service that cannot start is no hindrance where nothing has to run."""
    broken = base.with_exposed_port(80).with_default_args(["false"]).as_service()
    bound = base.with_service_binding("broken", broken).with_new_file("/tmp/f", "text")

    assert await bound.directory("/tmp").entries() == ["f"]
    assert await bound.file("/tmp/f").contents() == "text"


async def test_the_end_of_a_session_leaves_nothing_of_its_services(engines: Engines, rootfs: Path) -> None:
    """160. Processes, namespaces, links and mounts go with the session."""
    engine = engines.start()
    async with connected(engine, "embedded", engine.workdir) as dag:
        base = busybox(dag, rootfs)
        service = base.with_default_args(["sleep", "605"]).as_service()
        await service.start()
        looked = base.with_exec(["sh", "-c", "ip -4 -o addr show eth0 | sed 's/.* 10.87.//; s/[.].*//'"])
        bridge = f"pl{(await looked.stdout()).strip()}"
        spaces = spaces_of(["sleep", "605"])
        links = [name for name in os.listdir("/sys/class/net") if name.startswith(f"{bridge}x")]

    code = engine.end()

    assert code == 0, engine.words.read_text()
    assert spaces
    if os.geteuid() == 0:  # an ordinary user's bridge is in a namespace of its own
        assert links
    assert not has_process(["sleep", "605"])
    assert not spaces & {space for pid in os.listdir("/proc") if pid.isdecimal() for space in spaces_at(pid)}
    assert not [name for name in os.listdir("/sys/class/net") if name in links]
    assert str(engine.store) not in Path("/proc/self/mountinfo").read_text()


def spaces_of(argv: list[str]) -> set[str]:
    """Return the namespaces, but for the host's, of the process with these arguments."""
    wanted = "\0".join(argv) + "\0"
    own = spaces_at("self")
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/cmdline").read_text(errors="replace") == wanted:
                return spaces_at(pid) - own
        except OSError:
            continue
    return set()


def spaces_at(pid: str) -> set[str]:
    """Return the namespaces of a process; none of one that is gone."""
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "pid", "mnt")}
    except OSError:
        return set()

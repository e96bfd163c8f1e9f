"""Services: started when bound, healthy before they are used, gone when nobody needs them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import Digest, digest_text
from pipeline.engine import ops
from pipeline.engine.runtime.cgroups import Limits, find_problem
from pipeline.engine.runtime.errors import ExecFailed, ServiceExited
from pipeline.engine.runtime.execute import ExecOutcome, execute
from pipeline.engine.runtime.launcher import LauncherRunner
from pipeline.engine.runtime.network import Network
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.services import Services, host_name_of
from pipeline.engine.store import Snapshot, Store
from tests.engine import busybox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from pipeline.engine.runtime.spec import Runner

pytestmark = [pytest.mark.root, pytest.mark.anyio]

SERVE = "mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p 8000 -h /www"


class Town:
    """A store with a busybox image, and the services of one session."""

    def __init__(self, store: Store, runner: Runner, network: Network) -> None:
        self.store = store
        self.runner = runner
        self.network = network
        draft = store.snapshots.prepare(store.snapshots.empty)
        busybox.fill(draft.upper)
        self.base = ops.Pinned(content=digest_text("town"))
        self.trees = {self.base.digest: store.snapshots.commit(draft, identity=self.base.content)}
        self.services = Services(store, runner, network, self.evaluate, detach_grace_s=0.2, stop_grace_s=0.5)

    async def evaluate(self, _exec: ops.Exec) -> Mapping[Digest, Snapshot]:
        return self.trees

    def exec(self, script: str, **more: Any) -> ops.Exec:
        return ops.Exec(base=self.base, argv=("sh", "-c", script), **more)

    def service(self, script: str, *ports: int, **more: Any) -> ops.ContainerService:
        settings = {key: more.pop(key) for key in ("healthcheck", "host_name") if key in more}
        return ops.ContainerService(
            exec=self.exec(script, **more), ports=tuple(ops.Port(port=port) for port in ports), **settings
        )

    async def run(self, script: str, *bindings: ops.ServiceBinding) -> ExecOutcome:
        return await execute(
            self.store, self.runner, self.network, self.exec(script, bindings=bindings), self.trees,
            observer=lambda _event: None, services=self.services,
        )  # fmt: skip

    async def stdout(self, script: str, *bindings: ops.ServiceBinding) -> str:
        return self.store.blobs.read((await self.run(script, *bindings)).stdout).decode()


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    busybox.require_launcher()
    store = Store.open(tmp_path / "store")
    network = await Network.open(store.root, offline=True)
    town = Town(store, find_runner(), network)
    yield town
    await town.services.close()
    await network.close()
    store.close()


def bound(service: ops.Service, alias: str = "web") -> ops.ServiceBinding:
    return ops.ServiceBinding(alias=alias, service=service)


async def test_an_exec_reaches_a_service_by_alias_and_by_name(town: Town) -> None:
    """Which listens before the exec starts."""
    service = town.service(SERVE, 8000)

    shown = await town.stdout(
        f"wget -qO- http://web:8000/; wget -qO- http://{host_name_of(service)}:8000/", bound(service)
    )

    assert shown == "hello\nhello\n"


async def test_a_service_runs_once_for_all_who_bind_it(town: Town) -> None:
    """Concurrent starters wait for the same start."""
    service = town.service(
        f"head -c 8 /dev/urandom | md5sum > /id; {SERVE.replace('/www &&', '/www && cp /id /www/id &&')}",
        8000,
    )

    shown = await asyncio.gather(
        *(town.stdout(f"wget -qO- http://web:8000/id # {n}", bound(service)) for n in range(3))
    )

    assert len(set(shown)) == 1


async def test_a_service_stops_some_time_after_its_last_user(town: Town) -> None:
    """Within the grace the next user finds it running, after it a new one starts."""
    service = town.service(SERVE, 8000)
    await town.run("true", bound(service))
    first = town.services.address(service)
    await town.run("true # again", bound(service))
    again = town.services.address(service)

    await asyncio.sleep(1.0)

    assert first == again
    assert town.services.address(service) is None


async def test_a_service_that_ends_before_it_is_healthy_fails_its_users(town: Town) -> None:
    """With its output, untrimmed, and both of its names."""
    service = town.service("echo starting; echo broken >&2; exit 4", 8000)

    with pytest.raises(ExecFailed) as caught:
        await town.run("true", bound(service))

    error = caught.value
    assert str(error) == f"start {host_name_of(service)} (aliased as web): exit code: 4"
    assert (error.exit_code, error.stdout_tail, error.stderr_tail) == (4, "starting\n", "broken\n")


async def test_a_service_that_ends_well_before_it_is_healthy_is_a_failure_too(town: Town) -> None:
    """It says so."""
    with pytest.raises(ExecFailed) as caught:
        await town.services.start(town.service("true", 8000))

    assert (str(caught.value), caught.value.exit_code) == ("service exited before healthcheck", 0)


async def test_a_service_that_ends_while_it_is_used_cancels_its_users(town: Town) -> None:
    """They fail with its name; the next user gets a new one."""
    service = town.service(f"(sleep 0.7; kill -9 -1) & {SERVE}", 8000)

    with pytest.raises(ServiceExited) as caught:
        await town.run("sleep 100", bound(service))

    assert str(caught.value).startswith(
        f"bound service {host_name_of(service)} (aliased as web) exited: exit code: "
    )
    assert await town.stdout("wget -qO- http://web:8000/", bound(service)) == "hello\n"


async def test_a_service_can_use_another(town: Town) -> None:
    """The other starts first, and is held as long as it lives."""
    back = town.service(SERVE, 8000)
    front = town.service(
        "while :; do wget -qO- http://back:8000/ | nc -l -p 9000; done", 9000, bindings=(bound(back, "back"),)
    )

    shown = await town.stdout("sleep 0.2; nc front 9000 </dev/null || true", bound(front, "front"))

    assert shown == "hello\n"
    assert town.services.address(back) is not None


async def test_start_holds_a_service_until_it_is_stopped(town: Town) -> None:
    """Starting twice is starting once; stopping what does not run is no error."""
    service = town.service("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    await town.services.start(service)
    await town.services.start(service)
    await asyncio.sleep(0.5)
    assert town.services.address(service) is not None

    await town.services.stop(service)
    await town.services.stop(service)

    assert town.services.address(service) is None


async def test_a_service_that_ignores_the_request_to_stop_can_be_killed(town: Town) -> None:
    """At once."""
    service = town.service("trap '' TERM; while :; do sleep 0.05; done")
    await town.services.start(service)
    began = time.monotonic()

    await town.services.stop(service, kill=True)

    assert time.monotonic() - began < 1


async def test_a_health_check_is_run_inside_the_service(town: Town) -> None:
    """It is healthy when the check first succeeds; it needs no port."""
    check = ops.Healthcheck(  # noqa: S604 - a shell in the container
        args=("test -e /ready",),
        shell=True,
        interval_s=0.05,
        start_period_s=30,
    )
    service = town.service("sleep 0.4; touch /ready; sleep 100", healthcheck=check)
    began = time.monotonic()

    await town.services.start(service)

    assert 0.4 < time.monotonic() - began < 5


async def test_a_health_check_that_keeps_failing_fails_the_start(town: Town) -> None:
    """After its retries, with what it wrote."""
    check = ops.Healthcheck(args=("sh", "-c", "echo sick; exit 3"), interval_s=0.02, retries=2)

    with pytest.raises(ExecFailed) as caught:
        await town.services.start(town.service("sleep 100", healthcheck=check))

    assert (caught.value.exit_code, caught.value.stdout_tail) == (3, "sick")


async def test_a_tunnel_leads_from_this_machine_to_a_service(town: Town) -> None:
    """On loopback only; the same key gives the same port; closing it frees the service."""
    service = town.service(SERVE, 8000)
    ports = (ops.PortForward(backend=8000),)

    opened = await town.services.tunnel(service, ports, key="k")
    again = await town.services.tunnel(service, ports, key="k")
    reader, writer = await asyncio.open_connection("127.0.0.1", opened[0].frontend)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await town.services.close_tunnel("k")
    await town.services.close_tunnel("k")

    assert answer.endswith(b"hello\n")
    assert opened == again
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", opened[0].frontend)


async def test_ports_of_this_machine_can_be_used_by_execs(town: Town) -> None:
    """Under the service's name, on the port asked for."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"from the host\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = ops.HostService(host="127.0.0.1", ports=(ops.PortForward(backend=port, frontend=5432),))

    shown = await town.stdout("nc db 5432 </dev/null", bound(service, "db"))

    server.close()
    assert shown == "from the host\n"


async def test_services_find_each_other_by_name_whichever_starts_first(town: Town) -> None:
    """A service learns of those that start later, and commands of those that they do not bind."""
    wait = "until wget -qO /www/index.html http://second:8000/; do sleep 0.05; done"
    first = town.service(f"mkdir -p /www; {wait}; exec httpd -f -p 8000 -h /www", host_name="first")
    second = town.service(SERVE, 8000, host_name="second")
    await town.services.start(first)
    await town.services.start(second)

    shown = await town.stdout("until wget -qO- http://first:8000/; do sleep 0.05; done")

    assert shown == "hello\n"


async def test_the_end_of_the_session_kills_every_service(town: Town) -> None:
    """Without waiting for anybody; nothing of them stays in the store."""
    services = [town.service(f"trap '' TERM; sleep 100; true # {n}") for n in range(3)]
    for service in services:
        await town.services.start(service)
    began = time.monotonic()

    await town.services.close()

    assert time.monotonic() - began < 2
    assert [town.services.address(service) for service in services] == [None] * 3
    kept = {path.name for path in (town.store.root / "snapshots").iterdir()}
    assert kept == {"0", *(str(snapshot.id) for snapshot in town.trees.values())}


async def test_the_name_of_a_service_follows_from_its_definition() -> None:
    """It is a DNS label, the same in every session, unless one was chosen."""
    exec_ = ops.Exec(base=ops.Scratch(), argv=("true",))
    service = ops.ContainerService(exec=exec_)

    assert host_name_of(service) == host_name_of(ops.ContainerService(exec=exec_))
    assert len(host_name_of(service)) == 13
    assert host_name_of(ops.ContainerService(exec=exec_, host_name="db")) == "db"


@pytest.fixture
def bounded(town: Town) -> Iterator[LauncherRunner]:
    """A runner that gives each container 48 MiB."""
    if problem := find_problem():
        pytest.skip(problem)
    town.runner = LauncherRunner(limits=Limits(memory_bytes=48 << 20))
    town.services = Services(
        town.store, town.runner, town.network, town.evaluate, detach_grace_s=0.2, stop_grace_s=0.5
    )
    assert town.runner.cgroups is not None
    with town.runner.cgroups.lease() as leaf:
        if leaf is None or leaf.memory_events is None:
            pytest.skip("no memory controller here")
    yield town.runner
    town.runner.cgroups.close()


def groups_of(runner: LauncherRunner) -> list[Path]:
    """Return the directories in which the leaves of a runner are."""
    assert runner.cgroups is not None
    with runner.cgroups.lease() as leaf:
        assert leaf is not None
        return [place.parent for place in leaf.directories]


EAT = "dd if=/dev/zero of=/dev/null bs=100M count=1"


async def test_a_service_that_runs_out_of_memory_says_so(town: Town, bounded: LauncherRunner) -> None:
    """Before it is healthy; its code stays the command's."""
    service = town.service(f"{EAT} || exit 5", 8000)

    with pytest.raises(ExecFailed) as caught:
        await town.services.start(service)

    assert (str(caught.value), caught.value.exit_code) == ("exit code: 5 (out of memory)", 5)


async def test_a_service_that_runs_out_of_memory_in_use_says_so(town: Town, bounded: LauncherRunner) -> None:
    """To whoever used it."""
    ends = f"while ! [ -e /www/go ]; do sleep 0.05; done; {EAT}; exit 137"
    service = town.service(f"mkdir -p /www; httpd -p 8000 -h /www; {ends}", 8000)
    check = ops.Healthcheck(args=("touch", "/www/go"))  # what tells it to go on
    service = replace(service, healthcheck=check)

    with pytest.raises(ServiceExited) as caught:
        await town.run("sleep 30", bound(service))

    named = f"{host_name_of(service)} (aliased as web)"
    assert str(caught.value) == f"bound service {named} exited: exit code: 137 (out of memory)"


async def test_a_service_and_its_health_checks_share_a_leaf_that_is_empty_afterwards(
    town: Town, bounded: LauncherRunner
) -> None:
    """The next container gets the same one, and with the runner all of them go."""
    bases = groups_of(bounded)
    check = ops.Healthcheck(args=("sh", "-c", "sleep 100 >/dev/null 2>&1 &"))
    service = replace(town.service("sleep 100", 8000), healthcheck=check)

    await town.services.start(service)
    inside = [len((base / "1/cgroup.procs").read_text().split()) for base in bases]
    await town.services.stop(service, kill=True)
    await town.services.start(town.service("sleep 100 # again"))
    await town.services.close()
    leaves = [sorted(path.name for path in base.iterdir() if path.is_dir()) for base in bases]
    assert bounded.cgroups is not None
    bounded.cgroups.close()

    assert all(count >= 2 for count in inside)
    assert leaves == [["1"]] * len(bases)
    assert not any(base.exists() for base in bases)

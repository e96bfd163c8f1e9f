"""`Service`, and the services that `Host` and `Container` make: tunnels and forwarded ports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.digest import digest_of
from pipeline.engine import ops
from pipeline.engine.bycontent import exec_inputs
from pipeline.engine.configured import BadArgument
from pipeline.engine.runtime.services import host_name_of
from pipeline.session.fields import Field
from pipeline.session.tables import data
from pipeline.session.tables.container import refuse_nesting
from pipeline.session.tables.execution import as_service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.engine.container import Container
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """Ports of this machine that lead to a service."""

    service: ops.Service
    ports: tuple[ops.PortForward, ...]

    @property
    def key(self) -> str:
        """What the tunnel is known by while it is open."""
        return digest_of(self)


AnyService = ops.ContainerService | ops.HostService | Tunnel


def forwards(given: Sequence[Mapping[str, Any]] | None) -> tuple[ops.PortForward, ...]:
    """Return port forwards; a front port that is left out is 0."""
    return tuple(
        ops.PortForward(backend=p["backend"], frontend=p["frontend"] or 0, protocol=p["protocol"])
        for p in given or ()
    )


def host_service(_: Scope, __: object, arguments: Mapping[str, Any]) -> ops.HostService:
    """Make ports of the host reachable from containers."""
    ports = tuple(replace(p, frontend=p.frontend or p.backend) for p in forwards(arguments["ports"]))
    if not ports:
        raise BadArgument("no ports specified")
    return ops.HostService(host=arguments["host"], ports=ports)


def tunnel(_: Scope, __: object, arguments: Mapping[str, Any]) -> Tunnel:
    """Describe a way from this machine to a service of a container."""
    service: AnyService = arguments["service"]
    if not isinstance(service, ops.ContainerService):
        raise BadArgument("tunneling to non-Container services is not supported")
    return Tunnel(service=service, ports=_chosen(service, arguments["ports"], native=arguments["native"]))


def _chosen(
    service: ops.ContainerService, given: Sequence[Mapping[str, Any]] | None, *, native: bool
) -> tuple[ops.PortForward, ...]:
    """Return what to forward: the ports given, the service's own under the same numbers if `native`."""
    own = [ops.PortForward(backend=p.port, frontend=p.port, protocol=p.protocol) for p in service.ports]
    chosen = forwards(given)
    if native:
        chosen = (*own, *chosen)
    elif not chosen:
        chosen = tuple(replace(port, frontend=0) for port in own)
    if not chosen:
        raise BadArgument("no ports to forward")
    return chosen


# ---- Service ---------------------------------------------------------------------------------


async def start(scope: Scope, service: AnyService, _: Mapping[str, Any]) -> None:
    """Start, and wait until it is healthy."""
    if isinstance(service, Tunnel):
        opened = await scope.engine.services.tunnel(service.service, service.ports, key=service.key)
        scope.tunnels[service.key] = opened
    else:
        await scope.engine.services.start(service)


async def stop(scope: Scope, service: AnyService, arguments: Mapping[str, Any]) -> None:
    """End it."""
    if isinstance(service, Tunnel):
        scope.tunnels.pop(service.key, None)
        await scope.engine.services.close_tunnel(service.key)
    else:
        await scope.engine.services.stop(service, kill=arguments["kill"])


async def sync(scope: Scope, service: AnyService, _: Mapping[str, Any]) -> None:
    """Evaluate what the service starts from."""
    inner = service.service if isinstance(service, Tunnel) else service
    if isinstance(inner, ops.ContainerService):
        await scope.engine.solver.trees(exec_inputs(inner.exec))


def hostname(_: Scope, service: AnyService, __: Mapping[str, Any]) -> str:
    """Return the name containers find it by; of a tunnel, this machine's address."""
    return "127.0.0.1" if isinstance(service, Tunnel) else host_name_of(service)


def endpoint(scope: Scope, service: AnyService, arguments: Mapping[str, Any]) -> str:
    """Return `host:port`, or a URL."""
    port = arguments["port"] or next((p["port"] for p in _ports(scope, service)), None)
    if port is None:
        raise BadArgument("no ports exposed")
    place = f"{hostname(scope, service, {})}:{port}"
    return f"{arguments['scheme']}://{place}" if arguments["scheme"] else place


def ports(scope: Scope, service: AnyService, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the ports; of a tunnel, those of this machine."""
    return _ports(scope, service)


def _ports(scope: Scope, service: AnyService) -> list[dict[str, Any]]:
    if isinstance(service, ops.ContainerService):
        return [data.port(port) for port in service.ports]
    opened = service.ports
    if isinstance(service, Tunnel):
        if service.key not in scope.tunnels:
            raise BadArgument("tunnel is not running: start it first")
        opened = scope.tunnels[service.key]
    return [data.port(ops.Port(port=p.frontend, protocol=p.protocol)) for p in opened]


def with_hostname(_: Scope, service: AnyService, arguments: Mapping[str, Any]) -> AnyService:
    """Give it another name."""
    if isinstance(service, Tunnel):
        raise BadArgument("cannot name a tunnel: it is reached at this machine's address")
    return replace(service, host_name=arguments["hostname"])


async def up(scope: Scope, service: AnyService, arguments: Mapping[str, Any]) -> None:
    """Lead ports of this machine to it until the request is cancelled."""
    if not isinstance(service, ops.ContainerService):
        raise BadArgument("cannot bring up a service that is no container")
    given = arguments["ports"]
    chosen = _chosen(service, given, native=not given and not arguments["random"])
    lead = Tunnel(service=service, ports=chosen)
    opened = await scope.engine.services.tunnel(service, chosen, key=lead.key)
    try:
        for port in opened:
            scope.engine.notice(f"port {port.frontend} of this machine leads to port {port.backend}")
        await asyncio.Event().wait()
    finally:
        await scope.engine.services.close_tunnel(lead.key)


async def container_up(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> None:
    """Run the container as a service and lead ports of this machine to it."""
    refuse_nesting("Container.up", arguments)
    await up(scope, as_service(scope, container, arguments), arguments)


SERVICE: Final[Table] = {
    "endpoint": Field(resolve=endpoint),
    "hostname": Field(resolve=hostname),
    "ports": Field(resolve=ports, never_cached="a tunnel's ports are known while it is open"),
    "start": Field(resolve=start, never_cached="it starts something"),
    "stop": Field(resolve=stop, never_cached="it ends something"),
    "sync": Field(resolve=sync),
    "up": Field(resolve=up, never_cached="it lasts as long as the request"),
    "withHostname": Field(resolve=with_hostname),
}

HOST_SERVICES: Final[Table] = {
    "service": Field(resolve=host_service),
    "tunnel": Field(resolve=tunnel, objects={"service": "Service"}),
}

CONTAINER_UP: Final[Table] = {"up": Field(resolve=container_up, never_cached=SERVICE["up"].never_cached)}

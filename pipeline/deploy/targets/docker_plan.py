"""What is to run on which Docker host, and the commands that bring it there: pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.deploy.targets.docker_host import publish
from pipeline.deploy.targets.docker_proxy import CONFIG_FOLDER, alias_of, copy_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.deploy.release import Release, ReleasedService
    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.docker_host import Container, DockerHost, View

RESERVED: Final = ("DOCKER_", "LD_", "BASH_")
RESERVED_NAMES: Final = frozenset({"PATH", "HOME", "ENV", "IFS", "SHELLOPTS"})
"""Names that no secret can have: they would say how Docker's own command runs."""

# An image stays as long as a container of whatever environment, or another release here, is made of it.
REMOVE_IMAGES: Final = """\
list="$folder/fetched/{release}"
if [ -e "$list" ]; then
    while read -r image <&8; do
        used=$(docker ps -aq --filter "ancestor=$image")
        others=$(grep -lxF -- "$image" "$folder"/fetched/r-* | grep -vxF -- "$list" || true)
        there=$(docker image inspect -f 1 "$image" 2>/dev/null || true)
        if [ -z "$used$others" ] && [ -n "$there" ]; then docker image rm "$image" >/dev/null; fi
    done 8<"$list"
    rm -f "$list"
fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One container that is to run. `public` says that the proxy sends it requests."""

    environment: str
    release: str
    service: str
    part: int
    number: int
    slot: str
    public: bool
    released: ReleasedService
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return f"{self.environment}-{self.service}-{self.release}-{self.part}-{self.number}"


def part_of(host: int, number: int, *, hosts: int, most: int, parts: int) -> int:
    """Return the part, from 1, of the instance `number`, from 1, of a service on a host, from 0.

    Parts go through the hosts one after another. `most` is how many instances any service has on a host.
    """
    return (host * most + number - 1) * parts // (hosts * most) + 1


def most_replicas(release: Release) -> int:
    return max((one.settings.replicas for one in release.services.values()), default=1)


def instances_of(
    deployment: Deployment,
    host: int,
    hosts: int,
    slot: str,
    public: str,
    secrets: Mapping[str, Mapping[str, str]],
) -> tuple[Instance, ...]:
    """Return all instances of the new release on a host, each after those it needs."""
    new = deployment.new
    most = most_replicas(new)
    return tuple(
        Instance(
            environment=deployment.environment.name,
            release=new.id,
            service=service,
            part=part_of(host, number, hosts=hosts, most=most, parts=deployment.parts),
            number=number,
            slot=slot,
            public=service == public,
            released=new.services[service],
            secrets=secrets.get(service, {}),
        )
        for service in new.in_order()
        for number in range(1, new.services[service].settings.replicas + 1)
    )


def release_network(environment: str, release: str) -> str:
    """The network in which the services of one release find each other by name."""
    return f"{environment}-{release}"


def ensure_network(environment: str, name: str) -> str:
    label = f"--label pipeline.environment={environment}"
    return (
        f"docker network inspect {name} >/dev/null 2>&1 || docker network create {label} {name} >/dev/null\n"
    )


def create_command(one: Instance, fence: int, front: str, also_in: Sequence[str] = ()) -> str:
    """Return the commands that make an instance and start it; `also_in` are networks with its name as well.

    Values of secrets are in the environment of the one command, and in no list of arguments.
    """
    settings = one.released.settings
    network = release_network(one.environment, one.release)
    argv = ["docker", "create", "--pull", "never", "--name", one.name, "--restart", "unless-stopped"]
    argv += ["--network", network, "--network-alias", one.service]
    argv += ["--stop-timeout", str(max(1, round(settings.drain.stop_timeout_s)))]
    argv += [word for label in _labels(one, fence) for word in ("--label", label)]
    argv += [*_limits(one), *environment_options(one.released)]
    for inside, volume in sorted(settings.volumes.items()):
        argv += ["--mount", f"type=volume,source={one.environment}-{volume},target={inside}"]
    argv += [one.released.image, *(settings.command or ())]
    lines = [f"{secret_words(one.secrets)}{shlex.join(argv)} >/dev/null"]
    if one.public:
        alias = alias_of(one.environment, f"{one.slot}{one.number}")
        lines.append(f"docker network connect --alias {alias} {front} {one.name}")
    lines += [f"docker network connect --alias {one.service} {other} {one.name}" for other in also_in]
    return "\n".join([*lines, f"docker start {one.name} >/dev/null", ""])


def environment_options(released: ReleasedService) -> list[str]:
    """Return the options that give a container its variables: values of settings, and names of secrets."""
    plain = [
        word for key, value in sorted(released.settings.env.items()) for word in ("-e", f"{key}={value}")
    ]
    return [*plain, *(word for name in sorted(released.secrets) for word in ("-e", name))]


def secret_words(secrets: Mapping[str, str]) -> str:
    """Return the assignments that stand before a command, so that it alone has these variables."""
    return "".join(f"{name}={shlex.quote(value)} " for name, value in sorted(secrets.items()))


def is_reserved(secret: str) -> bool:
    return secret in RESERVED_NAMES or secret.startswith(RESERVED)


def ensure_proxy(environment: str, name: str, front: str, *, image: str, publish: str, config: str) -> str:
    """Return the commands after which the proxy runs; one that listens elsewhere is replaced."""
    what = f"{image} {publish}"
    argv = ["docker", "create", "--pull", "never", "--name", name, "--restart", "unless-stopped"]
    argv += ["--network", front, "-p", publish, "--entrypoint", "haproxy"]
    argv += ["--label", f"pipeline.environment={environment}", "--label", f"pipeline.proxy={what}"]
    words = f'{shlex.join(argv)} -e PIPELINE_GATEWAY="$gateway" {shlex.quote(image)}'
    form = shlex.quote('{{index .Config.Labels "pipeline.proxy"}}')
    gateway = shlex.quote("{{(index .IPAM.Config 0).Gateway}}")
    return f"""\
has=$(docker inspect -f {form} {name} 2>/dev/null || true)
if [ "$has" != {shlex.quote(what)} ]; then
    docker rm -f {name} >/dev/null 2>&1 || true
    gateway=$(docker network inspect -f {gateway} {front})
    {words} -f /{CONFIG_FOLDER}/haproxy.cfg -db >/dev/null
{copy_config(name, config)}
fi
docker start {name} >/dev/null
"""


def start_script(
    deployment: Deployment,
    host: DockerHost,
    view: View,
    instances: Sequence[Instance],
    *,
    is_public: bool,
    config: str,
) -> str:
    """Return the commands after which these instances run on a host; those that do are left alone.

    An exclusive service's old instance stops first, and the new one has its name in the old network too.
    """
    environment, new = deployment.environment, deployment.new
    up = {(one.service, one.number) for one in view.of(new.id) if one.is_up}
    lines = [ensure_network(environment.name, release_network(environment.name, new.id))]
    if is_public:
        lines.append(ensure_network(environment.name, host.front))
        where = publish(environment.address or "")
        image = environment.proxy
        proxy = ensure_proxy(
            environment.name, host.proxy_name, host.front, image=image, publish=where, config=config
        )
        lines.append(proxy)
    for one in instances:
        if (one.service, one.number) in up:
            continue
        stale = [each.name for each in view.of(new.id) if _is_place(each, one)]
        lines += [f"docker rm -f {shlex.join(stale)} >/dev/null\n"] if stale else []
        settings = one.released.settings
        others = [
            each
            for each in view.containers
            if settings.exclusive and each.service == one.service and each.release != new.id
        ]
        lines.append(
            stop_command([each.name for each in others if each.is_up], settings.drain.stop_timeout_s)
        )
        running = {each.release for each in view.containers if each.is_up and each.release != new.id}
        also = [release_network(environment.name, name) for name in sorted(running) if settings.exclusive]
        lines.append(create_command(one, deployment.fence, host.front, also))
    return "".join(lines)


def remove_script(
    deployment: Deployment, host: DockerHost, view: View, due: Sequence[Container], *, is_last: bool
) -> str:
    """Return the commands that remove instances, and start again what had to stop for them.

    With the last instance its network goes; with that of the first release ever, the proxy too.
    """
    environment, new, old = deployment.environment.name, deployment.new, deployment.old
    names = [one.name for one in due]
    lines = [stop_command([one.name for one in due if one.is_up], 1)]
    lines += [f"docker rm -f {shlex.join(names)} >/dev/null\n"] if names else []
    exclusive = {one.service for one in due if new.services[one.service].settings.exclusive}
    if old is not None:
        again = [one.name for one in view.of(old.id) if one.service in exclusive]
        lines += [f"docker start {shlex.join(again)} >/dev/null\n"] if again else []
    if is_last:
        lines.append(remove_network(release_network(environment, new.id)))
    if is_last and old is None and not view.running() - {new.id}:
        lines += [f"docker rm -f {host.proxy_name} >/dev/null 2>&1 || true\n", remove_network(host.front)]
    return "".join(lines)


def prune_script(host: DockerHost, view: View, gone: Sequence[str]) -> str:
    """Return the commands that remove releases of this environment, and images that nothing else uses."""
    names = [one.name for one in view.containers if one.release in gone]
    lines = [f"docker rm -f {shlex.join(names)} >/dev/null\n"] if names else []
    lines += [remove_network(release_network(host.environment, one)) for one in gone]
    lines += [REMOVE_IMAGES.format(release=one) for one in gone]
    return "".join(lines)


def remove_network(name: str) -> str:
    return f"if docker network inspect {name} >/dev/null 2>&1; then docker network rm {name} >/dev/null; fi\n"


def stop_command(names: Sequence[str], timeout_s: float) -> str:
    """Return the command that stops containers side by side; those that do not run stay as they are."""
    return f"docker stop -t {max(1, round(timeout_s))} {shlex.join(names)} >/dev/null\n" if names else ""


def _labels(one: Instance, fence: int) -> Iterator[str]:
    names = {
        "environment": one.environment,
        "service": one.service,
        "release": one.release,
        "slot": one.slot,
        "part": one.part,
        "number": one.number,
        "fence": fence,
        "port": one.released.settings.port if one.public else "",
    }
    return (f"pipeline.{key}={value}" for key, value in names.items())


def _limits(one: Instance) -> list[str]:
    resources = one.released.settings.resources
    cpus = ["--cpus", f"{resources.cpus:g}"] if resources.cpus is not None else []
    memory = ["--memory", str(int(resources.memory))] if resources.memory is not None else []
    return [*cpus, *memory]


def _is_place(container: Container, one: Instance) -> bool:
    """Whether a container is what is left of an earlier instance in the same place."""
    return (container.service, container.number) == (one.service, one.number)

"""Says whether Docker hosts can take a release, before anything is changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pipeline.deploy.smoke import public_service
from pipeline.deploy.target import TargetFailed, TargetUnfit
from pipeline.deploy.targets.docker_plan import is_reserved
from pipeline.deploy.targets.docker_proxy import SERVERS
from pipeline.digest import digest_text

if TYPE_CHECKING:
    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.targets.docker_host import DockerHost

LEAST_FREE_KIB: Final = 1 << 20
MOST_SKEW_S: Final = 5.0

LOOK: Final = """\
date +%s.%N
docker version -f '{{.Server.Version}}'
folder=$(docker info -f '{{.DockerRootDir}}')
df -Pk "$folder" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4
command -v flock base64 timeout sync >&2
"""


def place_of(address: str) -> str:
    """Return the name of a host's folder: the same for the same address."""
    return digest_text(address).removeprefix("sha256:")[:12]


def check_release(environment: Environment, release: Release, hosts: int) -> None:
    """See that the settings can be carried out on so many hosts.

    Raises:
        TargetUnfit: They cannot.
    """
    public = public_service(release)
    parts = urlsplit(environment.address or "")
    if public and (parts.scheme != "http" or not parts.hostname):
        error = TargetUnfit(f"cannot send requests to `{public}`: `address` is not `http://HOST:PORT`")
        error.hint = "set `address` of the environment; TLS ends at what stands before its hosts"
        raise error
    for name, one in release.services.items():
        settings = one.settings
        if name == public and settings.replicas > SERVERS:
            raise TargetUnfit(f"cannot run `{name}`: it has more than {SERVERS} replicas on each host")
        if settings.exclusive and hosts > 1:
            raise TargetUnfit(f"cannot run `{name}`: it is exclusive, and there are {hosts} hosts")
        if settings.exclusive and settings.replicas > 1:
            raise TargetUnfit(f"cannot run `{name}`: it is exclusive, and has {settings.replicas} replicas")
        for secret in filter(is_reserved, one.secrets):
            raise TargetUnfit(
                f"cannot give `{name}` the secret `{secret}`: Docker's own command uses that name"
            )


async def check_host(host: DockerHost) -> None:
    """See that a host answers, has room, and goes by the same clock.

    Raises:
        TargetUnfit: It does not.
    """
    before = time.time()
    try:
        lines = (await host.do(LOOK, "look")).split()
    except TargetFailed as error:
        unfit = TargetUnfit(str(error))
        unfit.hint = error.hint
        raise unfit from error
    after = time.time()
    skew = max(before - float(lines[0]), float(lines[0]) - after)
    if skew > MOST_SKEW_S:
        raise TargetUnfit(f"cannot use host `{host.name}`: its clock is {skew:.0f} s off")
    free = int(lines[-1])
    if free < LEAST_FREE_KIB:
        raise TargetUnfit(f"cannot use host `{host.name}`: its disk has only {free >> 10} MiB left")

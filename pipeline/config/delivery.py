"""The settings of environments: where a product runs, as which services, and how a release gets there.

`[tool.pipeline.deploy]` says it for all environments; `[tool.pipeline.environments.NAME]`, and after it the
file `ci/environments/NAME.toml`, lay the same keys over it for one.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time by the check
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pipeline.config.values import (
    Command,
    Count,
    Percent,
    Port,
    Seconds,
    Size,
    Statistic,
    Times,
)

TargetKind: TypeAlias = Literal["local", "docker", "compose", "swarm", "kubernetes", "helm", "command"]
StrategyKind: TypeAlias = Literal["blue_green", "canary", "rolling", "recreate"]
OVERLAYS: Final = "ci/environments"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadySettings:
    """`deploy.services.NAME.health`: when an instance is ready. One of `path`, `command` and `tcp`."""

    path: str | None = None  # "/health": an answer of 2xx or 3xx is a pass
    command: Command | None = None  # run inside the instance: 0 is a pass
    tcp: Port | None = None  # it takes connections
    interval_s: Seconds = Seconds(1.0)
    timeout_s: Seconds = Seconds(2.0)  # of one probe
    passes: Count = Count(3)  # in a row
    healthy_for_s: Seconds = Seconds(10.0)  # without a failed probe or a restart
    deadline_s: Seconds = Seconds(60.0)  # from its start until it is ready
    version: str | None = None  # key of the JSON answer that must name the image's digest or the version


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainSettings:
    """`deploy.services.NAME.drain`: how an instance leaves."""

    timeout_s: Seconds = Seconds(30.0)  # for the requests in flight
    stop_timeout_s: Seconds = Seconds(10.0)  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """`deploy.services.NAME.resources`: what each instance may take at most; None: as much as there is."""

    cpus: Percent | None = None  # 0.5 is half a CPU
    memory: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedService:
    """`deploy.services.NAME`: one service of the product."""

    image: str = "built"  # what `container_build` made: "built", or "built:NAME" of several; or a reference
    command: Command | None = None  # None: the image's own
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()  # names; the values never reach a record
    port: Port | None = None  # it listens on; None: it takes no requests (a worker)
    public: bool | None = None  # traffic from outside reaches it; None: it is the only one with a port
    replicas: Count = Count(1)
    needs: tuple[str, ...] = ()  # services that start before it and that it reaches by name
    health: ReadySettings | None = None
    drain: DrainSettings = field(default_factory=DrainSettings)
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    volumes: Mapping[str, str] = field(default_factory=dict)  # path inside to the name of a volume
    exclusive: bool = (
        False  # never two at once (a store with one writer): the old stops before the new starts
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSettings:
    """`deploy.thresholds`: what the bake and each canary step measure. Critical undoes, warning holds."""

    response_warning_s: Seconds = Seconds(2.0)
    response_critical_s: Seconds = Seconds(5.0)
    statistic: Statistic = "p95"
    errors_warning: Percent = Percent(1.0)  # of the requests
    errors_critical: Percent = Percent(5.0)
    cpu_warning: Percent = Percent(70.0)  # of the limit
    cpu_critical: Percent = Percent(90.0)
    window_s: Seconds = Seconds(60.0)  # that is looked back on


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySettings:
    """`deploy.canary`: traffic in steps, each judged against the old release."""

    steps: tuple[str, ...] = ("5%", "25%", "50%", "100%")
    step_time_s: Seconds = Seconds(300.0)  # at most, for one step
    on_inconclusive: Literal["rollback", "pause", "promote"] = "rollback"
    max_p95_ratio: Percent = Percent(1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSettings:
    """`deploy.keep`: what can be gone back to without a pull; whichever is more."""

    releases: Count = Count(5)
    days: Times = Times(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """`deploy.migrations`: commands run once, in a container of the release."""

    service: str | None = None  # in whose container; None: the only one that runs what was built
    expand: Command | None = None  # before the new release starts; the old one must work after it
    contract: Command | None = None  # after no kept release needs the old shape
    pending: Command | None = None  # prints what `expand` would do; nothing printed is nothing to do
    timeout_s: Seconds = Seconds(600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeSettings:
    """`deploy.smoke.NAME`: one check of a release that runs: a request and what is expected, or a command."""

    path: str | None = None
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    status: Count = Count(200)
    contains: str | None = None  # in the body
    within_s: Seconds = Seconds(5.0)
    service: str | None = None  # None: the public one
    command: Command | None = (
        None  # of this machine; gets PIPELINE_URL, PIPELINE_ENVIRONMENT, PIPELINE_RELEASE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitSettings:
    """`deploy.visits`: requests of ours while a release is watched, where people send too few to judge it."""

    enabled: bool = True
    path: str | None = None  # asked with GET; None: that of the public service's health
    rate: Count = Count(20)  # requests a second


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySettings:
    """`deploy`: how a release gets there."""

    strategy: StrategyKind = "blue_green"
    batch: str = "1"  # instances or hosts at once when rolling: a number or "25%"
    bake_s: Seconds = Seconds(60.0)  # under watch after the traffic came
    deadline_s: Seconds = Seconds(900.0)  # for all of it
    lock_ttl_s: Seconds = Seconds(60.0)
    lock_wait_s: Seconds = Seconds(0.0)  # how long to wait for somebody else's lock
    on_failure: Literal["rollback", "pause"] = "rollback"
    backup: Command | None = None  # before migrations; prints what names the backup in its last line
    canary: CanarySettings = field(default_factory=CanarySettings)
    thresholds: ThresholdSettings = field(default_factory=ThresholdSettings)
    keep: KeepSettings = field(default_factory=KeepSettings)
    migrations: MigrationSettings = field(default_factory=MigrationSettings)
    services: Mapping[str, DeployedService] = field(default_factory=dict)  # {}: one, of the built image
    smoke: Mapping[str, SmokeSettings] = field(default_factory=dict)
    visits: VisitSettings = field(default_factory=VisitSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """`commands`: what the target `command` runs for each step, on this machine.

    Each knows the release by variables: see `deploy.targets.command`.
    """

    start: Command | None = None  # brings up a release; without `shift` it gets the traffic at once
    live: Command | None = None  # prints the id of the release that runs, or nothing; None: as recorded
    fetch: Command | None = None
    ready: Command | None = None  # 0: the service in PIPELINE_SERVICE is well
    preview: Command | None = None  # prints the URL at which only the new release answers
    shift: Command | None = None  # gives the release PIPELINE_SHARE percent of the traffic
    drain: Command | None = None  # takes the old release out of service
    remove: Command | None = None
    logs: Command | None = None  # what it prints is kept as evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """`kubernetes`: what the target of that name adds to its objects. Tuples are names of services."""

    as_root: tuple[str, ...] = ()  # their images need it; all others must run as somebody else
    writable: tuple[str, ...] = ()  # they write beside `/tmp` and their volumes
    leave_s: Seconds = Seconds(15.0)  # a leaving pod still takes requests, until every node knows
    isolated: bool = True  # a service takes requests only of those that need it; the public one of all
    ingress_class: str | None = None  # an Ingress for the host of `address`; None: none
    tls_secret: str | None = None  # with its certificate
    pull_secret: str | None = None
    storage_class: str | None = None
    volume_size: Size = Size(1 << 30)  # of a volume that is not there yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment: what its tables say, laid over those for all."""

    name: str
    target: TargetKind = "local"
    hosts: tuple[str, ...] = ()  # "ssh://deploy@app1" or "unix:///var/run/docker.sock", for Docker
    address: str | None = None  # where people reach it, such as "http://127.0.0.1:8080"
    proxy: str = "haproxy:lts"  # image of the HAProxy on each Docker host; best with its digest
    context: str | None = None  # of kubectl; None: its current one
    namespace: str | None = None  # None: the environment's name
    chart: str | None = None  # for helm
    state: str | None = None  # folder of records, on the first host with Docker; None: the usual place
    promote_from: str | None = None  # the environment that must have proved a release before
    standby_of: str | None = None
    direct: bool = False  # releases may come here without another environment having proved them
    deploy: DeploySettings = field(default_factory=DeploySettings)
    commands: HookSettings = field(default_factory=HookSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)  # "deploy.bake" to the file

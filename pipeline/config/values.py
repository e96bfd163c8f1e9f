"""The settings as values: one frozen `Config`, its sections, and what is said when they are wrong.

A field's unit is in its name (`timeout_s`); its key in the file goes without (`timeout = "5m"`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - read at run time by the check
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NewType, TypeAlias

from pipeline.config.notify import AuditSettings, NotifySettings
from pipeline.config.release import ReleaseSettings
from pipeline.errors import UsageError

Seconds = NewType("Seconds", float)  # written "30s", "5m", "1h30m"
Size = NewType("Size", int)  # bytes; written 1000000, "500MB", "2GiB"
Count = NewType("Count", int)  # 1 or more
Times = NewType("Times", int)  # 0 or more
Shards = NewType("Shards", str)  # "auto", or how many; written 4 or "auto"
Share = NewType("Share", float)  # percent, 0 to 100
Command = NewType("Command", tuple[str, ...])  # an array, or a string run by `sh -c`
Hosts = NewType("Hosts", tuple[str, ...])  # an array of strings, or one string
PythonVersion = NewType("PythonVersion", str)  # "3.x"
Port = NewType("Port", int)  # 1 to 65535
ProjectPath = NewType("ProjectPath", str)  # relative, inside the project; "." the root
PackageName = NewType("PackageName", str)  # of Debian: "git", "libpq-dev", "libc6:arm64", "git=1:2.39.5-0"

Percent = NewType("Percent", float)  # 0 or more; 100 is all
Statistic: TypeAlias = Literal["mean", "p50", "p90", "p95", "p99", "max"]

Table: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """`[tool.pipeline.run]`: limits of a run."""

    jobs: Count | None = None  # sum of the weights at work at once; None: from the CPU count
    keep_going: bool = False
    timeout_s: Seconds | None = None  # of the whole run
    quiet_after_s: Seconds = Seconds(60.0)  # warn when a stage gives no output for this long
    cache_max_bytes: Size = Size(2 * 1024**3)  # of the stage cache
    runs_kept: Count = Count(50)  # older run folders are removed


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """`[tool.pipeline.images]`: where images come from."""

    fallback: Literal["none", "recipe"] = "none"
    locked: bool = False  # only images that `pipeline.lock` pins may be used
    mirrors: Mapping[str, Hosts] = field(default_factory=dict)  # registry host to what is asked first
    python: PythonVersion | None = None  # None: chosen from the project's `requires-python`


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """`[tool.pipeline.engine]`: which engine carries the containers."""

    kind: Literal["embedded", "dagger"] = "embedded"
    address: str | None = None  # of a Dagger engine; None: the session in the environment
    runner: Literal["launcher", "runc", "bwrap"] | None = None  # None: the first that works
    store: str | None = None  # folder of the embedded engine's state; None: the usual place
    max_bytes: Size | None = None  # of that store; None: 50 GiB, at most 60 % of the disk
    min_free_bytes: Size | None = None  # of the store's disk; None: 5 % of it
    idle_s: Times | None = None  # how long it stays after its last session; None: 5 min, in CI not at all
    exec_max_memory: Size | None = None  # of one exec, where there are control groups; None: no limit
    exec_max_pids: int | None = None  # processes of one exec, likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """`[tool.pipeline.network]`: how containers reach the outside; never part of an image or a cache key."""

    inherit: bool = True  # take what is not set here from the host
    offline: bool = False
    ca_bundle: str | None = None  # path of a PEM file on the host
    http_proxy: str | None = field(default=None, repr=False)  # URLs may hold a password
    https_proxy: str | None = field(default=None, repr=False)
    no_proxy: str | None = None
    index_url: str | None = field(default=None, repr=False)
    extra_index_url: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)  # URLs, or folders of the host
    trusted_host: tuple[str, ...] = ()
    pip_timeout_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """`[tool.pipeline.stages.NAME]`: what is None is as the stage itself says."""

    enabled: bool = True
    timeout_s: Seconds | None = None
    retry: Times | None = None  # how often a failed stage is tried again
    inputs: tuple[str, ...] | None = None  # globs of the files the stage reads
    command: Command | None = None  # in place of the stage's own command
    args: tuple[str, ...] = ()  # added to the stage's command
    soft_fail: bool | None = None
    weight: Count | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # environment of the stage's containers
    system_packages: tuple[PackageName, ...] = ()  # Debian packages installed into the stage's container
    services: tuple[str, ...] | None = None  # names of those its tests need; None: as the stage itself says
    image: str | None = None  # what `command` runs in, where the stage has no container of its own
    shards: Shards | None = None  # containers that share the stage's tests
    rerun_failed: Times | None = None  # how often failed tests run again, and only those


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageSettings:
    """`[tool.pipeline.coverage]`: how much of the code tests must run; of lines."""

    total: Share | None = None  # of all that was measured
    changed: Share | None = None  # of the lines that differ from `base`
    base: str | None = None  # a branch or commit; None: the branch that changes go to


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """`[tool.pipeline.services.NAME.healthcheck]`: when a service is healthy; one of the first three."""

    command: Command | None = None  # run inside the service: 0 is healthy
    http: str | None = None  # ":8000/health" or "/health" on the first port: 2xx or 3xx is healthy
    tcp: Port | None = None  # healthy when it takes connections
    interval_s: Seconds = Seconds(1.0)
    timeout_s: Seconds = Seconds(10.0)  # of one check
    retries: Count | None = None  # failures in a row that end the waiting; None: until the service's timeout
    start_period_s: Seconds | None = None  # failures in it do not count


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """`[tool.pipeline.services.NAME]`: a container that runs beside tests, reached by its name."""

    image: str | None = None
    dockerfile: ProjectPath | None = None  # in place of `image`: the project's own
    context: ProjectPath = ProjectPath(".")  # of that Dockerfile
    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[PackageName, ...] = ()  # Debian packages added to the image
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()  # variables of this machine whose values it gets
    ports: tuple[Port, ...] = ()  # it listens on; healthy when each takes connections
    command: Command | None = None  # None: the image's own
    entrypoint: Command | None = None
    user: str | None = None
    workdir: str | None = None
    healthcheck: HealthSettings | None = None
    needs: tuple[str, ...] = ()  # services that start before it and that it reaches by name
    volumes: Mapping[str, ProjectPath] = field(default_factory=dict)  # path inside to path in the project
    tmp: tuple[str, ...] = ()  # paths that are held in memory
    timeout_s: Seconds = Seconds(60.0)  # until it is healthy


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """`[tool.pipeline.registry]`: where built images go."""

    address: str | None = None  # host and path prefix, such as "registry.example.com/team"


FINDING_KINDS: Final = (
    *("sast", "secret", "vulnerability", "misconfiguration", "licence", "dast", "quality", "end-of-life"),
)
Threshold: TypeAlias = Literal["critical", "high", "medium", "low", "info", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRules:
    """What findings do to the verdict; what is None is as the less special table says."""

    fail_on: Threshold | None = None  # this bad or worse blocks
    warn_on: Threshold | None = None
    min_confidence: Literal["high", "medium", "low"] | None = None  # what is less sure only warns
    fixable_only: bool | None = None  # packages without a fixed version only warn
    most: Mapping[str, Times] | None = None  # severity to how many may stay
    only_new: bool | None = None  # what the baseline knows does not block
    only_changed_lines: bool | None = None  # what the change did not touch does not block
    unchecked: Literal["block", "warn"] | None = None  # None: blocks where there is an environment
    unused_waivers: Literal["block", "warn"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """`[tool.pipeline.policy]`: rules of an environment go before those of a kind, these before `rules`."""

    rules: PolicyRules = field(default_factory=PolicyRules)
    kinds: Mapping[str, PolicyRules] = field(default_factory=dict)  # "secret", "vulnerability", ...
    environments: Mapping[str, PolicyRules] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SastSettings:
    """`[tool.pipeline.sast]`: static analysis."""

    scanners: tuple[Literal["ruff", "bandit", "semgrep"], ...] = ()  # () is all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySettings:
    """`[tool.pipeline.quality]`: code that stands in two places."""

    duplicate_lines: Times = Times(15)  # told from so many on; 0: not looked for
    duplicate_lines_warning: Count = Count(50)  # a warning from so many on


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorySettings:
    """`[tool.pipeline.dependency_scan.sources.NAME]`: where advisories come from."""

    kind: Literal["osv-file", "osv-api", "pypi", "pip-audit", "npm-audit", "safety"]
    address: str | None = None  # URL, or a path in the project; of `pip-audit` its service
    licence: str = ""  # of the data, for reports
    max_age_s: Seconds | None = None  # older data is stale; None: 3 days
    partial: bool = False  # it knows some problems only: its silence says nothing
    canaries: Mapping[str, str] = field(default_factory=dict)  # ecosystem to "name version" it must know


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyScanSettings:
    """`[tool.pipeline.dependency_scan]`: known vulnerabilities of packages."""

    sources: Mapping[str, AdvisorySettings] = field(default_factory=dict)  # {}: the public OSV service
    imported: bool = True  # advisories that `prefetch --import` brought are used too
    imported_max_age_s: Seconds = Seconds(30 * 86400.0)
    private: tuple[str, ...] = ()  # patterns of names that no public data can know, and nobody is asked for
    dev: bool = True  # packages that only development needs count


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScanSettings:
    """`[tool.pipeline.image_scan]`: what is in built images. `dependency_scan` names the advisories."""

    server: str | None = field(default=None, repr=False)  # URL of a Trivy server; may hold a password
    path_prefix: str = "/twirp"  # under which that server answers
    token_header: str = "Trivy-Token"  # noqa: S105 - the name of what TRIVY_TOKEN is sent in
    max_age_s: Seconds = Seconds(3 * 86400.0)  # older data of Trivy is stale
    canaries: Mapping[str, str] = field(default_factory=dict)  # ecosystem to "name version" Trivy must know
    program: bool = True  # trivy is run where it is installed
    mirror: bool = True  # Debian images ask their own mirror what they lack
    max_base_age_s: Seconds = Seconds(180 * 86400.0)  # a base image that is older is told


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """`[tool.pipeline.performance.requests.NAME]`: one kind of request of the open workload."""

    path: str  # with the query, as it is sent
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    weight: Count = Count(1)  # among all requests
    expect: tuple[Count, ...] = ()  # statuses that count as good; () is all below 400


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """`[tool.pipeline.performance.limits.ENDPOINT]`: what is other for one endpoint; None is as for all."""

    statistic: Statistic | None = None
    minimum_requests: Count | None = None
    response_warning_s: Seconds | None = None
    response_critical_s: Seconds | None = None
    errors_warning: Percent | None = None
    errors_critical: Percent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceSettings:
    """`[tool.pipeline.performance]`: the load test. The table, or a locustfile, puts it into the graph."""

    image: str | None = None  # the built image to start, where there are several
    service: Command | None = None  # in place of the image's own command; without an image, in the
    # container of the dependencies
    port: Port | None = None  # None: the one the image exposes
    health: str | None = None  # path that answers when the service is ready; None: found
    start_within_s: Seconds = Seconds(60.0)
    env: Mapping[str, str] = field(default_factory=dict)  # of the service
    openapi: str | None = None  # a file of the project, or a path of the service; None: found
    operations: tuple[str, ...] = ()  # "POST /notes": tried besides the safe ones of the description
    requests: Mapping[str, RequestSettings] = field(default_factory=dict)  # in place of the description
    locustfile: ProjectPath | None = None  # None: `locustfile.py`, if there is one
    locust_requirements: ProjectPath | None = None  # requirements file of what the locustfile imports
    users: Count = Count(10)  # of the closed workload
    workloads: tuple[Literal["open", "closed"], ...] = ()  # (): open, and closed if there is a locustfile
    rate: Count = Count(50)  # requests a second of the open workload
    arrival: Literal["constant", "poisson"] = "constant"
    warmup_s: Seconds = Seconds(5.0)  # not counted
    duration_s: Seconds | None = None  # None: 30 s, and longer where endpoints would get too few requests
    request_timeout_s: Seconds = Seconds(10.0)
    connections: Count = Count(1000)
    workers: Count = Count(1)  # processes of the generator
    statistic: Statistic = "p95"
    window_s: Seconds | None = None  # the worst stretch of this length is judged; None: the whole time
    minimum_requests: Count = Count(200)  # with fewer an endpoint is not judged
    response_warning_s: Seconds = Seconds(2.0)
    response_critical_s: Seconds = Seconds(5.0)
    errors_warning: Percent = Percent(1.0)
    errors_critical: Percent = Percent(5.0)
    cpu: bool = True  # whether the service's CPU is judged
    cpu_warning: Percent = Percent(70.0)
    cpu_critical: Percent = Percent(90.0)
    cpus: Count = Count(1)  # that the service is meant to have: so many are 100 %
    limits: Mapping[str, LimitSettings] = field(default_factory=dict)
    baseline: ProjectPath | None = None  # a kept measurement
    regression: Literal["block", "warn"] = "block"
    slower: Percent = Percent(8.0)  # the smallest slow-down worth telling


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSettings:
    """`[tool.pipeline.artifacts]`: what is asked of what is delivered."""

    build_twice: bool = True  # compare a second build of wheel and sdist
    licences_allowed: tuple[str, ...] = ()  # patterns of SPDX names; () allows what is not denied
    licences_denied: tuple[str, ...] = ()
    system_licences_allowed: tuple[str, ...] = ()  # likewise, of Debian packages in images
    system_licences_denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSettings:
    """`[tool.pipeline.bundles]`: which files of `prefetch --bundle` are taken."""

    signers: str | None = None  # file of the public keys that are trusted; None: unsigned ones are taken too


@dataclass(frozen=True, slots=True, kw_only=True)
class DastSettings:
    """`[tool.pipeline.dast]`: scans of the running application. A key of it puts them into the graph.

    What is None and says how the service is started is as `[tool.pipeline.performance]` says.
    """

    image: str | None = None  # the built image to start, where there are several
    service: Command | None = None  # in place of the image's own command, or without an image
    port: Port | None = None
    health: str | None = None
    start_within_s: Seconds = Seconds(60.0)
    env: Mapping[str, str] = field(default_factory=dict)
    openapi: str | None = None  # a file of the project, or a path of the service; None: found
    address: str | None = None  # of a running service, in place of one that is started
    consent: bool = False  # that the owner of `address` agrees
    scanners: tuple[Literal["passive", "schemathesis", "wapiti", "zap"], ...] = ()  # (): those that can
    active: bool = False  # attacks too
    writes: bool | None = None  # requests that may change something; None: only to a service that is started
    limit_s: Seconds = Seconds(60.0)  # of each scanner
    active_limit_s: Seconds = Seconds(600.0)  # of each scanner that attacks
    rate: Count = Count(200)  # requests a second, of each scanner that can keep to one
    pages: Count = Count(300)
    exclude: tuple[str, ...] = ()  # regular expressions of paths that are not asked
    zap: str | None = None  # address of the API of a running ZAP; its key is the secret ZAP_API_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of one project, and in `origins` the layer each value that is not a default came from."""

    run: RunSettings = field(default_factory=RunSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    coverage: CoverageSettings = field(default_factory=CoverageSettings)
    stages: Mapping[str, StageSettings] = field(default_factory=dict)
    services: Mapping[str, ServiceSettings] = field(default_factory=dict)
    policy: PolicySettings = field(default_factory=PolicySettings)
    sast: SastSettings = field(default_factory=SastSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    artifacts: ArtifactSettings = field(default_factory=ArtifactSettings)
    bundles: BundleSettings = field(default_factory=BundleSettings)
    dependency_scan: DependencyScanSettings = field(default_factory=DependencyScanSettings)
    image_scan: ImageScanSettings = field(default_factory=ImageScanSettings)
    performance: PerformanceSettings = field(default_factory=PerformanceSettings)
    dast: DastSettings = field(default_factory=DastSettings)
    release: ReleaseSettings = field(default_factory=ReleaseSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    deploy: Table = field(default_factory=dict)  # as written: `environments` makes values of it
    environments: Mapping[str, Table] = field(default_factory=dict)  # likewise, by name
    origins: Mapping[str, str] = field(default_factory=dict)  # "run.jobs" to "PIPELINE_JOBS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the configuration: in which `source`, at which path, and the sentence."""

    source: str  # a file, "environment" or "command line"
    path: str
    message: str


class ConfigInvalid(UsageError):
    """The configuration holds values that cannot be used; all of them are listed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines: list[str] = []
        for source in dict.fromkeys(problem.source for problem in problems):
            own = [problem for problem in problems if problem.source == source]
            lines.append(f"{source}: {len(own)} problem{'s' if len(own) > 1 else ''}")
            lines += [f"  {problem.path}: {problem.message}" for problem in own]
        super().__init__("\n".join(lines))


class ConfigUnreadable(UsageError):
    """A configuration file is there but is not TOML in UTF-8, or may not be read."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"cannot read `{name}`: {what}")
        self.name = name


def service_of(table: Table) -> ServiceSettings:
    """Make a service's settings again of what `dataclasses.asdict` made of them; arrays may be lists."""
    values: Table = {name: tuple(one) if isinstance(one, list) else one for name, one in table.items()}
    if table.get("healthcheck") is not None:
        health: Table = dict(table["healthcheck"])
        if health.get("command") is not None:
            health["command"] = tuple(health["command"])
        values["healthcheck"] = HealthSettings(**health)
    return ServiceSettings(**values)


def policy_of(table: Table) -> PolicySettings:
    """Make the policy again of what `dataclasses.asdict` made of it."""
    kinds, places = (
        {name: PolicyRules(**one) for name, one in table[key].items()} for key in ("kinds", "environments")
    )
    return PolicySettings(rules=PolicyRules(**table["rules"]), kinds=kinds, environments=places)


def dependency_scan_of(table: Table) -> DependencyScanSettings:
    """Make settings of the dependency scan again of what `dataclasses.asdict` made of them."""
    sources = {name: AdvisorySettings(**one) for name, one in table["sources"].items()}
    return DependencyScanSettings(**{**table, "sources": sources})


def performance_of(table: Table) -> PerformanceSettings:
    """Make settings of the load test again of what `dataclasses.asdict` made of them; arrays may be lists."""

    def frozen(one: Table) -> Table:
        return {name: tuple(value) if isinstance(value, list) else value for name, value in one.items()}

    requests = {name: RequestSettings(**frozen(one)) for name, one in table["requests"].items()}
    limits = {name: LimitSettings(**one) for name, one in table["limits"].items()}
    return PerformanceSettings(**{**frozen(table), "requests": requests, "limits": limits})


def key_of(name: str) -> str:
    """The key of a field in the file."""
    return name.removesuffix("_s").removesuffix("_")


def suggest(word: str, known: Sequence[str]) -> str:
    """`; did you mean "run"?` when one of `known` is near `word`, else ""."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def show(value: object) -> str:
    """Write a value as TOML would, cut to what fits a line."""
    import json

    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = (
        json.dumps(value, ensure_ascii=False) if isinstance(value, bool | int | float | str) else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."

"""Looks at single instances on a Docker host: health, what they take, and what is kept of those that fail."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.delivery import ReadySettings
from pipeline.deploy.target import Probe, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.delivery import DeployedService
    from pipeline.deploy.targets.docker_host import Container, DockerHost

ANSWER_BYTES: Final = 65536
LOG_LINES: Final = 200
UNITS: Final[Mapping[str, int]] = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


async def probe_container(host: DockerHost, one: Container, settings: DeployedService) -> Probe:
    """Look once at an instance, from its host: a request to its own address, or a command inside it."""
    rules = settings.health or ReadySettings()
    instance = f"{host.name}/{one.name}"

    def told(passed: bool, said: str, version: str = "") -> Probe:
        return Probe(
            service=one.service,
            instance=instance,
            passed=passed,
            said=said,
            restarts=one.restarts,
            version=version,
        )

    if not one.is_up:
        memory = ", it ran out of memory" if one.out_of_memory else ""
        return told(False, f"its container is {one.status}, with code {one.exit_code}{memory}")
    script = _probe_script(one, settings, rules)
    if not script:
        return told(True, "it runs")
    said = await host.shell.run(script, timeout_s=rules.timeout_s + 10)
    if said.code != 0:
        return told(False, _failure(said.err, rules))
    if rules.path is None:
        return told(True, "it answers")
    return told(*read_answer(said.out, rules))


def read_answer(text: str, rules: ReadySettings) -> tuple[bool, str, str]:
    """Read an HTTP answer: whether it is a pass, its status, and the version that it names."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    found = re.match(r"HTTP/\d\.\d (\d{3})", head)
    if found is None:
        return False, "it does not speak HTTP", ""
    status = int(found[1])
    version = ""
    if rules.version is not None:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        version = str(answer.get(rules.version, "")) if isinstance(answer, dict) else ""
    return 200 <= status < 400, str(status), version


async def usage_of(
    host: DockerHost, containers: Sequence[Container], cpus: Mapping[str, float]
) -> list[Usage]:
    """Look at what running instances take; `cpus` is the limit of each service that has one."""
    up = [one for one in containers if one.is_up]
    if not up:
        return []
    names = shlex.join(one.name for one in up)
    said = await host.do(f"docker stats --no-stream --format '{{{{json .}}}}' {names}", "look at usage")
    rows = {row["Name"]: row for row in map(json.loads, said.splitlines())}
    return [
        Usage(
            service=one.service,
            instance=f"{host.name}/{one.name}",
            cpu_percent=_percent(rows.get(one.name, {}), cpus.get(one.service, 1.0)),
            memory_bytes=_bytes(rows.get(one.name, {})),
            restarts=one.restarts,
            out_of_memory=one.out_of_memory,
        )
        for one in up
    ]


async def evidence_of(host: DockerHost, containers: Sequence[Container]) -> dict[str, bytes]:
    """Collect last lines and states of instances, without values of variables: some are secret."""
    found = {}
    for one in containers:
        stem = f"{host.name.replace('/', '_')}.{one.name}"
        logs = await host.do(f"docker logs --timestamps --tail {LOG_LINES} {one.name} 2>&1", "keep logs")
        plain = json.loads(await host.do(f"docker inspect {one.name}", "keep the state"))
        found[f"{stem}.log"] = logs.encode()
        found[f"{stem}.json"] = json.dumps([without_values(each) for each in plain], indent=1).encode()
    return found


def without_values(plain: dict[str, Any]) -> dict[str, Any]:
    """Return what `docker inspect` says of a container, with the names of its variables alone."""
    names = [word.partition("=")[0] for word in plain["Config"].get("Env") or ()]
    return {**plain, "Config": {**plain["Config"], "Env": names}}


def _failure(said: str, rules: ReadySettings) -> str:
    """Say in one line why a probe has failed: its script ends with how its command ended."""
    *lines, last = said.strip().splitlines() or ["it ended at once"]
    if last.endswith(" 124"):
        return f"no answer within {rules.timeout_s:g} s"
    if rules.command is None:
        return lines[-1].rpartition(": ")[2].lower() if lines else last
    return f"{last}: {lines[-1]}" if lines else last


def _probe_script(one: Container, settings: DeployedService, rules: ReadySettings) -> str:
    limit = f"timeout {rules.timeout_s:g}"
    failed = '|| { code=$?; echo "it ended with $code" >&2; exit 1; }'
    if rules.command is not None:
        return f"{limit} docker exec {one.name} {shlex.join(rules.command)} >&2 {failed}"
    port = rules.tcp or settings.port
    if port is None:
        return ""
    talk = f"exec 3<>/dev/tcp/{one.address}/{port} || exit 1"
    if rules.path is not None:
        request = f"GET {rules.path} HTTP/1.0\\r\\nHost: {one.service}\\r\\nConnection: close\\r\\n\\r\\n"
        talk += f"; printf {shlex.quote(request.replace('%', '%%'))} >&3; head -c {ANSWER_BYTES} <&3"
    elif rules.tcp is None:
        return ""
    return f"{limit} bash -c {shlex.quote(talk)} {failed}"


def _percent(row: Mapping[str, str], cpus: float) -> float | None:
    text = row.get("CPUPerc", "").removesuffix("%")
    return float(text) / cpus if text.replace(".", "", 1).isdecimal() else None


def _bytes(row: Mapping[str, str]) -> int | None:
    found = re.match(r"([\d.]+)([KMGT]?i?B)", row.get("MemUsage", ""))
    return round(float(found[1]) * UNITS[found[2]]) if found and found[2] in UNITS else None

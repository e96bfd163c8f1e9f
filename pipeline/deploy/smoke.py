"""Asks a release that runs whether it does what it should: smoke checks, and visits while it is watched."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.target import Traffic
from pipeline.errors import PipelineError
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

    from pipeline.config.delivery import SmokeSettings
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Deployment

LONGEST_EXCERPT: Final = 200
LONGEST_BODY: Final = 1 << 20
VISIT_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoked:
    """One check that was made; `problem` is "" when it passed."""

    name: str
    seconds: float
    problem: str = ""


class SmokeFailed(PipelineError):
    """A release that runs does not do what it should."""

    def __init__(self, done: Sequence[Smoked]) -> None:
        bad = [one for one in done if one.problem]
        super().__init__(
            f"{len(bad)} of {some(len(done), 'smoke check')} failed: "
            + "; ".join(f"`{one.name}` {one.problem}" for one in bad)
        )
        self.done = tuple(done)


class NothingToSmoke(PipelineError):
    """There is no check to make: nothing would be proved."""

    def __init__(self, environment: str) -> None:
        what = "no smoke check is declared and no service has a health path"
        super().__init__(f"cannot check `{environment}`: {what}")
        self.hint = "add `[tool.pipeline.deploy.smoke.NAME]` with a `path`, or a health `path` to a service"


def public_service(release: Release) -> str:
    """Return the name of the service that traffic from outside reaches; "" when none does."""
    said = [name for name, one in release.services.items() if one.settings.public]
    with_port = [
        name
        for name, one in release.services.items()
        if one.settings.port is not None and one.settings.public is None
    ]
    return said[0] if said else with_port[0] if len(with_port) == 1 else ""


async def smoke(
    deployment: Deployment, urls: Mapping[str, str], *, environ: Mapping[str, str] | None = None
) -> tuple[Smoked, ...]:
    """Make all checks of an environment, one after another.

    Args:
        urls: Where each service answers.
        environ: Variables of commands; those of this process when None.

    Raises:
        SmokeFailed: One of them did not pass; carries all.
        NothingToSmoke: There are none, and no health path stands in for them.
    """
    checks = dict(deployment.environment.deploy.smoke) or _health_checks(deployment)
    if not checks:
        raise NothingToSmoke(deployment.environment.name)
    done = []
    async with _client(VISIT_LIMIT_S) as client:
        for name, check in checks.items():
            began = time.perf_counter()
            service = check.service or public_service(deployment.new)
            url = urls.get(service, "")
            if check.command is not None:
                variables = dict(os.environ if environ is None else environ)
                problem = await anyio.to_thread.run_sync(_run, check, url, deployment, variables)
            elif not url:
                problem = f"cannot be made: service `{service}` has no address" if service else _NO_SERVICE
            else:
                problem = await _ask(client, url, check)
            done.append(Smoked(name=name, seconds=round(time.perf_counter() - began, 3), problem=problem))
    if any(one.problem for one in done):
        raise SmokeFailed(done)
    return tuple(done)


_NO_SERVICE: Final = "cannot be made: several services have a port; say which is `public`"


def _health_checks(deployment: Deployment) -> dict[str, SmokeSettings]:
    """The health path of each service that has one."""
    from pipeline.config.delivery import SmokeSettings

    return {
        f"health of {name}": SmokeSettings(path=one.settings.health.path, service=name)
        for name, one in deployment.new.services.items()
        if one.settings.health is not None and one.settings.health.path is not None
    }


async def _ask(client: httpx.AsyncClient, url: str, check: SmokeSettings) -> str:
    """Send one request and say what is wrong with its answer; "" is nothing."""
    import httpx

    address = url.rstrip("/") + "/" + (check.path or "").lstrip("/")
    began = time.perf_counter()
    try:
        headers, sent = dict(check.headers), check.body or None
        stream = client.stream(check.method, address, headers=headers, content=sent, timeout=check.within_s)
        async with stream as answer:
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > LONGEST_BODY:
                    break
    except httpx.TimeoutException:
        return f"got no answer from {address} within {check.within_s:g} s"
    except httpx.HTTPError as error:
        return f"got no answer from {address}: {error or type(error).__name__}"
    seconds = time.perf_counter() - began
    text = body.decode(errors="replace")
    if answer.status_code != check.status:
        return f"expected {check.status}, got {answer.status_code} from {address}: {_excerpt(text)}"
    if check.contains is not None and check.contains not in text:
        return f"expected `{check.contains}` in the answer of {address}, got: {_excerpt(text)}"
    if seconds > check.within_s:
        return f"took {seconds:.1f} s, more than {check.within_s:g} s"
    return ""


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line[:LONGEST_EXCERPT] or "(nothing)"


def _run(check: SmokeSettings, url: str, deployment: Deployment, environ: Mapping[str, str]) -> str:
    """Run a command of this machine and say what is wrong; "" is nothing."""
    variables = {
        **environ,
        "PIPELINE_URL": url,
        "PIPELINE_ENVIRONMENT": deployment.environment.name,
        "PIPELINE_RELEASE": deployment.new.id,
    }
    try:
        done = subprocess.run(
            check.command or (), env=variables, capture_output=True, timeout=check.within_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {check.within_s:g} s"
    except OSError as error:
        return f"could not be started: {error.strerror or error}"
    if done.returncode == 0:
        return ""
    said = (done.stdout + done.stderr).decode(errors="replace")
    return f"ended with code {done.returncode}: {_excerpt(said[-LONGEST_EXCERPT:])}"


async def visit(deployment: Deployment, url: str, seconds: float) -> Traffic:
    """Send requests at the configured rate for so long; an answer of 500 or more, or none, is an error."""
    settings = deployment.environment.deploy.visits
    public = public_service(deployment.new)
    health = deployment.new.services[public].settings.health if public else None
    path = settings.path or (health.path if health is not None else None)
    if not settings.enabled or path is None or not url:
        return Traffic(requests=0, errors=0)
    address = url.rstrip("/") + "/" + path.lstrip("/")
    seen: list[float] = []
    errors = 0

    async def one(client: httpx.AsyncClient) -> None:
        nonlocal errors
        import httpx

        began = time.perf_counter()
        try:
            answer = await client.get(address)
            errors += answer.status_code >= 500
        except httpx.HTTPError:
            errors += 1
        seen.append(time.perf_counter() - began)

    async with _client(VISIT_LIMIT_S) as client, anyio.create_task_group() as group:
        for number in range(max(1, round(settings.rate * seconds))):
            await anyio.sleep(1 / settings.rate if number else 0)
            group.start_soon(one, client)
    return Traffic(requests=len(seen), errors=errors, latencies=tuple(seen))


def _client(limit_s: float) -> httpx.AsyncClient:
    """A client that follows no redirects, uses no proxy and trusts nobody's settings."""
    import httpx

    return httpx.AsyncClient(timeout=limit_s, trust_env=False, follow_redirects=False)

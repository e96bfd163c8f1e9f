"""`performance`: the service under load, at a given rate and by Locust, against limits and a baseline."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.values import performance_of
from pipeline.graph.context import CheckFailed, Context, Skip
from pipeline.graph.outcome import Failure
from pipeline.graph.stage import stage
from pipeline.stages.containers import StageBroken
from pipeline.stages.results import Deps, Images, Performance, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagger

    from pipeline.config import PerformanceSettings
    from pipeline.scan.load.measurement import Measurement
    from pipeline.scan.load.plan import Request
    from pipeline.scan.load.thresholds import Limits, Line
    from pipeline.stages.load_service import Ready

OUT: Final = "/load-out"
LOCUSTFILE: Final = "locustfile.py"
TAIL_LINES: Final = 20
OWN_PIP: Final = 'PATH="${PATH#/opt/tools/locust/bin:}"; exec "$@"'  # Locust's environment has no pip
ALONE: Final = 1000  # slots: whatever runs beside it would be measured as well


class NotMeasured(StageBroken):
    """The load test proves nothing: too few requests, a generator at its limit, or nothing to send."""


@stage(timeout_s=3600, weight=ALONE)
async def performance(
    ctx: Context, checkout: Source, container_build: Images | None = None, deps: Deps | None = None
) -> Performance:
    """Put the service under load; keep figures, histograms and pictures; hold them against the limits."""
    from pipeline.stages.load_service import (
        chosen_image,
        command_service,
        health_paths,
        image_service,
        serving,
        with_programs,
    )
    from pipeline.stages.services import with_services
    from pipeline.stages.tools import tool_container

    settings = performance_of(dict(ctx.config["performance"]))
    image = chosen_image(container_build, settings) if container_build is not None else None
    if image is not None:
        app, argv = await image_service(ctx, image, settings)
    elif deps is not None and settings.service:
        app, argv = await command_service(ctx, deps, settings)
    else:
        raise Skip("there is no service to load: the project builds no image, and `service` names no command")
    wanted = workloads_of(ctx, settings)
    python = with_programs(await tool_container(ctx, *(["locust"] if "closed" in wanted else [])))
    health = health_paths(ctx, settings, image.dockerfile if image is not None else None)
    async with (
        with_services(ctx, app, keeper=python) as bound,
        serving(ctx, bound, argv, python, settings, health) as ready,
    ):
        measured = [one for kind in wanted if (one := await measure(ctx, ready, settings, kind)) is not None]
    if not measured:
        raise NotMeasured("cannot load the service: no requests are known for it")
    return conclude(ctx, settings, measured)


def workloads_of(ctx: Context, settings: PerformanceSettings) -> list[str]:
    """Which workloads to run, in order: as set, else the open one, and the closed one for a locustfile."""
    if settings.workloads:
        return list(dict.fromkeys(settings.workloads))
    return ["open", "closed"] if locustfile_of(ctx, settings) else ["open"]


def locustfile_of(ctx: Context, settings: PerformanceSettings) -> str | None:
    """The project's locustfile; None when it has none.

    Raises:
        NotMeasured: The one that is named is not there.
    """
    if settings.locustfile is not None:
        if not (ctx.root / settings.locustfile).is_file():
            raise NotMeasured(f"cannot run `{settings.locustfile}`: there is no such file")
        return settings.locustfile
    return LOCUSTFILE if (ctx.root / LOCUSTFILE).is_file() else None


async def measure(ctx: Context, ready: Ready, settings: PerformanceSettings, kind: str) -> Measurement | None:
    """Run one workload; None when nothing says what to send, and another workload can do without.

    Raises:
        NotMeasured: The workload was asked for and cannot be run.
        ServiceDown: The service ended.
    """
    from pipeline.scan.load.measurement import with_usage
    from pipeline.stages.load_service import service_state

    requests = requests_for(ctx, settings, ready.description)
    locustfile = locustfile_of(ctx, settings)
    if not requests and not (kind == "closed" and locustfile):
        if kind in settings.workloads or not locustfile:
            error = NotMeasured(f"cannot make the {kind} workload: nothing says what to send")
            error.hint = (
                "describe requests in [tool.pipeline.performance.requests], or name the OpenAPI description"
            )
            raise error
        ctx.warn("no open workload was run: the service has no OpenAPI description, and no request is set")
        return None
    if kind == "open":
        one = await run_open(ctx, ready, settings, requests)
    else:
        one = await run_closed(ctx, ready, settings, locustfile, requests)
    state = await service_state(ready)
    ctx.keep("service.log", str(state.get("log", "")))
    return with_usage(replace(one, machine=ready.machine), state.get("samples", ()))


def requests_for(
    ctx: Context, settings: PerformanceSettings, description: dict[str, Any] | None
) -> list[Request]:
    """What to send: as set, else what the OpenAPI description allows."""
    from pipeline.scan.load.openapi import requests_of
    from pipeline.scan.load.plan import configured_requests

    if settings.requests:
        return configured_requests(settings)
    if settings.openapi is not None and not settings.openapi.startswith("/"):
        try:
            description = json.loads((ctx.root / settings.openapi).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotMeasured(f"cannot read `{settings.openapi}`: {error}") from error
    if not isinstance(description, dict):
        return []
    requests, left_out = requests_of(description, settings.operations)
    for one in left_out:
        ctx.log(f"{one.operation} is not sent: {one.why}\n")
    return requests


async def run_open(
    ctx: Context, ready: Ready, settings: PerformanceSettings, requests: Sequence[Request]
) -> Measurement:
    """Send requests at the set rate."""
    from pipeline.scan.load.measurement import parse_measurement
    from pipeline.scan.load.plan import generator_plan, plan_digest
    from pipeline.scan.load.programs import PACKAGE

    host, _, port = ready.base.removeprefix("http://").rpartition(":")
    plan = generator_plan(requests, settings, host=host, port=int(port))
    seconds = plan["warmup_s"] + plan["duration_s"]
    ctx.log(f"open workload: {settings.rate} requests/s for {seconds:g} s, {len(requests)} kinds\n")
    ctx.keep("open/plan.json", json.dumps(plan, indent=1))
    container = ready.container.with_new_file("/load/plan.json", json.dumps(plan))
    argv = ["python3", "-m", f"{PACKAGE}.generator", "/load/plan.json", f"{OUT}/result.json"]
    kept = await run_and_keep(ctx, container, argv, "open")
    return replace(parse_measurement(kept["result.json"], "open/result.json"), plan=plan_digest(plan))


async def run_closed(
    ctx: Context,
    ready: Ready,
    settings: PerformanceSettings,
    locustfile: str | None,
    requests: Sequence[Request],
) -> Measurement:
    """Let Locust run the project's locustfile as it is, or one made of the requests."""
    from pipeline.digest import digest_json
    from pipeline.scan.load.locust import locust_argv, locustfile_for
    from pipeline.scan.load.measurement import parse_measurement
    from pipeline.scan.load.plan import DURATION_S
    from pipeline.scan.load.programs import PACKAGE
    from pipeline.stages.containers import SOURCE, source

    seconds = settings.warmup_s + (settings.duration_s or DURATION_S)
    container = ready.container
    if locustfile is None:
        text = locustfile_for(requests, per_user=settings.rate / settings.users)
        container = container.with_new_file(f"{SOURCE}/{LOCUSTFILE}", text)
        ctx.keep(f"closed/{LOCUSTFILE}", text)
    else:
        text = (ctx.root / locustfile).read_text(encoding="utf-8", errors="replace")
        container = container.with_directory(SOURCE, await source(ctx))
        container = container.with_env_variable("PYTHONPATH", f"/load:{SOURCE}")
        if settings.locust_requirements is not None:
            container = await with_requirements(container, f"{SOURCE}/{settings.locust_requirements}")
    argv = locust_argv(
        locustfile or LOCUSTFILE,
        f"/load/{PACKAGE}/listener.py",
        base=ready.base,
        users=settings.users,
        seconds=seconds,
        out=f"{OUT}/locust",
        args=[str(one) for one in ctx.options.get("args", ())],
    )
    ctx.log(f"closed workload: {settings.users} users for {seconds:g} s\n")
    container = container.with_workdir(SOURCE)
    container = container.with_env_variable("PIPELINE_LOAD_RESULT", f"{OUT}/result.json")
    container = container.with_env_variable("PIPELINE_LOAD_WARMUP", f"{settings.warmup_s:g}")
    kept = await run_and_keep(ctx, container, argv, "closed")
    plan = str(digest_json([text, argv]))
    return replace(parse_measurement(kept["result.json"], "closed/result.json"), plan=plan)


async def with_requirements(container: dagger.Container, path: str) -> dagger.Container:
    """Install what a locustfile imports besides Locust into Locust's environment.

    Raises:
        NotMeasured: It cannot be installed.
    """
    import dagger

    from pipeline.stages.tools import PIP

    argv = ["sh", "-c", OWN_PIP, "pip", *PIP, "/opt/tools/locust/bin/python", "install", "-r", path]
    try:
        return await container.with_exec(argv).sync()
    except dagger.ExecError as error:
        said = "\n".join((error.stderr or error.stdout).splitlines()[-TAIL_LINES:])
        raise NotMeasured(f"cannot install `{path}` beside Locust:\n{said}") from error


async def run_and_keep(
    ctx: Context, container: dagger.Container, argv: Sequence[str], folder: str
) -> dict[str, bytes]:
    """Run a program that writes to `/load-out`; keep its files in `folder` and return what they hold.

    Raises:
        NotMeasured: It failed, or left no result.
    """
    import dagger

    ran = container.with_exec(["mkdir", "-p", OUT]).with_exec(list(argv), expect=dagger.ReturnType.ANY)
    code = await ran.exit_code()
    said = await ran.stdout() + await ran.stderr()
    ctx.keep(f"{folder}/output.txt", said)
    with tempfile.TemporaryDirectory() as place:
        await ran.directory(OUT).export(place)
        found = read_files(Path(place))
    for name, data in found.items():
        ctx.keep(f"{folder}/{name}", data)
    if code != 0 or "result.json" not in found:
        tail = "\n".join(said.splitlines()[-TAIL_LINES:])
        raise NotMeasured(
            f"cannot make the {folder} workload: `{argv[0]}` ended with exit code {code}\n{tail}"
        )
    return found


def read_files(folder: Path) -> dict[str, bytes]:
    """What the files of a folder hold, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def conclude(ctx: Context, settings: PerformanceSettings, measured: Sequence[Measurement]) -> Performance:
    """Judge what was measured and keep the evidence.

    Raises:
        CheckFailed: A critical limit is broken, or the service became slower.
        NotMeasured: Something could not be judged.
    """
    from pipeline.scan.load.measurement import statistic_of, to_json
    from pipeline.scan.load.report import csv_of, lines_text, plot_of, text_of
    from pipeline.scan.load.thresholds import Verdict, judge, verdict_of

    limits = limits_of(settings)
    lines: list[Line] = []
    for one in measured:
        ctx.keep(f"{one.workload}.svg", plot_of(one))
        ctx.keep(f"{one.workload}.json", to_json(one))
        ctx.log(text_of(one, settings.statistic))
        lines += judge(one, limits)
    if settings.baseline is not None and verdict_of(lines) is not Verdict.NOT_CHECKED:
        lines += compared(ctx, settings, settings.baseline, measured)
    table = ctx.keep("performance.csv", csv_of(measured))
    told = lines_text(lines)
    rows = [{"verdict": one.verdict.word, **_row(one)} for one in lines]
    ctx.keep("verdict.json", json.dumps(rows, indent=1, ensure_ascii=False))
    verdict = verdict_of(lines)
    if verdict is Verdict.BLOCK:
        raise CheckFailed(failure_of(told))
    if verdict is Verdict.NOT_CHECKED:
        raise NotMeasured("\n".join(["the load test proves nothing:", *told]))
    for line in told:
        ctx.warn(line.partition(": ")[2])
    first = measured[0]
    return Performance(
        verdict=verdict.word,
        workloads=tuple(one.workload for one in measured),
        requests=sum(one.total.requests for one in measured),
        error_share=max(one.total.error_share for one in measured),
        statistic=settings.statistic,
        response_s=statistic_of(first.total.times, settings.statistic),
        figures=table,
    )


def _row(line: Line) -> dict[str, str]:
    return {"workload": line.workload, "subject": line.subject, "what": line.what, "text": line.text}


def compared(
    ctx: Context, settings: PerformanceSettings, baseline: str, measured: Sequence[Measurement]
) -> list[Line]:
    """Compare with the kept measurement; where that cannot be done, a warning says why."""
    from pipeline.scan.load.compare import NotCompared, compare
    from pipeline.scan.load.measurement import parse_measurement
    from pipeline.scan.load.thresholds import judge_changes

    path, blocks = ctx.root / baseline, settings.regression == "block"
    if not path.is_file():
        kind = measured[0].workload
        kept = f".pipeline/runs/{ctx.run_id}/stages/{ctx.stage}/files/{kind}.json"
        why = f"there is none yet; to make this run it: cp {kept} {baseline}"
        return judge_changes(kind, [], [NotCompared(endpoint="", why=why)], blocks=blocks)
    before = parse_measurement(path.read_bytes(), baseline)
    after = next((one for one in measured if one.workload == before.workload), measured[0])
    changes, left_out = compare(before, after, effect=settings.slower / 100, tail=settings.statistic)
    return judge_changes(after.workload, changes, left_out, blocks=blocks)


def failure_of(told: Sequence[str]) -> Failure:
    """What is told of a service that is too slow, too wrong or slower than it was."""
    return Failure(
        message=f"the service does not hold its limits: {told[0].partition(': ')[2]}",
        error_class="LimitsBroken",
        tail=tuple(told[:TAIL_LINES]),
        hint="limits are set in [tool.pipeline.performance]; figures and pictures are beside the stage's log",
    )


def limits_of(settings: PerformanceSettings) -> Limits:
    """The limits as the judge reads them: shares from 0 to 1 instead of percentages."""
    from dataclasses import asdict

    from pipeline.scan.load.thresholds import Limits

    by_endpoint = {}
    for name, one in settings.limits.items():
        given = {key: value for key, value in asdict(one).items() if value is not None}
        by_endpoint[name] = {
            key: value / 100 if key.startswith("errors") else value for key, value in given.items()
        }
    return Limits(
        statistic=settings.statistic,
        window_s=max(1, round(settings.window_s)) if settings.window_s is not None else None,
        minimum_requests=settings.minimum_requests,
        response_warning_s=settings.response_warning_s,
        response_critical_s=settings.response_critical_s,
        errors_warning=settings.errors_warning / 100,
        errors_critical=settings.errors_critical / 100,
        cpu_warning=settings.cpu_warning / 100 if settings.cpu else None,
        cpu_critical=settings.cpu_critical / 100 if settings.cpu else None,
        cpus=settings.cpus,
        by_endpoint=by_endpoint,
    )

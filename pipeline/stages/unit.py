"""`unit`: the project's unit tests, in a container."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.detect.python import PythonProject
from pipeline.graph.context import CheckFailed, Context, Skip
from pipeline.graph.outcome import Failure
from pipeline.graph.stage import stage
from pipeline.junit import TestResults, parse_junit
from pipeline.stages.containers import (
    SOURCE,
    StageBroken,
    parse_facts,
    source,
    stage_env,
    take,
    with_env,
    with_system_packages,
    with_version,
)
from pipeline.stages.files import keep_files
from pipeline.stages.results import Deps, Source, TestReport
from pipeline.stages.services import with_services
from pipeline.stages.suites import with_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagger

    from pipeline.junit import TestCase

REPORTS: Final = "/reports"
TAIL_LINES: Final = 40
NO_PROGRAM: Final = re.compile(
    r"FileNotFoundError: \[Errno 2\] No such file or directory: [\"']([\w.+-]+)[\"']\s*$", re.MULTILINE
)
LINES_TOLD: Final = 11  # of the first bad test
NAMES_TOLD: Final = 8
NO_TESTS: Final = 5  # pytest's exit code when it collected nothing


@stage(timeout_s=1800)
async def unit(ctx: Context, checkout: Source, deps: Deps) -> TestReport:
    """Run the unit tests with coverage; keep JUnit and coverage files."""
    project = parse_facts(PythonProject, ctx)
    if not project.has_tests and not ctx.options.get("command"):
        raise Skip("the project has no tests: no test_*.py, *_test.py or tests.py is tracked")
    if not project.has_unit_tests and not ctx.options.get("command"):
        others = ", ".join(f"`{one['stage']}`" for one in ctx.options["suites"])
        raise Skip(f"the project has no unit tests: all its tests are run by {others}")
    container = with_suite(ctx, deps.python, await prepare(ctx, project, deps))
    argv = test_command(project, ctx)
    # A test that runs is never answered from the engine's cache: whether it has to run was decided by
    # the stage's key, and a failure must be tried anew when it is asked for again.
    container = container.with_env_variable("PIPELINE_RUN", f"{ctx.run_id}.{ctx.attempt}")
    async with with_services(ctx, container) as ready:
        return await run_tests(ctx, ready, argv)


async def prepare(ctx: Context, project: PythonProject, deps: Deps) -> dagger.Container:
    """Return the container of the dependencies with the project in it, importable."""
    container = await with_system_packages(ctx, await take(ctx, deps.container))
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = with_env(container, {**coverage_env(project, deps.python), **stage_env(ctx)})
    if not project.is_package:
        roots = ":".join(f"{SOURCE}/{root}".removesuffix("/.") for root in project.import_roots)
        return container.with_env_variable("PYTHONPATH", roots)
    container = with_version(ctx, container)
    if deps.complete:
        return container.with_exec(["pip", "install", "--no-deps", "-e", "."])
    extras = f"[{','.join(project.test_extras)}]" if project.test_extras else ""
    return container.with_exec(["pip", "install", "-e", f".{extras}"])


def coverage_env(project: PythonProject, python: str) -> dict[str, str]:
    """Return what makes coverage measure without a trace function, which tests can notice.

    Python offers that from 3.12 on. A project that tells coverage how to measure may ask for more than that.
    """
    version = tuple(int(part) for part in python.split(".")[:2])
    if project.configures_coverage or "pytest-cov" in project.test_plugins or version < (3, 12):
        return {}
    return {"COVERAGE_CORE": "sysmon"}


def test_command(project: PythonProject, ctx: Context) -> list[str]:
    """Return what runs the tests and leaves `/reports/junit.xml`."""
    args = [str(one) for one in ctx.options.get("args", ())]
    if command := ctx.options.get("command"):
        return [*(str(one) for one in command), *args]
    names_tests = any((ctx.root / arg.partition("::")[0]).exists() for arg in args if not arg.startswith("-"))
    return [
        *("python", "-m", "pytest", f"--junitxml={REPORTS}/junit.xml", "-o", "junit_family=xunit1"),
        *("--cov", f"--cov-report=xml:{REPORTS}/coverage.xml", "--cov-report="),
        # A threshold holds for the run the project itself measures: elsewhere it may add up several.
        *(() if "pytest-cov" in project.test_plugins else ("--cov-fail-under=0",)),
        *args,
        *(() if names_tests else project.test_paths),
    ]


async def run_tests(ctx: Context, container: dagger.Container, argv: list[str]) -> TestReport:
    """Run the tests, keep their reports, and say what they said.

    Raises:
        CheckFailed: A test failed.
        StageBroken: The runner itself failed, or left no report.
    """
    import dagger

    ran = container.with_exec(["mkdir", "-p", REPORTS]).with_exec(argv, expect=dagger.ReturnType.ANY)
    code = await ran.exit_code()
    tail = (await ran.stdout() + await ran.stderr()).splitlines()[-TAIL_LINES:]
    with tempfile.TemporaryDirectory() as folder:
        await ran.directory(REPORTS).export(folder)
        kept = keep_files(ctx, Path(folder))
    results = parse_junit(ctx.path(kept["junit.xml"]).read_bytes()) if "junit.xml" in kept else None
    if code != 0:
        raise failure(argv, code, results, tail)
    if results is None:
        raise StageBroken(f"cannot say whether the tests passed: `{argv[0]}` left no {REPORTS}/junit.xml")
    rate = None
    if "coverage.xml" in kept:
        rate = line_rate(ctx.path(kept["coverage.xml"]).read_bytes())
    covered = f", {rate:.0%} of lines covered" if rate is not None else ""
    ctx.log(f"{results.tests} tests, {results.skipped} skipped{covered}\n")
    return TestReport(
        tests=results.tests,
        skipped=results.skipped,
        duration_s=results.duration_s,
        junit=kept.get("junit.xml"),
        coverage=kept.get("coverage.xml"),
        line_rate=rate,
    )


def failure(argv: list[str], code: int, results: TestResults | None, tail: list[str]) -> Exception:
    """Return the error for a runner that ended with `code`: tests failed, or it did not get to run them."""
    if code == NO_TESTS:
        message = "no tests were collected, although the project has test files"
    elif results is None or not results.bad:
        message = f"the test runner ended with exit code {code}"
        if results is None:
            return StageBroken("\n".join([message + " and left no report", *tail[-15:]]))
    else:
        first = results.bad[0]
        what = first.message.partition("\n")[0]
        message = f"{len(results.bad)} of {results.tests} tests failed; first: {test_name(first)}: {what}"
        tail = told(results.bad)
    return CheckFailed(
        Failure(
            message=message,
            error_class="TestsFailed",
            command=tuple(argv),
            exit_code=code,
            tail=tuple(tail),
            hint=missing_programs(results.bad if results is not None else ()),
        )
    )


def missing_programs(bad: Sequence[TestCase]) -> str:
    """Return what helps when tests call programs that the image has not; "" when none is missing."""
    names = sorted({name for one in bad for name in NO_PROGRAM.findall(one.text)})
    if not names:
        return ""
    return (
        f"the image has no {' and no '.join(f'`{name}`' for name in names[:3])}: Debian packages are added "
        "by `system_packages` in [tool.pipeline.stages.deps]"
    )


def test_name(bad: TestCase) -> str:
    """Return a test's name as pytest takes it."""
    module = bad.file.removesuffix(".py").replace("/", ".")
    if bad.file and bad.name == module:
        return bad.file  # it could not even be imported
    if bad.file and (bad.suite == module or bad.suite.startswith(module + ".")):
        classes = bad.suite.removeprefix(module).strip(".").split(".")
        return "::".join(part for part in (bad.file, *classes, bad.name) if part)
    return "::".join(part for part in (bad.file or bad.suite.replace(".", "/"), bad.name) if part)


def told(bad: Sequence[TestCase]) -> list[str]:
    """Return the last lines of the first bad test and the names of all, as many as people read."""
    lines = bad[0].text.splitlines()
    names = [f"{'ERROR' if one.kind == 'error' else 'FAILED'} {test_name(one)}" for one in bad[:NAMES_TOLD]]
    more = [f"and {len(bad) - NAMES_TOLD} more"] if len(bad) > NAMES_TOLD else []
    return [*lines[-LINES_TOLD:], *names, *more]


def line_rate(data: bytes) -> float | None:
    """Return the share of covered lines (0 to 1) that a Cobertura file tells; None when it tells none."""
    from defusedxml.ElementTree import fromstring

    rate = fromstring(data).get("line-rate")
    return float(rate) if rate else None

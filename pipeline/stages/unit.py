"""`unit`: the project's unit tests, in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.detect.python import PythonProject
from pipeline.graph.context import Context, Skip
from pipeline.graph.stage import stage
from pipeline.stages.containers import (
    SOURCE,
    parse_facts,
    source,
    stage_env,
    take,
    with_env,
    with_system_packages,
    with_version,
)
from pipeline.stages.results import Deps, Source, TestReport  # noqa: TC001 - read when the graph is checked
from pipeline.stages.services import with_services
from pipeline.stages.suites import with_suite
from pipeline.stages.testing import REPORTS, run_tests

if TYPE_CHECKING:
    import dagger


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
        *("-o", "junit_logging=all", "-o", "junit_log_passing_tests=false"),  # what bad tests wrote
        *(*measured(project), f"--cov-report=xml:{REPORTS}/coverage.xml", "--cov-report="),
        # A threshold holds for the run the project itself measures: elsewhere it may add up several.
        *(() if "pytest-cov" in project.test_plugins else ("--cov-fail-under=0",)),
        *args,
        *(() if names_tests else project.test_paths),
    ]


def measured(project: PythonProject) -> list[str]:
    """Return what coverage is told to measure: what the project's settings say, else its own packages.

    A module of those that no test imports counts as not covered; without names it would not count at all.
    """
    if project.configures_coverage or "pytest-cov" in project.test_plugins:
        return ["--cov"]
    return [f"--cov={name}" for name in project.packages or (".",)]

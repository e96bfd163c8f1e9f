"""`integration`, `e2e` and `security_tests`: tests beside the services they need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pipeline.detect.python import PythonProject
from pipeline.graph.context import CheckFailed, Context, Skip
from pipeline.graph.stage import stage
from pipeline.stages.browser import with_browser
from pipeline.stages.containers import StageBroken, parse_facts
from pipeline.stages.results import Deps, Source, TestReport  # noqa: TC001 - read when the graph is checked
from pipeline.stages.services import with_services
from pipeline.stages.suites import with_suite
from pipeline.stages.testing import run_tests
from pipeline.stages.told import NO_TESTS
from pipeline.stages.unit import prepare, test_command

if TYPE_CHECKING:
    import dagger


@stage(timeout_s=1800)
async def integration(ctx: Context, checkout: Source, deps: Deps) -> TestReport:
    """Run the integration tests beside the services they need."""
    return await run_suite(ctx, deps)


@stage(timeout_s=3600)
async def e2e(ctx: Context, checkout: Source, deps: Deps) -> TestReport:
    """Run the end-to-end tests beside the services they need, with a browser when they drive one."""
    return await run_suite(ctx, deps)


@stage(timeout_s=1800)
async def security_tests(ctx: Context, checkout: Source, deps: Deps) -> TestReport:
    """Run the project's own security tests beside the services they need."""
    return await run_suite(ctx, deps)


async def run_suite(ctx: Context, deps: Deps) -> TestReport:
    """Run the tests of one stage; their services are up before, and gone afterwards.

    Raises:
        CheckFailed: A test failed.
        StageBroken: A service or the runner failed, or not one test was found: nothing was checked.
        Skip: Every test was skipped.
    """
    project = parse_facts(PythonProject, ctx)
    paths = [one["paths"] for one in ctx.options.get("suites", ()) if one["stage"] == ctx.stage]
    project = dataclasses.replace(project, test_paths=tuple(paths[0]) if paths else ())
    container = with_suite(ctx, deps.python, await prepare(ctx, project, deps))
    if project.uses_playwright:
        container = await with_browser(ctx, container)
    async with with_services(ctx, container) as ready:
        report = await _tested(ctx, ready, test_command(project, ctx))
    if report.tests == report.skipped:
        which = "the one test" if report.tests == 1 else f"each of the {report.tests} tests"
        raise Skip(f"nothing was checked: {which} of `{ctx.stage}` was skipped")
    return report


async def _tested(ctx: Context, container: dagger.Container, argv: list[str]) -> TestReport:
    try:
        report = await run_tests(ctx, container, argv)
    except CheckFailed as error:
        if error.failure.exit_code != NO_TESTS or ctx.options.get("command"):
            raise
        raise NothingCollected(ctx.stage) from error
    if report.tests == 0:
        raise NothingCollected(ctx.stage)
    return report


class NothingCollected(StageBroken):
    """A stage that was to run tests found none: it cannot say anything."""

    def __init__(self, stage_name: str) -> None:
        super().__init__(f"cannot check anything: not one test of `{stage_name}` was collected")
        self.hint = "see what `args`, `addopts` and conftest.py leave out, or disable the stage"

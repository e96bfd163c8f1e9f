"""Tests of any language: the command the settings give, in the image they name."""

from __future__ import annotations

from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.stage import stage
from pipeline.stages.containers import SOURCE, StageBroken, source, stage_env, with_env, with_system_packages
from pipeline.stages.results import Source, TestReport  # noqa: TC001 - as the context
from pipeline.stages.services import with_services
from pipeline.stages.testing import REPORTS, run_tests


@stage(timeout_s=3600)
async def unit(ctx: Context, checkout: Source) -> TestReport:
    """Run the command of the settings; it leaves JUnit in `/reports/junit.xml`."""
    if not ctx.options.get("image"):
        error = StageBroken(f"cannot run the command of `{ctx.stage}`: nothing says in which image")
        error.hint = f'set `image = "debian:stable-slim"` in [tool.pipeline.stages.{ctx.stage}]'
        raise error
    client = await ctx.dagger()
    container = client.container().from_(str(ctx.options["image"])).without_entrypoint()
    container = await with_system_packages(ctx, container)
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = with_env(container, {"PIPELINE_REPORTS": REPORTS, **stage_env(ctx)})
    argv = [str(one) for one in (*ctx.options["command"], *ctx.options.get("args", ()))]
    async with with_services(ctx, container) as ready:
        return await run_tests(ctx, ready, argv)

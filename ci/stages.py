"""This project's own stages, beside those every project gets: the example service is tested too."""

from __future__ import annotations

from pipeline import Context, Source, TestReport, python_container, source, stage
from pipeline.stages.testing import run_tests

drop = ["integration", "e2e", "security_tests"]  # the only tests of these names are the example's own


@stage(inputs=["ci/example/**"], timeout_s=600)
async def example_unit(ctx: Context, checkout: Source) -> TestReport:
    """Test the example service with the dependencies of its own lock file."""
    container = await python_container(ctx, "python:3.11-slim")
    files = (await source(ctx)).directory("ci/example")
    container = container.with_file("/src/requirements-test.lock", files.file("requirements-test.lock"))
    container = container.with_exec(
        ["pip", "install", "--no-deps", "--require-hashes", "-r", "requirements-test.lock"]
    )
    container = container.with_directory("/src", files).with_exec(["pip", "install", "--no-deps", "-e", "."])
    argv = ["python", "-m", "pytest", "--junitxml=/reports/junit.xml", "--cov=notes", "tests/unit"]
    return await run_tests(ctx, container, argv)

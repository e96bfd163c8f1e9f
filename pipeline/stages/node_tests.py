"""`unit` of a Node project: its own runner, in a Node container, with a JUnit report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.detect.node import NodeProject
from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.stage import stage
from pipeline.stages.containers import (
    SOURCE,
    StageBroken,
    parse_facts,
    source,
    stage_env,
    with_env,
    with_system_packages,
)
from pipeline.stages.results import Source, TestReport  # noqa: TC001 - as the context
from pipeline.stages.services import with_services
from pipeline.stages.testing import REPORTS, run_tests

if TYPE_CHECKING:
    import dagger

JUNIT: Final = f"{REPORTS}/junit.xml"
TOOLS: Final = "/opt/node-tools"
COVERAGE: Final = "/tmp/coverage"  # noqa: S108 - in the container; runners empty it first
FIRST_WITH_JUNIT: Final = 20  # of the versions with a runner of their own
ENV: Final = {
    "CI": "true",  # runners do not watch files then
    "npm_config_update_notifier": "false",
    "npm_config_fund": "false",
    "npm_config_audit": "false",
    "JEST_JUNIT_OUTPUT_FILE": JUNIT,
    "JEST_JUNIT_ADD_FILE_ATTRIBUTE": "true",
    "JEST_JUNIT_CLASSNAME": "{classname}",
    "JEST_JUNIT_TITLE": "{title}",
}
ALSO_COVERAGE: Final = f"""\
"$@"
code=$?
if [ -f {COVERAGE}/cobertura-coverage.xml ]; then
  cp {COVERAGE}/cobertura-coverage.xml {REPORTS}/coverage.xml
fi
exit "$code"
"""


@stage(timeout_s=1800)
async def unit(ctx: Context, checkout: Source) -> TestReport:
    """Run the tests of a Node project with its own runner; keep JUnit and coverage files."""
    project = parse_facts(NodeProject, ctx)
    container = await installed(ctx, project)
    if project.runner == "jest":
        container = container.with_exec(["npm", "install", "--prefix", TOOLS, "jest-junit"])
    container = with_env(container, stage_env(ctx))
    argv = [str(one) for one in ctx.options.get("command", ())] or node_command(project)
    argv += [str(one) for one in ctx.options.get("args", ())]
    async with with_services(ctx, container) as ready:
        return await run_tests(ctx, ready, argv)


async def installed(ctx: Context, project: NodeProject) -> dagger.Container:
    """Return a Node container with the project and what its lock file names.

    Raises:
        StageBroken: It is locked by another installer than npm.
    """
    if project.other_installer and not project.has_lock:
        raise StageBroken(f"cannot install the dependencies: they are locked by {project.other_installer}")
    client = await ctx.dagger()
    image = f"node:{node_version(project)}-slim"
    ctx.log(f"base image {image}\n")
    container = await with_system_packages(ctx, client.container().from_(image).without_entrypoint())
    container = with_env(container, ENV).with_mounted_cache("/root/.npm", client.cache_volume("npm"))
    files = await source(ctx)
    project_files = files if project.folder == "." else files.directory(project.folder)
    place = SOURCE if project.folder == "." else f"{SOURCE}/{project.folder}"
    first = project_files
    if not project.has_workspaces:  # a changed source file installs nothing anew
        first = client.directory().with_directory(
            ".", project_files, include=["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"]
        )
    container = container.with_directory(place, first).with_workdir(place)
    container = container.with_exec(["npm", "ci" if project.has_lock else "install"])
    container = container.without_mount("/root/.npm")  # what a test wrote there would be installed later
    return container.with_directory(SOURCE, files)


def node_version(project: NodeProject) -> str:
    """Return the Node to use: what the project asks for; for Node's own runner one that writes reports."""
    least = FIRST_WITH_JUNIT if project.runner == "node" else 0
    return str(max(int(project.version), least)) if project.version else "lts"


def node_command(project: NodeProject) -> list[str]:
    """Return what runs the tests and leaves `/reports/junit.xml`.

    The script `test` is kept to where it is one command, so that its options and variables count.
    """
    if project.runner == "node":
        reports = [
            *("--test-reporter=spec", "--test-reporter-destination=stdout"),
            *("--test-reporter=junit", f"--test-reporter-destination={JUNIT}"),
        ]
        words = list(project.words) if project.words[:1] == ("node",) else ["node", "--test"]
        at = words.index("--test") + 1  # what stands after a file is for that file
        return [*words[:at], *reports, *words[at:]]
    start = ["npm", "test", "--"] if project.words else ["npx", "--no-install", project.runner]
    coverage = ["sh", "-c", ALSO_COVERAGE, "sh"] if project.has_coverage else []
    return [*coverage, *start, *_options(project)]


def _options(project: NodeProject) -> list[str]:
    """Return what makes a runner run once and leave its reports."""
    if project.runner == "mocha":
        return ["--reporter", "xunit", "--reporter-option", f"output={JUNIT}"]
    if project.runner == "jest":
        measured = ["--coverage", "--coverageReporters=cobertura", f"--coverageDirectory={COVERAGE}"]
        reports = ["--reporters=default", f"--reporters={TOOLS}/node_modules/jest-junit"]
        return [*reports, *measured] if project.has_coverage else reports
    measured = [
        *("--coverage.enabled", "--coverage.reporter=cobertura"),
        f"--coverage.reportsDirectory={COVERAGE}",
    ]
    reports = ["--run", "--reporter=default", "--reporter=junit", f"--outputFile.junit={JUNIT}"]
    return [*reports, *measured] if project.has_coverage else reports
